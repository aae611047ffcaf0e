import io

import numpy as np
import pytest
import torchvision.transforms.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image

from jobs.data.decode import UnreadableError, decode, fit, native_channels, pixels
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
    assert np.array_equal(fit(square, 64), reference)


def test_fit_leaves_what_fits_and_enlarges_what_is_small(photo):
    square = np.ascontiguousarray(photo[:32, :32, :1])
    assert fit(square, 32) is square
    assert fit(square, 48).shape == (48, 48, 1)
    assert fit(photo[:1, :300], 8).shape == (8, 8, 3)
