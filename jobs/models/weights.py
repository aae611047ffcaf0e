"""Where trained weights come from. Each kind ends as a folder before any worker starts (``jobs.models.finetune``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from annotated_types import Len
from pydantic import Field, PositiveFloat, PositiveInt

from jobs.base import Spec
from jobs.urls import absolute, is_url, local

if TYPE_CHECKING:
    from jobs.models.model import Model


class Weights(Spec):
    """What every kind of weights can be asked."""

    def absolute(self) -> Self:
        """The spec with absolute paths, so that it means the same in another directory."""
        return self


class StoredWeights(Weights):
    """A network that was trained here and kept: a run's ``model`` folder, or what ``jobs.models.save`` wrote."""

    kind: Literal["model"] = "model"
    path: str
    """Folder or fsspec URL."""

    def absolute(self) -> Self:
        """With an absolute path."""
        return self.model_copy(update={"path": absolute(self.path, "model.pretrained.path")})

    def folder(self, wanted: object) -> str:
        """The path itself."""
        return self.path


class RunWeights(Weights):
    """The network of a finished run."""

    kind: Literal["run"] = "run"
    run: str
    """Name of a run under ORCHESTRATOR_HOME, or the id of a run in MLflow."""

    def folder(self, wanted: object) -> str:
        """Not known here: runs are the orchestrator's, which replaces this by its folder."""
        raise ValueError(
            f"run {self.run!r} is known to the orchestrator alone; without it, give the run's model folder: "
            "{kind: model, path: ...}"
        )


class FileWeights(Weights):
    """Weights in a file, tensors named as the network itself names them."""

    kind: Literal["file"] = "file"
    path: str
    """A .safetensors file, or a .pth file, which is read with ``weights_only``; or its URL."""
    size: PositiveInt | None = None
    """Height and width in pixels of the images that the network was trained on; None takes the library's."""
    mean: Annotated[tuple[float, ...], Len(1, 3)] | None = None
    """Per-channel mean of pixels in 0 .. 1 that it was trained with; None takes the library's."""
    std: Annotated[tuple[PositiveFloat, ...], Len(1, 3)] | None = None
    """The same for the standard deviation."""

    def absolute(self) -> Self:
        """With an absolute path; a URL is left alone."""
        return self.model_copy(update={"path": absolute(self.path, "model.pretrained.path")})

    def folder(self, wanted: Model) -> str:
        """A folder of the cache with the tensors."""
        from jobs.data.remote import here
        from jobs.models.pretrained import keep_weights

        path = str(here(self.path, "model.pretrained.path")) if is_url(self.path) else local(self.path)
        return keep_weights(wanted, None, path, {"size": self.size, "mean": self.mean, "std": self.std})


class LibraryWeights(Weights):
    """The weights that torchvision or timm publishes for the network of that name; fetched where they are missing."""

    kind: Literal["library"] = "library"
    weights: str | None = None
    """torchvision's name of the weights (``torchvision.models.get_model_weights``), null its newest; timm's stand in
    the name of the network (``resnet50.a1_in1k``)."""

    def folder(self, wanted: Model) -> str:
        """A folder of the cache with the tensors."""
        from jobs.models.pretrained import keep_weights

        return keep_weights(wanted, self.weights, None, {})


WeightsSpec = Annotated[LibraryWeights | FileWeights | StoredWeights | RunWeights, Field(discriminator="kind")]
