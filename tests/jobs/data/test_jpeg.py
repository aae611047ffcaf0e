"""JPEG without Pillow: its pixels to the last bit, and Pillow's own verdict wherever there is any doubt."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from jobs.data import jpeg
from jobs.data.decode import UnreadableError, decode, decoded, pixels, upright
from tests.jobs.data.conftest import encoded

PHOTOS = [Image.fromarray(photo) for photo in load_sample_images().images]
SIZES = [(500, 375), (33, 17), (1, 1), (15, 16), (257, 255)]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_pixels_are_pillows(mode: str, subsampling: str) -> None:
    chosen = {"subsampling": subsampling} if mode == "RGB" else {}
    for photo, size, quality, progressive in itertools.product(PHOTOS, SIZES, (10, 75, 100), (False, True)):
        data = encoded(photo.resize(size).convert(mode), "JPEG", quality=quality, progressive=progressive, **chosen)
        for channels in (1, 3):
            theirs = pixels(decode(data), channels)
            assert np.array_equal(decoded(data, channels, True).pixels, theirs)
            direct = jpeg.decode(data, channels)
            assert (direct is None) == (mode == "RGB" and channels == 1)  # Pillow's luma is its own
            assert direct is None or (np.array_equal(direct[0], theirs) and direct[1] == (1 if mode == "L" else 3))


@pytest.mark.parametrize("orientation", range(1, 10))
def test_it_is_turned_as_pillow_turns_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PHOTOS[0].resize((40, 30)), "JPEG", exif=exif)
    for wanted in (True, False):
        image = decode(data)
        stands = upright(image) if wanted else image
        found = decoded(data, 3, wanted)
        assert np.array_equal(found.pixels, pixels(stands, 3))
        assert found.turned == (wanted and 2 <= orientation <= 8)


def test_what_is_odd_is_left_to_pillow() -> None:
    photo = PHOTOS[0].resize((64, 48))
    whole = encoded(photo, "JPEG")
    cmyk = encoded(photo.convert("CMYK"), "JPEG")
    trailing = whole + b"trailing bytes"
    for data in (cmyk, encoded(photo, "PNG"), whole[:200], whole[:3]):
        assert jpeg.decode(data, 3) is None
    for data in (cmyk, trailing):
        assert np.array_equal(decoded(data, 3, True).pixels, pixels(decode(data), 3))
    for cut in (whole[: len(whole) // 2], whole[:200]):
        with pytest.raises(UnreadableError, match=r"(?i)truncated|broken|not an image"):
            decoded(cut, 3, True)


def test_a_bomb_is_refused_as_pillow_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PHOTOS[0].resize((64, 48)), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 // 2 - 1)
    with pytest.raises(UnreadableError, match="decompression bomb"):
        decoded(data, 3, True)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 8, 100])
def test_a_smaller_one_is_pillows_draft(most: int) -> None:
    scale = max(each for each in (1, 2, 4, 8) if each <= most)
    for size in ((501, 375), (96, 64), (17, 9)):
        data = encoded(PHOTOS[1].resize(size), "JPEG", quality=90)
        image = Image.open(io.BytesIO(data))
        expected = tuple(-(-side // scale) for side in size)
        image.draft("RGB", expected)
        found = jpeg.decode(data, 3, most)
        assert found is not None
        assert found[0].shape[1::-1] == expected
        if image.size == expected:
            assert np.array_equal(found[0], np.asarray(image))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("restarts", [0, 4])
def test_a_smaller_decoding_finds_the_same_damage(progressive: bool, subsampling: str, restarts: int) -> None:
    data = encoded(
        PHOTOS[0].resize((200, 150)),
        "JPEG",
        progressive=progressive,
        subsampling=subsampling,
        restart_marker_blocks=restarts,
    )
    draws, damaged = np.random.default_rng(0), 0
    for number in range(200):
        at, spoilt = int(draws.integers(2, len(data))), bytearray(data)
        if number % 4 == 0:
            del spoilt[at:]
        elif number % 4 == 1:
            del spoilt[at : at + 50]
        elif number % 4 == 2:
            spoilt[at:at] = draws.bytes(20)
        else:
            spoilt[at] ^= 1 << int(draws.integers(0, 8))
        whole = jpeg.decode(bytes(spoilt), 3)
        damaged += whole is None
        for most in (2, 4, 8):
            smaller = jpeg.decode(bytes(spoilt), 3, most)
            assert (smaller is None) == (whole is None)
            assert smaller is None or whole is None or smaller[1:] == whole[1:]
    assert 100 < damaged < 200
