"""From image files to crops of uint8 pixels, as others do it: torchvision, timm, ``datasets``, webdataset."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

Act = Callable[[], object]
"""One pass over some files, in this process."""


def others(files: list[str], size: int, tar: Path) -> dict[str, Act | None]:
    """The paths by name; None where what they need is not installed.

    Args:
        files: image files.
        size: height and width of the crops.
        tar: is made, of the same files.
    """
    from torchvision import transforms

    cut = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    pil = transforms.Compose([*cut, transforms.PILToTensor()])
    policy = transforms.Compose([*cut, transforms.RandAugment(), transforms.PILToTensor()])
    return {
        "torchvision, PIL": lambda: [pil(_read(path)) for path in files],
        "torchvision, PIL, RandAugment": lambda: [policy(_read(path)) for path in files],
        **_tensors(files, size),
        "Hugging Face datasets, streamed": _hugging_face(files, pil) if find_spec("datasets") else None,
        "webdataset": _webdataset(files, pil, tar) if find_spec("webdataset") else None,
    }


def _read(path: str) -> Image.Image:
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def _tensors(files: list[str], size: int) -> dict[str, Act | None]:
    from timm.data import create_transform
    from torchvision.io import ImageReadMode, decode_image, read_file
    from torchvision.transforms import v2

    tensors = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    timms = create_transform(size, is_training=True, color_jitter=None, auto_augment=None, use_prefetcher=True)
    return {
        "torchvision v2, tensors": lambda: [
            tensors(decode_image(read_file(path), ImageReadMode.RGB)) for path in files
        ],
        "timm's transforms": lambda: [timms(_read(path)) for path in files],
    }


def _hugging_face(files: list[str], transform: Callable[[Image.Image], Any]) -> Act:
    """The images of a table of paths, decoded by its ``Image`` feature while it is read from the start to the end."""
    import datasets

    rows = datasets.Dataset.from_dict({"image": files}).cast_column("image", datasets.Image(mode="RGB"))
    stream = rows.to_iterable_dataset().map(lambda row: {"image": transform(row["image"])})
    return lambda: list(stream)


def _webdataset(files: list[str], transform: Callable[[Image.Image], Any], tar: Path) -> Act:
    """The images of one shard, decoded by Pillow, as its own ``decode("pilrgb")`` does for fewer formats."""
    import webdataset

    with tarfile.open(tar, "w") as shard:
        for number, path in enumerate(files):
            shard.add(path, f"{number:06}{Path(path).suffix}")
    suffix = Path(files[0]).suffix.removeprefix(".")

    def crop(sample: dict[str, bytes]) -> Any:
        return transform(Image.open(io.BytesIO(sample[suffix])).convert("RGB"))

    stream = webdataset.WebDataset(str(tar), shardshuffle=False).map(crop)
    return lambda: list(stream)
