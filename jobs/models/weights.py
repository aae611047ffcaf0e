"""Where trained weights come from; ``jobs.models.pretrained.materialize`` puts each kind into a folder."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Len
from pydantic import Field, PositiveFloat, PositiveInt

from jobs.base import Spec
from jobs.paths import PathOrUrl


class Weights(Spec):
    """The methods that every kind of weights has."""


class StoredWeights(Weights):
    """A network that was trained here and kept: a run's ``model`` folder, or what ``jobs.models.save`` wrote."""

    kind: Literal["model"] = "model"
    path: PathOrUrl
    """Folder or fsspec URL."""


class RunWeights(Weights):
    """The network of a finished run."""

    kind: Literal["run"] = "run"
    run: str
    """Name of a run under ORCHESTRATOR_HOME, or the id of a run in MLflow."""

    @property
    def unresolved(self) -> str:
        """The error where no orchestrator has replaced the run by its model folder."""
        return (
            f"run {self.run!r} is known to the orchestrator alone; without it, give the run's model folder: "
            "{kind: model, path: ...}"
        )


class FileWeights(Weights):
    """Weights in a file, tensors named as the network itself names them."""

    kind: Literal["file"] = "file"
    path: PathOrUrl
    """A .safetensors file, or a .pth file, which is read with ``weights_only``; or its URL."""
    size: PositiveInt | None = None
    """Height and width in pixels of the images that the network was trained on; None takes the library's."""
    mean: Annotated[tuple[float, ...], Len(1, 3)] | None = None
    """Per-channel mean of pixels in 0 .. 1 that it was trained with; None takes the library's."""
    std: Annotated[tuple[PositiveFloat, ...], Len(1, 3)] | None = None
    """The same for the standard deviation."""


class LibraryWeights(Weights):
    """The weights that torchvision or timm publishes for the network of that name; fetched where they are missing."""

    kind: Literal["library"] = "library"
    weights: str | None = None
    """torchvision's name of the weights (``torchvision.models.get_model_weights``), null its newest; timm's are part
    of the network's name (``resnet50.a1_in1k``)."""


WeightsSpec = Annotated[LibraryWeights | FileWeights | StoredWeights | RunWeights, Field(discriminator="kind")]
