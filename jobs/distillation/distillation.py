"""Knowledge distillation (Hinton et al., arXiv 1503.02531): the student also learns from a trained teacher.

``loss = hard_weight * CE(y, z) + weight * T^2 KL(softmax(r / T) || softmax(z / T))`` for student logits z, teacher
logits r and temperature T. With both weights 1 this is the loss of arXiv 1812.01187, whose cross-entropy form has the
same gradient but carries the teacher's entropy, ``T^2 H(softmax(r / T))``, along as a constant in the thousands.

The teacher is frozen, in eval mode, and sees the student's very tensor (mixed, erased), brought to its own
normalisation. Smoothing and mixing touch the hard term only. Its logits are rounded to fp16, so that a cache returns
what was computed, bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from jobs.base import Spec
from jobs.distillation.teacher import TeacherSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from jobs.batch import At
    from jobs.data.sets import Data
    from jobs.models import LoadedModel


class Store(Protocol):
    """Keeps a teacher's logits, fp16 ``(N, K)`` on the device, by their place in the run."""

    def read(self, at: At) -> torch.Tensor | None:
        """What is stored there; None where nothing is."""
        ...

    def write(self, at: At, logits: torch.Tensor) -> None:
        """Store them there."""
        ...


class Taught(Protocol):
    """What is known of a teacher: see ``jobs.models.LoadedModel``."""

    @property
    def channels(self) -> int:
        """1 or 3."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        ...


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """``T^2 KL(softmax(r / T) || softmax(z / T))``, averaged over the batch, in float32 or wider.

    Args:
        student: logits z, ``(N, K)``.
        teacher: logits r, ``(N, K)``.
        temperature: T.
    """
    import torch

    from jobs.losses.loss import at_least_fp32

    student = at_least_fp32(student)
    log_p = (teacher.to(student.dtype) / temperature).log_softmax(1)
    log_q = (student / temperature).log_softmax(1)
    return torch.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


class Distillation(Spec):
    """Learn from a teacher as well as from the labels."""

    teacher: TeacherSpec
    """The trained network that the student imitates."""
    temperature: float = Field(4.0, ge=0.1, le=100)
    """T: how much both distributions are softened; above about 6 the loss hardly changes."""
    weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the distillation term."""
    hard_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the loss on the labels."""

    def build(
        self, teacher: LoadedModel, data: Data, prepare: Callable[[Any], Any], store: Store | None = None
    ) -> Distiller:
        """The term, ready to be called.

        Args:
            teacher: as ``jobs.models.load`` gives it.
            data: what the student is trained on.
            prepare: brings a network to the run's device, dtype and layout.
            store: logits that are known already, and where new ones are kept.

        Raises:
            ValueError: the teacher has other classes, or takes images of other channels.
        """
        return Distiller(self, teacher, data, prepare, store)

    def check(self, teacher: Taught, data: Data) -> None:
        """Refuse a teacher that cannot teach this.

        Raises:
            ValueError: it has other classes or another order of them, or takes images of other channels.
        """
        if teacher.channels != data.channels:
            raise ValueError(
                f"the teacher takes images of {teacher.channels} channels, the student of {data.channels}; "
                f"set data.channels to {teacher.channels}, or take another teacher"
            )
        mine, theirs = tuple(data.classes), tuple(teacher.classes)
        if len(mine) != len(theirs):
            raise ValueError(f"the teacher has {len(theirs)} classes, the data has {len(mine)}; take another teacher")
        if self.teacher.check_classes and mine != theirs:
            at = next(k for k, names in enumerate(zip(mine, theirs, strict=True)) if names[0] != names[1])
            raise ValueError(
                f"class {at} is {mine[at]!r} in the data, but {theirs[at]!r} to the teacher: its logits would be read "
                "in the wrong order. If only the names differ, set distillation.teacher.check_classes: false"
            )


class Distiller:
    """Calls the teacher; ``distiller(logits, x, at)`` is the unweighted term.

    Args:
        spec, teacher, data, prepare, store: see :meth:`Distillation.build`.
    """

    def __init__(
        self,
        spec: Distillation,
        teacher: LoadedModel,
        data: Data,
        prepare: Callable[[Any], Any],
        store: Store | None = None,
    ) -> None:
        import torch

        from jobs.models.fold import fold

        self.spec, self.store = spec, store
        spec.check(teacher, data)
        self.network = prepare(fold(teacher.network.requires_grad_(False).eval()))
        weight = next(self.network.parameters())
        ours, theirs = (
            tuple(torch.tensor(row, dtype=torch.float64).view(1, -1, 1, 1) for row in (of.mean, of.std))
            for of in (data, teacher)
        )
        self._same = (data.mean, data.std) == (tuple(teacher.mean), tuple(teacher.std))
        self._scale = (ours[1] / theirs[1]).to(weight.device, weight.dtype)
        self._shift = ((ours[0] - theirs[0]) / theirs[1]).to(weight.device, weight.dtype)

    def logits(self, x: torch.Tensor, at: At) -> torch.Tensor:
        """The teacher's logits of a batch of the student's: fp16 ``(N, K)``.

        Args:
            x: the student's input ``(N, C, H, W)``, by the student's normalisation.
            at: where the run is; identifies the batch in the store.
        """
        import torch

        if self.store is not None and (known := self.store.read(at)) is not None:
            return known
        with torch.no_grad():
            answer: torch.Tensor = self.network(x if self._same else x * self._scale + self._shift)
            answer = answer.to(torch.float16).contiguous()
        if self.store is not None:
            self.store.write(at, answer)
        return answer

    def __call__(self, logits: torch.Tensor, x: torch.Tensor, at: At) -> torch.Tensor:
        """The term, a scalar.

        Args:
            logits: the student's, ``(N, K)``.
            x: its input.
            at: where the run is.
        """
        return distillation_loss(logits, self.logits(x, at), self.spec.temperature)
