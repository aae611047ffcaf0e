"""Where bytes become pixels: the only place that decodes, converts and sizes images.

Conversions, by Pillow's mode:

- grey: ``1``, ``L``, 16-bit (``I;16`` and its kin, and ``I`` where its values fit into 16 bits: 1/257, rounded).
- colour: every other one. Palettes are looked up; CMYK, YCbCr, LAB and HSV go through Pillow's own conversion to RGB.
- alpha (``LA``, ``RGBA``, ``PA``, a palette with a transparent entry): laid over white, as viewers show it.
- grey where 3 channels are wanted is repeated; colour where 1 is wanted becomes ITU-R 601 luma.

The first frame of an animation is read. :func:`upright` turns images as their EXIF says (as viewers and Hugging Face's
``datasets`` do, and torchvision does not). JPEG is decoded without Pillow, to the same pixels (``jobs.data.jpeg``).
Colour profiles are not applied. Truncated images are refused rather than padded, and so is what exceeds Pillow's limit
on decompression bombs (179 megapixels). Only the formats of ``jobs.data.formats`` are read, by libraries inside this
process.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from jobs.data import jpeg
from jobs.data.formats import FORMATS, recognise

warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images and odd metadata; what matters is an error

Pixels = NDArray[np.uint8]
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Turns that swap height and width."""
_FLOATS = "floating-point pixels have no defined range; convert the image to 8 or 16 bits"
_SAYS_TURN = ("exif", "xmp", "XML:com.adobe.xmp")
_RECOGNISED_BYTES = 1024
_ON_PIXELS: dict[Image.Transpose, Callable[[Pixels], Pixels]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda image: image[:, ::-1],
    Image.Transpose.ROTATE_180: lambda image: image[::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda image: image[::-1],
    Image.Transpose.TRANSPOSE: lambda image: image.swapaxes(0, 1),
    Image.Transpose.ROTATE_270: lambda image: image.swapaxes(0, 1)[:, ::-1],
    Image.Transpose.TRANSVERSE: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    Image.Transpose.ROTATE_90: lambda image: image.swapaxes(0, 1)[::-1],
}
"""The turns as views of pixels ``(h, w, channels)``."""


class DataError(ValueError):
    """Data that cannot be read; the message has the cure."""


class UnreadableError(DataError):
    """An image that cannot be turned into pixels; the message is the reason.

    Attributes:
        passing: whether the storage failed rather than the image, so that another try may succeed.
    """

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def decode(data: bytes) -> Image.Image:
    """The image that encoded ``data`` (JPEG, PNG, ...) holds, fully decoded.

    Raises:
        UnreadableError: it is empty, truncated, no image, or too large.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
    except Exception as error:  # Pillow's plugins raise whatever comes up inside them
        if isinstance(error, UnidentifiedImageError):
            raise UnreadableError(recognise(data)) from None
        raise UnreadableError(_reason(error)) from error
    return image


def header(file: IO[bytes], exif_orientation: bool) -> tuple[int, int, int]:
    """Height, width and own channels of the image that :func:`decoded` would make of a file, by its beginning alone.

    Raises:
        UnreadableError: it is empty, no image, or too large; whether the rest of it is sound is not looked at.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.mode == "F":
                raise UnreadableError(_FLOATS)
            return *sides(image, exif_orientation), native_channels(image)
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        file.seek(0)
        raise UnreadableError(recognise(file.read(_RECOGNISED_BYTES))) from None
    except Exception as error:  # see above
        raise UnreadableError(_reason(error)) from error


def sides(image: Image.Image, exif_orientation: bool = True) -> tuple[int, int]:
    """Height and width of an image that was opened and need not be decoded; those upright if so wanted."""
    says = exif_orientation and any(name in image.info for name in _SAYS_TURN)  # else Pillow would decode a PNG to look
    return (image.width, image.height) if says and turn(image) in SIDEWAYS else (image.height, image.width)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def turn(image: Image.Image) -> Image.Transpose | None:
    """How an image has to be turned to stand upright, by its EXIF; None where it does."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow's parser raises whatever comes up in it; damaged EXIF says nothing of the pixels
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says; itself where it stands upright. (Pillow turns TIFF files by itself.)"""
    needed = turn(image)
    if needed is None:
        return image
    turned = image.transpose(needed)
    for name in _SAYS_TURN:  # else it would be turned again
        turned.info.pop(name, None)
    return turned


@dataclass(frozen=True)
class Decoded:
    """An image as it is used.

    Attributes:
        pixels: uint8 ``(h, w, channels)``; perhaps a view with strides of its own.
        native_channels: 1 for a grey image, 3 for a colour one, before conversion.
        turned: whether it was turned as its EXIF says.
        shape: its own height and width, where the pixels may be fewer.
    """

    pixels: Pixels
    native_channels: int
    turned: bool
    shape: tuple[int, int]


def decoded(data: bytes, channels: int, exif_orientation: bool, most: int = 1) -> Decoded:
    """Encoded ``data`` as pixels, by the conversions above.

    Args:
        data: the file's bytes.
        channels: 1 or 3.
        exif_orientation: whether it is turned as its EXIF says.
        most: 1, or how many times smaller a JPEG may be, see :func:`jobs.data.jpeg.decode`.

    Raises:
        UnreadableError: there are no pixels to be had.
    """
    found = jpeg.decode(data, channels, most)
    if found is None:
        image = decode(data)
        stands = upright(image) if exif_orientation else image
        whole = pixels(stands, channels)
        return Decoded(whole, native_channels(image), stands is not image, (stands.height, stands.width))
    array, own, (height, width) = found
    needed = turn(Image.open(io.BytesIO(data), formats=FORMATS)) if exif_orientation and jpeg.says_turn(data) else None
    if needed is None:
        return Decoded(array, own, False, (height, width))
    shape = (width, height) if needed in SIDEWAYS else (height, width)
    return Decoded(_ON_PIXELS[needed](array), own, True, shape)


def native_channels(image: Image.Image) -> int:
    """1 for a grey image, 3 for a colour one."""
    return 1 if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16") else 3


def pixels(image: Image.Image, channels: int) -> Pixels:
    """The image as uint8 ``(h, w, channels)``, by the conversions above.

    Raises:
        UnreadableError: its pixels have no defined range (floating point, 32-bit).
    """
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    elif image.mode == "F":
        raise UnreadableError(_FLOATS)
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array.reshape(*array.shape[:2], channels)


def _from_16_bit(image: Image.Image) -> Image.Image:
    values: NDArray[Any] = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError(f"32-bit pixels from {values.min()} to {values.max()}; convert the image to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def fit(image: Pixels, size: int, crop_ratio: float = 1.0) -> Pixels:
    """The central square of an image ``(h, w, channels)``, as ``(size, size, channels)`` (bicubic, antialiased).

    Args:
        image: uint8.
        size: height and width of the result in pixels.
        crop_ratio: share of the shorter side that the square takes, to a whole number of pixels.
    """
    from jobs.augment.resample import resized

    height, width, _ = image.shape
    side = max(1, round(min(height, width) * crop_ratio))
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    return square if side == size else resized(square, (size, size), "bicubic").numpy()
