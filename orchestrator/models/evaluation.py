"""A trained model judged on labelled images: exact metrics, by class, calibration, and the figures, in a folder."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.names import few
from jobs.paths import paths
from jobs.urls import absolute, is_url, local
from orchestrator.models import lookup
from orchestrator.models.figures import Pair, confused_pairs, reliability
from orchestrator.runs import figures
from orchestrator.runs.fonts import lettering

if TYPE_CHECKING:
    from jobs.data.labelled import Labelled
    from jobs.models import LoadedModel
    from jobs.scoring import Judgement

METRICS = "metrics.json"
SPLITS = ("test", "val")
_PAIRS, _IMAGES = 6, 6
_LISTED = 1000


@dataclass(frozen=True)
class Evaluation:
    """How a model did.

    Attributes:
        run: what the model is called.
        data: what it was judged on.
        metrics: ``loss``, ``top1``, ``top5`` (of more than five classes), ``balanced_accuracy`` and ``ece``.
        count: images judged.
        classes: of each class its ``name``, its images (``count``), those predicted as it (``predicted``), ``recall``
            and ``precision``; these are None where there is nothing to divide by.
        skipped: images that cannot be read, and why.
        notes: what a person should know of how the data was read.
        recorded: what the run recorded of the same images; empty where these are others.
        folder: where metrics and figures were written.
    """

    run: str
    data: str
    metrics: Mapping[str, float]
    count: int
    classes: Sequence[Mapping[str, Any]]
    skipped: Sequence[str]
    notes: Sequence[str]
    recorded: Mapping[str, float] = field(default_factory=dict)
    folder: Path = Path()


def evaluate(
    run: str,
    data: str,
    output: str | Path | None = None,
    max_corrupt: int = 0,
    columns: tuple[str | None, str | None] = (None, None),
) -> Evaluation:
    """Judge a trained model with the preprocessing and the arithmetic that are stored with it.

    Args:
        run: name of a run, its id in MLflow, or a folder; see :func:`orchestrator.models.lookup.find`.
        data: ``test`` or ``val`` for the run's own splits, or a path; see :func:`jobs.data.labelled.open_labelled`.
        output: folder for metrics and figures; None makes one below the run's.
        max_corrupt: number of unreadable images that may be left out.
        columns: of Parquet files and tables: that of the images or their paths, and that of the labels; None takes
            those of the run's own data, or ``image`` or ``path``, and ``label``.

    Raises:
        ValueError: there is no such model, or its classes and the data do not fit.
    """
    found = lookup.find(run)
    from jobs.data.labelled import open_labelled
    from jobs.models import load
    from jobs.place import Place
    from jobs.scoring import Arithmetic, judge

    model = load(found.model)
    arithmetic, place = Arithmetic.of(model), Place.current()
    own = data in SPLITS
    labelled = (
        _own(found, data, model) if own else open_labelled(data, model, max_corrupt, _columns(found, data, columns))
    )
    judgement = judge(model, labelled.split, arithmetic, place.device)
    scores = judgement.scores
    metrics = {name.partition("/")[2]: value for name, value in scores.metrics("x").items()}
    metrics["ece"] = judgement.calibration.ece
    known = model.meta.get("metrics", {}) if data == "test" else {}
    stem = data if own else re.sub(r"[^\w.-]+", "-", Path(data).expanduser().absolute().name)
    folder = Path(output) if output else found.output / "evaluations" / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    result = Evaluation(
        run=found.name,
        data=data if own else absolute(data, "--data"),
        metrics=metrics,
        count=scores.count,
        classes=_by_class(model.classes, judgement),
        skipped=labelled.skipped,
        notes=[*labelled.notes, *([] if own else _seen(found, data, labelled)), *lettering(tuple(model.classes)).notes],
        recorded={name.partition("/")[2]: value for name, value in known.items()},
        folder=folder.absolute(),
    )
    pairs = _pairs(model, labelled, judgement)
    how = {"device": place.device.type, **vars(arithmetic), "model_sha256": model.meta["sha256"]}
    _write(result, judgement, pairs, labelled, how)
    return result


def _own(found: lookup.Found, split: str, model: LoadedModel) -> Labelled:
    """A split of the run's own data.

    Raises:
        ValueError: it is not known, or no longer what it was.
    """
    from jobs.data.identity import OtherDataError, check_same
    from jobs.data.labelled import Labelled, Names
    from jobs.data.packed import Packed
    from jobs.data.streamed import Streamed

    data = found.spec().data.model_copy(update={"in_memory": False}).open()  # streamed images have names
    kept = {name: value for name, value in found.data().items() if name != "classes"}
    try:
        check_same(kept, data)
    except OtherDataError:
        raise ValueError(
            f"the data of {found.name} has changed since it was trained (digest {data.digest[:12]}, then "
            f"{kept['digest'][:12]}), so its {split} split may hold images that it was trained on; give the "
            "path of labelled images that it was not"
        ) from None
    if data.classes != model.classes:
        raise ValueError(
            f"the data of {found.name} has the classes {few(data.classes)}, but its model counts {few(model.classes)}; "
            "one of them was changed since: put it back, or give the path of labelled images"
        )
    chosen = data.test if split == "test" else data.val
    chosen = chosen.images if isinstance(chosen, Packed) else chosen
    assert isinstance(chosen, Streamed)
    return Labelled(chosen, Names(chosen.store, chosen.index), notes=data.notes)


def _seen(found: lookup.Found, path: str, labelled: Labelled) -> list[str]:
    """A note on images that the model was trained on, where these are among the files of its own data."""
    from jobs.data.labelled import Names
    from jobs.data.listing import is_within
    from jobs.data.packed import Packed
    from jobs.data.streamed import Streamed

    try:
        source = found.spec().data
    except ValueError:
        return []  # a model alone
    own = [os.path.realpath(local(each.value)) for each in paths(source) if not is_url(each.value)]
    here = os.path.realpath(local(path))
    if is_url(path) or not any(is_within(here, place) or is_within(place, here) for place in own):
        return []
    try:
        train = source.model_copy(update={"in_memory": False}).open().train
    except ValueError as error:
        return [f"whether {found.name} was trained on some of these images is not known: {error}"]
    train = train.images if isinstance(train, Packed) else train
    assert isinstance(train, Streamed)
    known = set(Names(train.store, train.index))
    count = sum(name in known for name in labelled.names)
    told = (
        f"{count:,} of these {len(labelled.names):,} images are of the train split of {found.name}: the model has seen "
        "them, so the scores flatter it; its own test split is --data test"
    )
    return [told] if count else []


def _columns(found: lookup.Found, data: str, given: tuple[str | None, str | None]) -> tuple[str | None, str | None]:
    """Those of Parquet files and tables: as given, or as in the run's own data where these are of the same kind."""
    from jobs.data import Parquet, PathTable, Shards

    try:
        source = found.spec().data
    except ValueError:
        return given
    if isinstance(source, Parquet) and not data.lower().endswith((".csv", ".tsv", ".txt")):
        return given[0] or source.image_column, given[1] or source.label_column
    if isinstance(source, Shards) and data.lower().endswith(".tar"):
        return given[0], given[1] or source.label_column
    if isinstance(source, PathTable) and os.path.isfile(os.path.expanduser(data)):
        return given[0] or source.path_column, given[1] or source.label_column
    return given


def _by_class(names: Sequence[str], judgement: Judgement) -> list[dict[str, Any]]:
    rows = zip(names, judgement.seen, judgement.predicted, judgement.scores.recall, judgement.precision, strict=True)
    return [
        {
            "name": name,
            "count": int(seen),
            "predicted": int(predicted),
            "recall": _number(float(recall)),
            "precision": _number(float(precision)),
        }
        for name, seen, predicted, recall, precision in rows
    ]


def _pairs(model: LoadedModel, labelled: Labelled, judgement: Judgement) -> list[Pair]:
    """The pairs of classes that are confused most often, with the images of which the model was surest."""
    import numpy as np

    from jobs.scoring import fitted

    wrong, size = judgement.wrong, len(model.classes)
    cells, counts = np.unique(wrong[:, 1] * size + wrong[:, 2], return_counts=True)
    pairs = []
    for cell in np.argsort(-counts, kind="stable")[:_PAIRS]:
        true, predicted = divmod(int(cells[cell]), size)
        these = np.flatnonzero((wrong[:, 1] == true) & (wrong[:, 2] == predicted))
        surest = these[np.argsort(-judgement.confidence[these], kind="stable")][:_IMAGES]
        images = [fitted(model, labelled.split, int(index)) for index in wrong[surest, 0]]
        count, of = int(counts[cell]), int(judgement.seen[true])
        confidence = judgement.confidence[surest].tolist()
        pairs.append(Pair(model.classes[true], model.classes[predicted], count, of, images, confidence))
    return pairs


def _write(
    result: Evaluation, judgement: Judgement, pairs: Sequence[Pair], labelled: Labelled, how: Mapping[str, Any]
) -> None:
    """Metrics and figures into the folder of the evaluation."""
    names = [str(row["name"]) for row in result.classes]
    drawn = {"reliability": reliability(judgement.calibration), "confused_pairs": confused_pairs(pairs, names)}
    confusion = judgement.scores.confusion
    if confusion is not None:
        drawn["confusion_matrix"] = figures.confusion_matrix(confusion, names)
    result.folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(result.folder / f"{name}.png", dpi=130)
    lettering(tuple(names)).write_legend(result.folder)
    bins = judgement.calibration
    surest = sorted(range(len(judgement.wrong)), key=lambda place: -judgement.confidence[place])[:_LISTED]
    told = {
        "run": result.run,
        "data": result.data,
        "count": result.count,
        "metrics": result.metrics,
        "recorded": result.recorded,
        "classes": result.classes,
        "calibration": {
            "bins": len(bins.counts),
            "counts": bins.counts.tolist(),
            "confidence_sums": bins.confidences.tolist(),
            "right": bins.right.tolist(),
        },
        "confusion": None if confusion is None else confusion.tolist(),
        "wrong": [
            {
                "image": labelled.names[int(judgement.wrong[place, 0])],
                "true": names[judgement.wrong[place, 1]],
                "predicted": names[judgement.wrong[place, 2]],
                "probability": float(judgement.confidence[place]),
            }
            for place in surest
        ],
        "skipped": list(result.skipped),
        "notes": list(result.notes),
        "how": how,
    }
    (result.folder / METRICS).write_text(json.dumps(told, indent=2, allow_nan=False), encoding="utf-8")


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
