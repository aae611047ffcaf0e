"""The spec of a job: one field a slot. Read it as the table of contents of this package."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from jobs.augment import AugmentSpec
from jobs.base import Spec
from jobs.batch import BatchSpec, LabelSmoothing, Mixing, fit_shares
from jobs.data import DataSpec
from jobs.distillation import Distillation
from jobs.ema import EMA
from jobs.losses import BCE, CrossEntropy, LossSpec
from jobs.models import ModelSpec
from jobs.optimizers import OptimizerSpec
from jobs.paths import PathOrUrl
from jobs.resources import Elastic as Elastic
from jobs.resources import Resources
from jobs.sam import SAM
from jobs.schedules import ScheduleSpec
from jobs.steps import Steps
from jobs.swa import SWA


def _each_kind_once(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    kinds = [entry.kind for entry in entries]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(f"each kind may appear once, but {', '.join(twice)} appears more often")
    return entries


class Seeds(Spec):
    """Where all randomness comes from; see ``jobs.randomness``."""

    init: NonNegativeInt = 0
    """Seed of the initial weights."""
    data: NonNegativeInt = 0
    """Seed of sample order, augmentation, batch tricks and dropout."""


class EarlyStopping(Spec):
    """Stop when the metric of ``select`` on the validation split has not improved for a while."""

    patience_epochs: PositiveInt
    """Epochs without an improvement after which the run stops."""
    min_delta: float = Field(0.0, ge=0, lt=1)
    """Smallest rise of validation top-1 (a fraction) that counts as an improvement."""


class Budget(Spec):
    """Limits on what a run may cost."""

    hours: PositiveFloat | None = None
    """Hours of training, over all resumptions, after which the run ends cleanly with what it has; None sets no
    limit."""


class Checkpoints(Spec):
    """When a run saves checkpoints, and where."""

    every_epochs: PositiveInt = 1
    """Epochs between checkpoints at epoch ends."""
    every_steps: PositiveInt | None = None
    """Updates between checkpoints inside epochs; None saves at epoch ends only."""
    keep: int = Field(2, gt=0, le=1_000_000)
    """Number of newest checkpoints that are kept."""
    storage: PathOrUrl | None = None
    """Folder or URL (``s3://bucket/folder``) that all nodes reach, for the checkpoints and models of runs; None is
    ORCHESTRATOR_HOME, which nodes must share then."""


class Evaluation(Spec):
    """How the validation and test splits are scored."""

    every_epochs: PositiveInt = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: PositiveInt = 500
    """Images in one forward pass of a worker."""
    flip: bool = False
    """Average the logits of every image and its mirror image (test-time augmentation); twice the work. State it beside
    the result."""


class Tracking(Spec):
    """Where the run is recorded in MLflow."""

    uri: str | None = None
    """MLflow tracking URI; None is the SQLite store under ORCHESTRATOR_HOME, or MLFLOW_TRACKING_URI where that
    is set."""
    experiment: str = "default"
    """MLflow experiment that the run belongs to."""


Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]


class JobSpec(Spec):
    """One training run of an image classifier."""

    elsewhere: ClassVar[str] = (
        "is it a search? those are for: orchestrator search plan FILE, orchestrator search launch FILE"
    )

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")
    """Name of the job; the name of a run is this and the time it started."""
    data: DataSpec
    """The images, and how they are split."""
    model: ModelSpec
    """The network."""
    augment: Annotated[tuple[AugmentSpec, ...], AfterValidator(_each_kind_once)] = ()
    """Augmentations of single images, applied in order."""
    repeats: PositiveInt = 1
    """How often each image of a global batch is in it, every time with an augmentation of its own (repeated
    augmentation, arXiv 1901.09335); an epoch has as many updates as without, and shows that share of the images."""
    batch: Annotated[tuple[BatchSpec, ...], AfterValidator(_each_kind_once), AfterValidator(fit_shares)] = ()
    """Tricks on whole batches of images and soft targets, applied in order."""
    loss: LossSpec = CrossEntropy()
    """Loss between the logits and the soft targets."""
    distillation: Distillation | None = None
    """Learning from a teacher as well as from the labels; null trains without one."""
    optimizer: OptimizerSpec
    """How weights are updated, at which base learning rate and with which weight decay."""
    schedule: ScheduleSpec = ScheduleSpec()
    """How the learning rate changes over the run."""
    epochs: int = Field(gt=0, le=1_000_000)
    """Passes over the training split."""
    batch_size: PositiveInt
    """The global batch: images in one update, over all workers and accumulation steps."""
    accumulation: PositiveInt = 1
    """Forward and backward passes a worker makes for one update, each on a part of the batch that is mixed and
    normalised by itself; BatchNorm's momentum counts updates, not parts."""
    precision: Precision = "auto"
    """Arithmetic of the forward and backward passes; weights stay fp32 under bf16 and fp16 (arXiv 1710.03740). auto:
    bf16 where the processor has it."""
    channels_last: Literal["auto"] | bool = "auto"
    """Memory layout NHWC (true) or NCHW (false). auto: NHWC where it is known to be faster."""
    compile: Literal["auto"] | bool = False
    """Compile the network with ``torch.compile``. auto: the launcher times a few updates with and without, once for a
    job or search, and compiles where that is faster; without a launcher, false."""
    deterministic: bool = False
    """Refuse nondeterministic CUDA kernels, so that equal runs are bit-identical on a GPU too (slower)."""
    ema: EMA | None = None
    """Exponential moving average of the weights; null trains without."""
    swa: SWA | None = None
    """The mean of the last epochs' weights, in place of ``ema``; null trains without it."""
    sam: SAM | None = None
    """Sharpness-aware minimisation, which takes twice the time; null trains without it."""
    seed: Seeds = Seeds()
    """Seeds of the run."""
    evaluation: Evaluation = Evaluation()
    """How the validation and test splits are scored."""
    select: Literal["last", "best"] = "last"
    """Which weights are the result: those of the last epoch, or of the epoch with the best validation top-1, which is
    also the result where training diverges after it."""
    early_stopping: EarlyStopping | None = None
    """When to stop for lack of improvement; null never does."""
    budget: Budget = Budget()
    """Limits on what the run may cost."""
    checkpoint: Checkpoints = Checkpoints()
    """When the run saves checkpoints, and where."""
    resources: Resources = Resources()
    """Workers and hardware."""
    tracking: Tracking = Tracking()
    """Where the run is recorded in MLflow."""

    @property
    def parts(self) -> int:
        """Pieces that a global batch is cut into: workers x accumulation."""
        return self.resources.most * self.accumulation

    @property
    def resizes(self) -> bool:
        """Whether an augmentation cuts the images that are trained on from the originals."""
        return bool(self.augment) and self.augment[0].resizes

    @property
    def sizes(self) -> list[int]:
        """Numbers of workers that may train it, the largest first: those that divide ``parts``."""
        need = self.resources
        return [size for size in range(need.most, need.fewest - 1, -1) if self.parts % size == 0]

    def steps(self, samples: int) -> Steps:
        """Its updates on a training split of ``samples`` images.

        Raises:
            jobs.steps.UnfitError: there are fewer images than one global batch.
        """
        return Steps.of(samples, self.batch_size, self.parts, self.epochs)

    def lr_at(self, update: int, steps: Steps) -> float:
        """The learning rate of an update, counted from 1."""
        swa = self.swa
        if swa is not None and swa.lr is not None and update > (self.epochs - swa.epochs) * steps.per_epoch:
            return swa.lr
        return self.optimizer.rate(self.batch_size) * self.schedule(update, steps.total, steps.per_epoch)

    def trained_by(self, workers: int) -> Self:
        """The job with that many workers, one of ``sizes``: accumulation replaces those that are missing."""
        resources = self.resources.model_copy(update={"workers": workers})
        return self.model_copy(update={"resources": resources, "accumulation": self.parts // workers})

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch_size % self.parts:
            nearest = max(1, round(self.batch_size / self.parts)) * self.parts
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by {self.resources.most} workers x "
                f"{self.accumulation} accumulation = {self.parts} parts; the nearest that does is {nearest}"
            )
        return self

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} must be less than epochs {self.epochs}, or "
                "the warmup does not end; lower it, or raise epochs"
            )
        return self

    @model_validator(mode="after")
    def _averages(self) -> Self:
        if self.swa is not None and self.ema is not None:
            raise ValueError("swa and ema both say which average is scored and kept; leave one of them out")
        if self.swa is not None and self.swa.epochs > self.epochs:
            raise ValueError(f"swa.epochs {self.swa.epochs} must be at most epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _repeats(self) -> Self:
        if self.repeats > 1 and self.data.balanced_sampling:
            raise ValueError("repeats and data.balanced_sampling both say which images an epoch shows; leave one out")
        if self.repeats > self.batch_size:
            raise ValueError(f"repeats {self.repeats} must be at most batch_size {self.batch_size}")
        return self

    @model_validator(mode="after")
    def _thaws(self) -> Self:
        if self.model.freeze_epochs >= self.epochs:
            raise ValueError(
                f"model.freeze_epochs {self.model.freeze_epochs} must be less than epochs {self.epochs}, "
                "or the body never learns; lower it, or raise epochs"
            )
        return self

    @model_validator(mode="after")
    def _targets_of_bce(self) -> Self:
        soft = [trick.kind for trick in self.batch if isinstance(trick, Mixing | LabelSmoothing)]
        if isinstance(self.loss, BCE) and soft and not self.loss.says_targets:
            raise ValueError(
                f"batch.{soft[0]} makes targets between 0 and 1, which binary cross-entropy can take in two ways: set "
                "loss.soft_targets: true to take them as they are, or loss.target_threshold to round them"
            )
        return self

    @model_validator(mode="after")
    def _resizing_first(self) -> Self:
        late = [trick.kind for trick in self.augment[1:] if trick.resizes]
        if late:
            raise ValueError(f"augment.{late[0]} takes images of any size, so it must stand first in augment")
        return self
