"""Whatever people have: each case is read right, or refused with words that say what it is and what to do."""

from __future__ import annotations

import io
import os
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.data import ImageFolder, Parquet, PathTable
from jobs.data.source import Source
from jobs.names import printable
from jobs.predict import image_files

CLASSES, EACH, SECONDS = ("ant", "bee"), 5, 20


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1]).astype(np.uint8))


def colour(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8))


def bomb(side: int) -> bytes:
    """A PNG that says that it is so large, and has no more than a row."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(colour(), "JPEG", exif=exif)


PNG, JPEG = encoded(colour()), encoded(colour(), "JPEG")
FRAMES = {"save_all": True, "append_images": [colour(2), colour(3)]}
FILES: dict[str, tuple[bytes, str]] = {
    "PNG": (PNG, ""),
    "JPEG": (JPEG, ""),
    "progressive JPEG": (encoded(colour(), "JPEG", progressive=True), ""),
    "WebP": (encoded(colour(), "WEBP"), ""),
    "BMP": (encoded(colour(), "BMP"), ""),
    "TIFF": (encoded(colour(), "TIFF"), ""),
    "TIFF of many pages": (encoded(colour(), "TIFF", **FRAMES), ""),
    "PPM": (encoded(colour(), "PPM"), ""),
    "PGM": (encoded(grey(1), "PPM"), ""),
    "MPO, two pictures of a phone": (encoded(colour(), "MPO", **FRAMES), ""),
    "animated GIF": (encoded(colour(), "GIF", **FRAMES), ""),
    "animated WebP": (encoded(colour(), "WEBP", **FRAMES), ""),
    "animated PNG": (encoded(colour(), "PNG", **FRAMES), ""),
    "turned by EXIF": (turned(), ""),
    "16 bits": (encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16))), ""),
    "CMYK": (encoded(colour().convert("CMYK"), "JPEG"), ""),
    "YCbCr in TIFF": (encoded(colour().convert("YCbCr"), "TIFF"), ""),
    "LAB": (encoded(colour().convert("LAB"), "TIFF"), ""),
    "palette": (encoded(colour().quantize(8)), ""),
    "transparent palette": (encoded(colour().quantize(8), transparency=0), ""),
    "grey with alpha": (encoded(grey(2).convert("LA")), ""),
    "alpha": (encoded(colour().convert("RGBA")), ""),
    "one bit": (encoded(grey(3).convert("1")), ""),
    "one pixel": (encoded(Image.new("RGB", (1, 1))), ""),
    "very wide": (encoded(Image.new("RGB", (5000, 1))), ""),
    "bytes after the end": (JPEG + b"trailing", ""),
    "an EPS in its EXIF": (encoded(colour(), "JPEG", exif=b"Exif\0\0%!PS-Adobe"), ""),
    "a text in its metadata": (encoded(colour(), "JPEG", comment=b"\x1b[31m\n" * 10), ""),
    "floating point": (encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "floating-point pixels"),
    "32 bits": (encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"), "32-bit pixels"),
    "zero bytes": (b"", "zero bytes"),
    "truncated JPEG": (JPEG[: len(JPEG) * 2 // 3], "truncated"),
    "truncated PNG": (PNG[: len(PNG) // 2], "truncated|broken"),
    "a PNG's head": (PNG[:20], "not an image|truncated|Error"),
    "a flipped byte": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "broken|Error"),
    "noise": (np.random.default_rng(0).bytes(500), "not an image"),
    "bomb": (bomb(30_000), "decompression bomb"),
    "large, and cut": (bomb(11_000), "truncated|broken|Error"),
    "text": (b"hello", "not an image"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS .*convert it to JPEG or PNG"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG .*convert it to JPEG or PNG"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC .*convert it to JPEG or PNG"),
    "PDF": (b"%PDF-1.7\n", "PDF .*convert"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "web page.*fetch the image again"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "zip": (b"PK\x03\x04" + bytes(30), "archive; unpack it"),
    "NumPy": (b"\x93NUMPY\x01\0", "NumPy array"),
    "an icon": (encoded(colour(), "ICO"), "icon"),
    "Photoshop": (b"8BPS\0\x01" + bytes(30), "Photoshop"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(30), "video; take its frames out"),
}
NAMES = (
    *(
        "with space",
        "new\nline",
        "tab\t",
        "quote'",
        'double"',
        "<b>markup</b>",
        "100%",
        "%s%d",
        "what?",
        "a#b",
        "[red]",
    ),
    *(
        "{x}",
        "-dash",
        "--help",
        "$HOME",
        "`id`",
        "a;b",
        "a&b",
        "a|b",
        "*",
        "~",
        "=SUM(A1)",
        "日本語",
        "emoji 👩‍🔬",
        "\x1b[31m",
    ),
    *("caf\u00e9", "cafe\u0301", "\u202etxt", "back\\slash", "x" * 200, "null", "true", "1e5", "007", "a:b", "a..."),
    *("\udcff\udcfe",),
)


def folder(root: Path, classes: tuple[str, ...] = CLASSES, extension: str = "png") -> Path:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(EACH):
            (root / name / f"{number}.{extension}").write_bytes(encoded(grey(100 * label + number)))
    return root


def table(text: str) -> Callable[[Path], Source]:
    def make(root: Path) -> Source:
        folder(root)
        (root / "t.csv").write_text(text, encoding="utf-8", newline="")
        return PathTable(train=str(root / "t.csv"))

    return make


def parquet(**columns: Any) -> Callable[[Path], Source]:
    def make(root: Path) -> Source:
        root.mkdir()
        given = {"image": [encoded(grey(number)) for number in range(2 * EACH)], "label": [0, 1] * EACH, **columns}
        pq.write_table(pa.table(given), root / "p.parquet")
        return Parquet(train=str(root / "p.parquet"))

    return make


def beside(change: Callable[[Path], Any]) -> Callable[[Path], Source]:
    def make(root: Path) -> Source:
        change(folder(root))
        return ImageFolder(root=str(root))

    return make


LINES = "".join(f"{name}/{number}.png,{name}\n" for name in CLASSES for number in range(EACH))
REST: dict[str, tuple[Callable[[Path], Source], str]] = {
    "a pipe": (beside(lambda root: os.mkfifo(root / "ant" / "x.png")), ""),
    "a device": (beside(lambda root: (root / "ant" / "x.png").symlink_to("/dev/zero")), ""),
    "a random device": (beside(lambda root: (root / "ant" / "x.png").symlink_to("/dev/urandom")), ""),
    "a circle": (beside(lambda root: (root / "ant" / "x").symlink_to(root)), ""),
    "a class that links to itself": (beside(lambda root: (root / "x").symlink_to("x")), ""),
    "a link to itself": (beside(lambda root: (root / "ant" / "x").symlink_to("x")), ""),
    "a link to nowhere": (beside(lambda root: (root / "ant" / "x.png").symlink_to("gone")), "No such file"),
    "a circle of images": (beside(lambda root: (root / "ant" / "x.png").symlink_to("x.png")), "symbolic links"),
    "a folder like an image": (beside(lambda root: (root / "ant" / "x.png").mkdir()), ""),
    "a hidden class": (beside(lambda root: (root / ".git").mkdir()), ""),
    "an empty class": (beside(lambda root: (root / "cat").mkdir()), "cat has no images"),
    "a deep folder": (beside(lambda root: os.makedirs(root / "ant" / "/".join(["d"] * 500))), ""),
    "a table": (table("path,label\n" + LINES), ""),
    "a byte order mark": (table("\ufeffpath,label\n" + LINES), ""),
    "quotes": (table('"path" , "label"\n' + LINES.replace(",", ', "').replace("\n", '"\n')), "is a quote missing"),
    "a space and quotes": (table('path, "label"\n' + LINES.replace(",", ', "').replace("\n", '"\n')), ""),
    "no header": (table(LINES), "add a first line"),
    "a doubled column": (table("path,label,label\n" + LINES.replace("\n", ",x\n")), "2 columns called 'label'"),
    "a missing value": (table("path,label\n" + LINES + "ant/1.png,\n"), "has no 'label'"),
    "a missing file": (table("path,label\n" + LINES + "ant/9.png,ant\n"), "9.png: No such file"),
    "missing files": (table("path,label\n" + LINES.replace("/", "/x/")), "none is there.*data.root"),
    "lists": (table("path;label\n" + re.sub(r",(\w+)", r";['\1', 'x']", LINES)), "an image has one class"),
    "gaps in numbers": (table("path,label\n" + LINES.replace(",ant", ",3").replace(",bee", ",17")), ""),
    "fractions": (table("path,label\n" + re.sub(r",\w+", ",0.25", LINES)), "no classes"),
    "a path to a pipe": (table("path,label\n" + LINES + "/dev/zero,ant\n"), "not a regular file"),
    "zero bytes in a table": (table("path,label\n\0\n"), "line 2|NUL|cannot be read|has 1 values"),
    "an empty table": (table(""), "has no column 'path'"),
    "parquet": (parquet(), ""),
    "parquet of names": (parquet(label=["ant", "bee"] * EACH), ""),
    "parquet with gaps in numbers": (parquet(label=[0, 2] * EACH), "number the classes without gaps"),
    "parquet without a label": (parquet(label=[0, None] * EACH), "is null"),
    "parquet of lists": (parquet(label=[[0], [1]] * EACH), "labels are whole numbers"),
    "parquet of fractions": (parquet(label=[0.0, 1.0] * EACH), "labels are whole numbers"),
    "parquet of paths": (parquet(image=["a.png"] * 2 * EACH), "kind: table reads them"),
    "parquet of other bytes": (parquet(image=[b"x"] * 2 * EACH), "cannot be read"),
}


def of_file(data: bytes) -> Callable[[Path], Source]:
    return beside(lambda root: (root / "bee" / "odd.png").write_bytes(data))


def of_name(name: str) -> Callable[[Path], Source]:
    def make(root: Path) -> Source:
        place = folder(root / f"r{name[:50]}", (name, "other"), f"{name[:9].strip('.')}.png")
        return ImageFolder(root=str(place))

    return make


CASES = {
    **{f"a file: {what}": (of_file(data), words) for what, (data, words) in FILES.items()},
    **{f"a name: {printable(name)[:20]}": (of_name(name), "") for name in NAMES},
    **REST,
}


def test_each_is_read_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(CASES) > 100
    wrong: list[str] = []
    for number, (what, (make, words)) in enumerate(CASES.items()):
        began, root = time.process_time(), tmp_path / f"{number}"
        home = tmp_path / f"h{number}" / (NAMES[number % len(NAMES)][:99] if number % 3 else "plain")
        monkeypatch.setenv("ORCHESTRATOR_HOME", os.fsdecode(os.fsencode(home)))
        try:
            source = make(root).model_copy(update={"size": 8, "channels": 3, "test_fraction": 0.3, "val_fraction": 0.4})
            data = source.open()
        except ValueError as error:
            told = str(error)
            if not words or not re.search(words, told, re.DOTALL | re.IGNORECASE):
                wrong.append(f"{what}: refused with {told[:300]!r}")
            if any(not letter.isprintable() and letter != "\n" for letter in told):
                wrong.append(f"{what}: a message that a terminal would act upon: {told!r}")
        else:
            if words:
                wrong.append(f"{what}: was read")
            if not all(note.isprintable() for note in data.notes):
                wrong.append(f"{what}: notes that a terminal would act upon: {data.notes!r}")
            if data.channels != 3 or len(data.train) + len(data.val) + len(data.test) < 2 * EACH:
                wrong.append(f"{what}: not all was read")
        if time.process_time() - began > SECONDS:
            wrong.append(f"{what}: took {time.process_time() - began:.0f} s")
        if root.is_dir():
            list(image_files([str(root)]))  # ends, whatever links and pipes there are
    assert not wrong, "\n".join(wrong)
