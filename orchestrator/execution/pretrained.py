"""The weights that a network starts from, made a folder before any worker starts."""

from __future__ import annotations

from jobs.models.weights import RunWeights, StoredWeights
from jobs.spec import JobSpec
from orchestrator.runs import storage


def resolve(spec: JobSpec, resume: str | None = None) -> JobSpec:
    """The spec with its pretrained weights, if any, in a folder, and with the images as these want them.

    Args:
        spec: the job, with absolute paths.
        resume: the run that is resumed, if any. What it has a checkpoint of needs no weights any more: they
            may be gone.

    Raises:
        ValueError: the weights cannot be had, or are not of this network.
    """
    source = spec.model.pretrained
    if source is None:
        return spec
    from jobs.models import finetune

    try:
        if isinstance(source, RunWeights):
            folder = StoredWeights(path=str(_model_of(source.run)))
            spec = spec.model_copy(update={"model": spec.model.model_copy(update={"pretrained": folder})})
        return finetune.resolve(spec)
    except ValueError:
        if resume is not None and storage.has_checkpoint(resume):
            return spec
        raise


def _model_of(run: str) -> str:
    from orchestrator.models import lookup

    try:
        return str(lookup.find(run).model)
    except ValueError as error:
        raise ValueError(f"model.pretrained: {error}") from None


class Resolver:
    """Resolves the jobs of a search, each network and each sort of data once."""

    def __init__(self) -> None:
        self._known: dict[str, JobSpec] = {}

    def __call__(self, spec: JobSpec) -> JobSpec:
        """The job, as :func:`resolve` has it."""
        if spec.model.pretrained is None:
            return spec
        asked = spec.model.model_dump_json() + spec.data.model_dump_json()
        if asked not in self._known:
            self._known[asked] = resolve(spec)
        known = self._known[asked]
        return spec.model_copy(update={"model": known.model, "data": known.data})
