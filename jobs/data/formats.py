"""Which files are read as images, and what the others are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

from PIL import features

_OPTIONAL = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", *filter(lambda name: features.check(_OPTIONAL[name]), _OPTIONAL))
"""Pillow's names of what is read, whatever a file is called. Of the others, EPS would start Ghostscript."""
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2")
)
_PICTURES = (".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".jxl", ".jfif", ".jpe")
"""Suffixes of photographs that are not read: of phones, of cameras, and of browsers (the last two are JPEG)."""
_CONVERT = "convert it to JPEG or PNG"
_BEGINNINGS = (
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg\b", f"an SVG drawing; {_CONVERT}"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", f"a HEIC image; {_CONVERT}"),
    (rb"....ftypavi[fs]", f"an AVIF image, which this build of Pillow cannot read; {_CONVERT}"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", f"an EPS or PostScript file; {_CONVERT}"),
    (rb"%PDF", f"a PDF file; {_CONVERT}"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", f"a JPEG XL image; {_CONVERT}"),
    (rb"8BPS", f"a Photoshop file; {_CONVERT}"),
    (rb".{128}DICM", f"a DICOM file; {_CONVERT}"),
    (rb"\x00\x00\x01\x00", f"an icon; {_CONVERT}"),
    (rb"....ftyp", "a video; take its frames out"),
    (rb"\s*<(!doctype )?html", "a web page, as a failed download leaves; fetch the image again"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"),
    (rb"PK\x03\x04|\x1f\x8b", "an archive; unpack it"),
    (rb"\x93NUMPY", f"a NumPy array; {_CONVERT}"),
)
_SHOWN = 5


def is_image(name: str) -> bool:
    """Whether a file's suffix is that of an image."""
    dot = name.rfind(".")
    # splitext takes a microsecond: it is asked only where what begins with the dot may be the whole name
    return name[dot:].lower() in SUFFIXES and (
        name[dot - 1 : dot] not in ("", ".", "/") or os.path.splitext(name)[1] != ""
    )


def recognise(data: bytes) -> str:
    """What data is that cannot be read as an image, with the cure."""
    if not data:
        return "zero bytes"
    for beginning, what in _BEGINNINGS:
        if re.match(beginning, data[:1024], re.DOTALL | re.IGNORECASE):
            return f"not an image that is read: it is {what}"
    return "not an image"


def to_convert(names: Iterable[str]) -> str:
    """How files that are passed over would be read, where there are photographs among them; else empty."""
    found = sum(name.lower().endswith(_PICTURES) for name in names)
    return f"; {found} of them are photographs: convert them to JPEG, or rename what is JPEG to .jpg" if found else ""


def suffixes(names: Iterable[str]) -> str:
    """The suffixes of files, with how many have each: ``.heic 12, .txt 3``."""
    counts = Counter(os.path.splitext(name)[1].lower() or "none" for name in names)
    shown = ", ".join(f"{suffix} {count}" for suffix, count in counts.most_common(_SHOWN))
    return shown + (", ..." if len(counts) > _SHOWN else "")
