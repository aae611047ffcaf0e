"""A trained model in a folder: what is kept, what is checked, what is predicted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from jobs.models import CNN, LoadedModel, Model, ResNet, Timm, Torchvision, load, save
from jobs.randomness import seed_global

CLASSES = ("cat", "dog", "owl")
COLOUR = {"size": 16, "channels": 3, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
GREY = {"size": 8, "channels": 1, "mean": (0.3,), "std": (0.25,)}


def trained(model: Model, channels: int, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A network whose BatchNorm buffers are not the initial ones."""
    seed_global("stored", channels)
    network = model.build(len(CLASSES), channels).to(dtype)
    network(torch.randn(16, channels, 16, 16, dtype=dtype))
    return network


def stored(path: Path, model: Model, told: dict, dtype: torch.dtype = torch.float32, **extra) -> torch.nn.Module:
    network = trained(model, told["channels"], dtype)
    save(path, network, model.model_dump(mode="json"), CLASSES, told, extra)
    return network


def rewrite(path: Path, **changes) -> None:
    """Change model.json as a version would have written it that kept no checksum of it."""
    meta = json.loads((path / "model.json").read_text())
    meta.pop("json_sha256", None)
    (path / "model.json").write_text(json.dumps({**meta, **changes}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "model",
    [
        CNN(width=4),
        ResNet(depth=8, width=4),
        ResNet(depth=18, width=4, variant="D", zero_gamma=True, drop_path=0.5),
        Timm(name="resnet18", kwargs={"drop_rate": 0.5}),
        Timm(name="resnet18", zero_gamma=True),
        Torchvision(name="mnasnet0_5"),
    ],
)
def test_round_trip_is_exact(tmp_path: Path, model: Model, dtype: torch.dtype) -> None:
    network = stored(tmp_path / "new" / "model", model, COLOUR, dtype, metrics={"val/top1": 0.75})
    before = torch.get_rng_state()
    loaded = load(tmp_path / "new" / "model")
    assert torch.equal(before, torch.get_rng_state())
    assert sorted(path.name for path in (tmp_path / "new" / "model").iterdir()) == ["model.json", "model.safetensors"]
    assert not loaded.network.training
    for name, tensor in network.state_dict().items():
        again = loaded.network.state_dict()[name]
        assert again.dtype == tensor.dtype, name
        assert torch.equal(again, tensor), name
    x = torch.randn(4, 3, 16, 16, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), network.eval()(x))
    assert (loaded.classes, loaded.size, loaded.channels) == (CLASSES, 16, 3)
    assert (loaded.mean, loaded.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert loaded.meta["metrics"] == {"val/top1": 0.75}
    assert loaded.meta["model"] == model.model_dump(mode="json")


def test_channels_last_weights_are_stored_as_they_are(tmp_path: Path) -> None:
    model = CNN(width=4)
    network = trained(model, 3).to(memory_format=torch.channels_last)
    save(tmp_path, network, model.model_dump(mode="json"), CLASSES, COLOUR)
    assert torch.equal(load(tmp_path).network.state_dict()["0.weight"], network.state_dict()["0.weight"])


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    stored(tmp_path, CNN(width=4), GREY)
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors has sha256 [0-9a-f]{64}, but model\.json says .*damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], r"model\.json is damaged \(.*\); copy it again"),
        (lambda text: "", r"model\.json is damaged \(Expecting value"),
        (lambda text: "[]", r"model\.json is damaged: it holds no mapping"),
        (lambda text: "[" * 100_000, r"model\.json is damaged \(maximum recursion"),
        (lambda text: text.replace('"cat"', '"cow"'), r"model\.json does not match its checksum"),
        (
            lambda text: text.replace('"cat"', '"?"').replace('"dog"', '"cat"'),
            r"model\.json does not match its checksum",
        ),
        (lambda text: text.replace("0.4", "0.5"), r"model\.json does not match its checksum"),
    ],
)
def test_a_damaged_json_is_refused_with_its_path(tmp_path: Path, damage, words: str) -> None:
    stored(tmp_path, CNN(width=4), COLOUR)
    file = tmp_path / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text())))  # another layout is no damage
    load(tmp_path)
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    stored(tmp_path, CNN(width=4), GREY)
    rewrite(tmp_path, model={"kind": "cnn", "width": 5, "norm": True})
    with pytest.raises(
        ValueError, match=r"0\.weight has shape \(4, 1, 3, 3\) instead of \(5, 1, 3, 3\).* and \d+ more"
    ):
        load(tmp_path)
    rewrite(tmp_path, model={"kind": "cnn", "width": 4, "norm": False})
    with pytest.raises(ValueError, match=r"0\.bias is missing; "):
        load(tmp_path)


def test_missing_and_additional_tensors_are_named(tmp_path: Path) -> None:
    import hashlib

    stored(tmp_path, CNN(width=4), GREY)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["stray"] = tensors.pop("11.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    rewrite(tmp_path, sha256=hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"11\.bias is missing; stray is one too many$"):
        load(tmp_path)


def test_other_formats_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path)
    stored(tmp_path, CNN(width=4), GREY)
    rewrite(tmp_path, format=99)
    with pytest.raises(ValueError, match="has format 99, this version reads format 1"):
        load(tmp_path)


def test_save_refuses_what_load_could_not_use(tmp_path: Path) -> None:
    network, spec = trained(CNN(width=4), 1), CNN(width=4).model_dump(mode="json")
    with pytest.raises(ValueError, match="needs mean, std, which is not given"):
        save(tmp_path, network, spec, CLASSES, {"size": 8, "channels": 1})
    with pytest.raises(ValueError, match="needs the kind of its spec"):
        save(tmp_path, network, {"width": 4}, CLASSES, GREY)
    with pytest.raises(ValueError, match="extra may not use the names classes, sha256"):
        save(tmp_path, network, spec, CLASSES, GREY, {"sha256": "", "classes": []})
    assert not list(tmp_path.iterdir())


def expected(loaded: LoadedModel, pixels: np.ndarray) -> np.ndarray:
    """Probabilities from images of the right size, by another road: NumPy in double precision up to the network."""
    x = (pixels / 255 - np.array(loaded.mean)) / np.array(loaded.std)
    with torch.no_grad():
        logits = loaded.network(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()).double().numpy()
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


@pytest.mark.parametrize("told", [COLOUR, GREY])
def test_predict_of_an_array(tmp_path: Path, told: dict) -> None:
    stored(tmp_path, CNN(width=4), told)
    loaded = load(tmp_path)
    size, channels = told["size"], told["channels"]
    pixels = np.random.default_rng(0).integers(0, 256, (300, size, size, channels), dtype=np.uint8)
    got = loaded.predict(pixels)
    assert (got.shape, got.dtype) == ((300, 3), np.float32)
    np.testing.assert_allclose(got, expected(loaded, pixels), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-5)
    assert got.std(0).min() > 1e-4  # the images do not all look the same to it


def test_predict_of_images_of_any_size_and_mode(tmp_path: Path) -> None:
    stored(tmp_path, CNN(width=4), COLOUR)
    loaded = load(tmp_path)
    square = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    grey = np.random.default_rng(2).integers(0, 256, (16, 16), dtype=np.uint8)
    wide = np.zeros((16, 40, 3), np.uint8)
    wide[:, 12:28] = square
    images = [Image.fromarray(square), Image.fromarray(grey), Image.fromarray(wide), Image.new("RGB", (48, 64), "red")]
    same = np.stack([square, np.stack([grey] * 3, 2), square, np.tile(np.uint8([255, 0, 0]), (16, 16, 1))])
    np.testing.assert_allclose(loaded.predict(images), expected(loaded, same), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(loaded.predict(wide[None]), loaded.predict([Image.fromarray(wide)]))


def test_predict_of_nothing_and_of_the_wrong_thing(tmp_path: Path) -> None:
    stored(tmp_path, CNN(width=4), COLOUR)
    loaded = load(tmp_path)
    assert loaded.predict([]).shape == (0, 3)
    with pytest.raises(
        ValueError, match=r"uint8 of shape \(N, height, width, 3\), got float64 of shape \(2, 16, 16, 3\)"
    ):
        loaded.predict(np.zeros((2, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"got uint8 of shape \(2, 16, 16, 1\)"):
        loaded.predict(np.zeros((2, 16, 16, 1), np.uint8))
