"""The union of model specs: which networks a job can name."""

from typing import Annotated

from pydantic import Field

from jobs.models.cnn import CNN
from jobs.models.resnet import ResNet
from jobs.models.timm import Timm
from jobs.models.torchvision import Torchvision

ModelSpec = Annotated[CNN | ResNet | Timm | Torchvision, Field(discriminator="kind")]
