"""Predictions for any number of image files, in order, with a few batches in memory."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.data.ahead import ahead
from jobs.data.decode import Pixels, UnreadableError, decoded, fit
from jobs.data.files import opened
from jobs.data.listing import images_below
from jobs.models import LoadedModel
from jobs.scoring import Arithmetic
from jobs.urls import is_url

BATCH, CPU_BATCH = 128, 32
"""Images that a GPU, or a CPU, computes at a time; more than these leave a CPU's caches."""
_AHEAD = 256


@dataclass(frozen=True)
class Prediction:
    """What a model says of a file.

    Attributes:
        file: its path, as it was given.
        probabilities: float32 ``(K,)``; None where the file cannot be read.
        error: why it cannot.
    """

    file: str
    probabilities: NDArray[np.float32] | None
    error: str = ""


def image_files(paths: Sequence[str], passed_over: Callable[[str], None] = lambda path: None) -> Iterator[str]:
    """The files that are meant, in the order of their paths.

    Args:
        paths: files (of any suffix), folders (all images below them) and globs.
        passed_over: called with the path of what is left out, see :func:`jobs.data.listing.images_below`.

    Raises:
        ValueError: one of them is not there; before the first file is given.
    """
    meant: set[str] = set()
    for path in map(os.path.expanduser, paths):
        found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
        if not found and is_url(path):
            raise ValueError(f"{path}: predict reads files on this machine; fetch them, or give a mounted folder")
        if not found:
            raise ValueError(f"{path} is no file, no folder, and as a glob it matches nothing; check the path")
        meant.update(os.path.normpath(one) for one in found)
    # what lies in a folder that is given too comes with it
    inner = {path for path in meant if any(path.startswith(os.path.join(other, "")) for other in _parents(path, meant))}
    ordered = sorted(meant - inner, key=lambda path: path.split(os.sep))
    return itertools.chain.from_iterable(
        images_below(path, passed_over) if os.path.isdir(path) else [path] for path in ordered
    )


def predict(model: LoadedModel, files: Iterator[str], device: torch.device) -> Iterator[Prediction]:
    """Class probabilities for each file, in their order, with the preprocessing that is stored with the model.

    Threads read, decode and fit the images, which wait for the device in batches; memory does not grow with the number
    of files.

    Args:
        model: it is moved to the device.
        files: paths; each is read once.
        device: where to compute.
    """
    channels_last = Arithmetic.of(model).channels_last  # as it was trained, which is what is fast
    model.network.to(device)
    if channels_last:
        model.network.to(memory_format=torch.channels_last)
    fitted = ahead(lambda path: (path, *_fitted(model, path)), files, _AHEAD)
    while several := list(itertools.islice(fitted, CPU_BATCH if device.type == "cpu" else BATCH)):
        images = [image for _, image, _ in several if image is not None]
        probabilities = iter(_probabilities(model, np.stack(images), device, channels_last) if images else ())
        for path, image, error in several:
            yield Prediction(path, None if image is None else next(probabilities), error)


def _fitted(model: LoadedModel, path: str) -> tuple[Pixels | None, str]:
    try:
        with opened(path) as file:
            image = decoded(file.read(), model.channels, model.exif_orientation)
        return fit(image.pixels, model.size, model.crop_ratio), ""
    except UnreadableError as error:
        return None, str(error)
    except OSError as error:
        return None, error.strerror or str(error)


def _probabilities(
    model: LoadedModel, images: Pixels, device: torch.device, channels_last: bool
) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits = model.logits(torch.from_numpy(images).to(device), channels_last)
        found: NDArray[np.float32] = logits.softmax(1).float().cpu().numpy()
    return found


def _parents(path: str, meant: set[str]) -> list[str]:
    """Those of the paths that are folders above ``path``."""
    above = itertools.accumulate(path.split(os.sep)[:-1], lambda one, other: f"{one}{os.sep}{other}")
    return [folder for folder in above if folder in meant]
