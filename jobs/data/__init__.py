"""Sources of labelled images."""

from typing import Annotated

from pydantic import Field

from jobs.data.digits import Digits
from jobs.data.synthetic import Synthetic

DataSpec = Annotated[Digits | Synthetic, Field(discriminator="kind")]

__all__ = ["DataSpec", "Digits", "Synthetic"]
