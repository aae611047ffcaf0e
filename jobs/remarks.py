"""What a spec allows but hardly anybody intends: settings that lie beyond the run, and rates out of all proportion."""

from __future__ import annotations

from jobs.spec import JobSpec
from jobs.steps import Steps

_EFFECTS = {
    "at_epochs": "the learning rate does not drop there",
    "off_epochs": "the trick never acts",
    "patience_epochs": "the run never stops early",
    "copy_epochs": "the average is a copy of the weights to the end",
    "every": "the average never takes the weights in",
}
"""Last part of a field's name -> what happens if the run is no longer than its value."""
_CHECKED = ("epochs", "swa.epochs")
"""Names of epochs that the spec itself bounds."""
_HIGH_RATE, _LOW_RATE = 100.0, 1e-8


def remarks(spec: JobSpec, steps: Steps, size: int) -> list[str]:
    """What should be said of a job before it is started.

    Args:
        spec: the job.
        steps: its updates.
        size: height and width of its images in pixels.
    """
    found = _beyond(spec, steps)
    rate, hours = spec.optimizer.rate(spec.batch_size), spec.budget.hours
    if not _LOW_RATE <= rate <= _HIGH_RATE:
        found.append(f"optimizer: a learning rate of {rate:g} {'diverges' if rate > 1 else 'hardly moves the weights'}")
    if (shrink := rate * spec.optimizer.weight_decay) >= 1:
        found.append(f"optimizer: learning rate x weight decay is {shrink:g}; from 1 on, updates do not shrink weights")
    for trick in spec.augment:
        if trick.kind == "crop" and trick.padding >= size:
            found.append(f"augment.crop.padding {trick.padding} of images of {size} pixels: some crops are black")
    if hours is not None and hours * 3600 < 60:
        found.append(f"budget.hours {hours:g} is {hours * 3600:.2g} s: the run ends at once")
    return found


def _beyond(spec: JobSpec, steps: Steps) -> list[str]:
    """Fields that count epochs or updates, by their names, and are never reached."""
    found = []
    for name, value in spec.flatten().items():
        owner, last = ("", *name.split("."))[-2:]
        every = last.split("_")[0] == "every"
        if name in _CHECKED or not (every or last.endswith(("epochs", "steps"))):
            continue
        length, unit = (spec.epochs, "epochs") if last.endswith("epochs") else (steps.total, "updates")
        values = value if isinstance(value, list) else [value]
        numbers = [each for each in values if isinstance(each, int | float)]  # a network's own arguments may be text
        if beyond := [f"{each:g}" for each in numbers if each >= length + every]:
            effect = _EFFECTS.get(last, f"{owner} happens at the end only" if every else "it lasts longer than the run")
            found.append(f"{name} {', '.join(beyond)} of {length} {unit}: {effect}")
    return found
