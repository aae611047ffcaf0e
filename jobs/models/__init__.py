"""Networks, and trained ones kept in folders."""

from typing import Annotated

from pydantic import Field

from jobs.models.cnn import CNN
from jobs.models.model import Model
from jobs.models.resnet import ResNet
from jobs.models.stored import LoadedModel, load, save
from jobs.models.timm import Timm
from jobs.models.torchvision import Torchvision

ModelSpec = Annotated[CNN | ResNet | Timm | Torchvision, Field(discriminator="kind")]

__all__ = ["CNN", "LoadedModel", "Model", "ModelSpec", "ResNet", "Timm", "Torchvision", "load", "save"]
