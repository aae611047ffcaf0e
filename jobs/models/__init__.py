"""Networks, and trained ones kept in folders."""

from jobs.models.cnn import CNN
from jobs.models.model import Model
from jobs.models.resnet import ResNet
from jobs.models.spec import ModelSpec
from jobs.models.stored import LoadedModel, load, save
from jobs.models.timm import Timm
from jobs.models.torchvision import Torchvision

__all__ = ["CNN", "LoadedModel", "Model", "ModelSpec", "ResNet", "Timm", "Torchvision", "load", "save"]
