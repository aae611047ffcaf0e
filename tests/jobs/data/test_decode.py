import io
import subprocess
import sys

import numpy as np
import pytest
import torchvision.transforms.functional as F
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from jobs.data.decode import UnreadableError, decode, fit, native_channels, pixels, upright
from tests.jobs.data.conftest import encoded


@pytest.fixture(scope="module")
def photo():
    return load_sample_image("china.jpg")


def through(image, kind="PNG", **options):
    return decode(encoded(image, kind, **options))


def test_lossless_colour_comes_back_bit_for_bit(photo):
    assert np.array_equal(pixels(through(Image.fromarray(photo)), 3), photo)


def test_grey_is_repeated_and_colour_becomes_luma(photo):
    grey = pixels(through(Image.fromarray(photo)), 1)
    expected = np.rint(photo @ np.array([0.299, 0.587, 0.114]))
    assert grey.shape == (*photo.shape[:2], 1)
    assert np.abs(grey[..., 0] - expected).max() <= 1
    again = through(Image.fromarray(grey[..., 0]))
    assert native_channels(again) == 1
    assert np.array_equal(pixels(again, 3), np.repeat(grey, 3, 2))


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.array([[0, 257, 128 * 257 + 100, 65535]], np.uint16)
    image = through(Image.fromarray(values))
    assert native_channels(image) == 1
    assert pixels(image, 1)[..., 0].tolist() == [[0, 1, 128, 255]]
    assert pixels(Image.fromarray(values.astype(np.int32)), 1)[..., 0].tolist() == [[0, 1, 128, 255]]


def test_pixels_without_a_range_are_refused():
    with pytest.raises(UnreadableError, match="floating-point"):
        pixels(through(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), 1)
    with pytest.raises(UnreadableError, match=r"from 0 to 70000"):
        pixels(Image.fromarray(np.array([[0, 70000]], np.int32)), 3)


def test_alpha_is_laid_over_white():
    rgba = np.array([[[255, 0, 0, 255], [9, 9, 9, 0], [0, 0, 0, 51]]], np.uint8)
    assert pixels(through(Image.fromarray(rgba)), 3).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    la = np.array([[[0, 255], [0, 0]]], np.uint8)
    image = through(Image.fromarray(la, "LA"))
    assert native_channels(image) == 1
    assert pixels(image, 1).tolist() == [[[0], [255]]]


def test_palettes_are_looked_up(photo):
    palette = Image.fromarray(photo).quantize(16)
    assert np.array_equal(pixels(through(palette), 3), np.asarray(palette.convert("RGB")))
    assert pixels(through(Image.new("P", (2, 2), 0), "GIF", transparency=0), 3).min() == 255


def test_bilevel_and_cmyk(photo):
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert pixels(through(bits), 1).tolist() == [[[0], [255]]]
    cmyk = through(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=95)
    assert cmyk.mode == "CMYK"
    assert np.abs(pixels(cmyk, 3).astype(int) - photo).mean() < 5


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "zero bytes"),
        (lambda data: b"<html>not found</html>", "not an image"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:3], "not an image"),
    ],
)
def test_damaged_jpegs_are_refused_with_the_reason(photo, damage, reason):
    with pytest.raises(UnreadableError, match=reason):
        decode(damage(encoded(Image.fromarray(photo), "JPEG")))


def test_damaged_pngs_are_refused(photo):
    data = bytearray(encoded(Image.fromarray(photo)))
    data[len(data) // 2] ^= 255
    with pytest.raises(UnreadableError):
        decode(bytes(data))


def test_decompression_bombs_are_refused():
    bomb = io.BytesIO()
    Image.new("1", (20000, 20000)).save(bomb, "PNG")
    with pytest.raises(UnreadableError, match="decompression bomb"):
        decode(bomb.getvalue())


def test_fit_is_resize_then_centre_crop(photo):
    sized = fit(photo, 64)
    image = F.resize(Image.fromarray(photo), 64, F.InterpolationMode.BICUBIC)
    reference = np.asarray(F.center_crop(image, [64, 64])).astype(int)
    assert sized.shape == (64, 64, 3)
    # the reference rounds the resized width and the crop's place to whole pixels
    assert np.abs(sized - reference).mean() < 6
    square = np.ascontiguousarray(photo[:400, :400])
    reference = np.asarray(F.resize(Image.fromarray(square), [64, 64], F.InterpolationMode.BICUBIC))
    difference = np.abs(fit(square, 64).astype(int) - reference)
    assert difference.max() <= 1 and difference.mean() < 0.01  # Pillow's weights have 22 bits, torch's 16


def test_fit_leaves_what_fits_and_enlarges_what_is_small(photo):
    square = np.ascontiguousarray(photo[:32, :32, :1])
    assert np.shares_memory(fit(square, 32), square) and np.array_equal(fit(square, 32), square)
    assert fit(square, 48).shape == (48, 48, 1)
    assert fit(photo[:1, :300], 8).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_images_are_turned_as_viewers_turn_them(photo, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(photo[:40, :60])
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(image, kind, exif=exif, **options)
    found = upright(decode(data))
    expected = ImageOps.exif_transpose(decode(data))
    assert np.array_equal(pixels(found, 3), pixels(expected, 3))
    assert found.size == ((40, 60) if orientation in (5, 6, 7, 8) else (60, 40))
    assert upright(found) is found, "it would be turned twice"


def test_damaged_exif_turns_nothing(photo):
    data = encoded(Image.fromarray(photo[:16, :16]), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\3")
    assert np.array_equal(pixels(upright(decode(data)), 3), pixels(decode(data), 3))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
OTHERS = {
    "EPS or PostScript": EPS,
    "EPS or PostScript ": b"\xc5\xd0\xd3\xc6\x1e\0\0\0" + bytes(22) + EPS,
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "SVG ": b"<svg/>",
    "video": b"\0\0\0\x20ftypisom" + bytes(99),
    "web page": b"\n<!DOCTYPE html><html>",
    "PDF": b"%PDF-1.7",
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "archive": b"PK\x03\x04" + bytes(40),
    "Photoshop": b"8BPS\0\1" + bytes(40),
    "DICOM": bytes(128) + b"DICM",
    "NumPy": b"\x93NUMPY\1\0",
    "JPEG XL": b"\xff\x0a" + bytes(20),
    "icon": b"\0\0\1\0\1\0",
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_files_are_named_and_start_no_program(what, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    monkeypatch.setattr("os.system", None)
    with pytest.raises(UnreadableError, match=what.strip()):
        decode(OTHERS[what])


def test_only_the_formats_of_the_list_are_read(photo):
    image = Image.fromarray(photo[:8, :8])
    for kind in ("ICO", "PCX", "TGA", "SGI", "DDS", "IM"):
        with pytest.raises(UnreadableError, match="not an image"):
            decode(encoded(image, kind))
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO"):
        assert decode(encoded(image, kind)).size == (8, 8)


def test_large_images_and_odd_metadata_print_no_warning():
    code = (
        "import io; from PIL import Image; from jobs.data.decode import decode\n"
        "b = io.BytesIO(); Image.new('1', (12000, 9000)).save(b, 'PNG'); print(decode(b.getvalue()).size)"
    )
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True)
    assert "(12000, 9000)" in done.stdout and not done.stderr
