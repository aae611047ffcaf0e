"""Sources of labelled images."""

from typing import Annotated

from pydantic import Field

from jobs.data.digits import Digits
from jobs.data.image_folder import ImageFolder
from jobs.data.parquet import Parquet
from jobs.data.shards.source import Shards
from jobs.data.synthetic import Synthetic
from jobs.data.table import PathTable
from jobs.data.torchvision import Torchvision

DataSpec = Annotated[
    Digits | ImageFolder | Parquet | PathTable | Shards | Synthetic | Torchvision, Field(discriminator="kind")
]

__all__ = ["DataSpec", "Digits", "ImageFolder", "Parquet", "PathTable", "Shards", "Synthetic", "Torchvision"]
