"""The teacher that a student learns from. Each kind of teacher ends as a folder that ``jobs.models.load`` reads."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Len
from pydantic import Field, JsonValue, PositiveFloat

from jobs.base import DOTTED
from jobs.models.weights import RunWeights, StoredWeights, Weights
from jobs.paths import LocalPath

if TYPE_CHECKING:
    from jobs.data.sets import Data
    from jobs.models.model import Model

Three = Annotated[tuple[float, ...], Len(3, 3)]


class Teacher(Weights):
    """The fields that every teacher has."""

    check_classes: bool = True
    """Refuse a teacher whose class names are not those of the data, in order; false trusts the order."""

    @abstractmethod
    def folder(self, data: Data) -> str:
        """The folder of the trained network, made first where it has to be.

        Args:
            data: what the student is trained on.

        Raises:
            ValueError: there is no such network, or it is not available here; the message has the cure.
        """


class StoredTeacher(StoredWeights, Teacher):
    """A network that was trained here and kept: a run's ``model`` folder, or what ``jobs.models.save`` wrote."""

    def folder(self, data: Data) -> str:
        """The path itself."""
        return self.path


class RunTeacher(RunWeights, Teacher):
    """The network of a finished run."""

    def folder(self, data: Data) -> str:
        """Not known here: runs are the orchestrator's, which replaces this by its folder."""
        raise ValueError(self.unresolved)


class JobTeacher(Teacher):
    """The network of another job, which is trained first, once, as a run of its own."""

    kind: Literal["job"] = "job"
    job: LocalPath
    """YAML file of the job; a relative path starts at the current folder."""
    set: Annotated[dict[str, JsonValue], DOTTED] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Changes to that job by dotted name, such as ``epochs: 30``."""

    def folder(self, data: Data) -> str:
        """Not known here: the orchestrator trains the job and replaces this by its folder."""
        raise ValueError(
            f"distillation.teacher: job {self.job!r} is trained by the orchestrator alone; without it, train it first "
            "and give the model's folder: {kind: model, path: ...}"
        )


class LibraryTeacher(Teacher):
    """What the pretrained networks of torchvision and timm share."""

    name: str
    """What the library calls the network."""
    file: LocalPath | None = None
    """Weights in a local file (.safetensors, or .pth read with ``weights_only``); None fetches the library's own."""
    mean: Three | None = None
    """Per-channel mean of pixels in 0 .. 1 that the network was trained with; None takes the library's, else
    ImageNet's."""
    std: Annotated[tuple[PositiveFloat, ...], Len(3, 3)] | None = None
    """The same for the standard deviation."""

    @abstractmethod
    def model(self) -> Model:
        """The spec of the network."""

    @abstractmethod
    def tag(self) -> str | None:
        """Which of the library's weights."""

    def folder(self, data: Data) -> str:
        """A folder of the cache with the network and its weights."""
        from jobs.models.pretrained import keep_pretrained

        return keep_pretrained(self.model(), self.tag(), self.file, self.mean, self.std, len(data.classes))


class TorchvisionTeacher(LibraryTeacher):
    """A pretrained network of torchvision."""

    kind: Literal["torchvision"] = "torchvision"
    weights: str = "DEFAULT"
    """Name of the weights (``torchvision.models.get_model_weights``)."""

    def model(self) -> Model:
        """The spec of the network."""
        from jobs.models import Torchvision

        return Torchvision(name=self.name)

    def tag(self) -> str | None:
        """Which of the library's weights."""
        return self.weights


class TimmTeacher(LibraryTeacher):
    """A pretrained network of timm, such as ``resnet152d.gluon_in1k``."""

    kind: Literal["timm"] = "timm"

    def model(self) -> Model:
        """The spec of the network."""
        from jobs.models import Timm

        return Timm(name=self.name)

    def tag(self) -> str | None:
        """It is part of the name."""
        return None


TeacherSpec = Annotated[
    StoredTeacher | RunTeacher | JobTeacher | TorchvisionTeacher | TimmTeacher, Field(discriminator="kind")
]
