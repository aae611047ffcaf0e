import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.jobs.augment.pictures import PHOTOS

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An ORCHESTRATOR_HOME of the test's own."""
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def cifar_rows(cifar10_parquet):
    """The first 400 rows of CIFAR-10's test split, as an Arrow table in the Hugging Face layout."""
    return pq.read_table(cifar10_parquet / "test.parquet").slice(0, 400).combine_chunks()


@pytest.fixture(scope="session")
def digit_pngs():
    """200 real digits as ``(class name, encoded PNG of 16x16 grey pixels)``."""
    raw = load_digits()
    images = np.rint(raw.images[:200] * (255 / 16)).astype(np.uint8)
    return [
        (f"digit {label}", encoded(Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)))
        for image, label in zip(images, raw.target[:200], strict=True)
    ]


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Photographs of many shapes, some turned by their EXIF, some smaller than what they are to be made."""
    root = tmp_path_factory.mktemp("photographs")
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, photo in zip(("china", "flower"), PHOTOS, strict=True):
        (root / name).mkdir()
        for number in range(80):
            image = Image.fromarray(photo.numpy()).crop(
                (number, number, number + 200 + 2 * number, number + 300 - number)
            )
            image = image.resize((30, 50)) if number % 9 == 0 else image
            kind = ".png" if number % 7 == 0 else ".jpg"
            exif = {"exif": turned} if number % 5 == 0 and kind == ".jpg" else {}
            image.save(root / name / f"{number:02}{kind}", **exif)
    return root


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def fill(folder, images, start=0):
    """Write ``(class name, bytes)`` as files ``class/0000.png``."""
    for number, (name, data) in enumerate(images, start):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{number:04d}.png").write_bytes(data)
    return folder


def with_columns(table, **columns):
    """The table with columns replaced, and its metadata kept."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, pa.field(name, values.type), values)
    return table
