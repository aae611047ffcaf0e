"""Networks."""

from typing import Annotated

from pydantic import Field

from jobs.models.cnn import CNN
from jobs.models.resnet import ResNet

ModelSpec = Annotated[CNN | ResNet, Field(discriminator="kind")]

__all__ = ["CNN", "ModelSpec", "ResNet"]
