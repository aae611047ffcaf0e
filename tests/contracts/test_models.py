"""Every kind of model keeps the contract of ``jobs.models.model``."""

from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from jobs.models import CNN, Model, ModelSpec, ResNet, Timm, Torchvision
from jobs.models.weights import FileWeights, LibraryWeights
from jobs.randomness import seed_global

EXAMPLES: list[Model] = [
    CNN(width=4),
    CNN(width=4, norm=False),
    ResNet(depth=8, width=4),
    ResNet(depth=18, width=8),
    ResNet(depth=50, width=8),
    ResNet(depth=50, width=8, variant="A"),
    ResNet(depth=50, width=8, variant="C", zero_gamma=True),
    ResNet(depth=50, width=1, variant="D", drop_path=0.999),
    ResNet(depth=8, width=4, variant="D", zero_gamma=True, drop_path=0.1),
    Timm(name="resnet10t"),
    Timm(name="resnet10t", pretrained=LibraryWeights(), freeze_epochs=3),
    Torchvision(name="resnet18", pretrained=FileWeights(path="x", size=8, mean=(0.5,), std=(0.1,))),
    Timm(name="vit_tiny_patch16_224", kwargs={"img_size": 32, "patch_size": 8, "depth": 2}),
    Timm(name="resnet10t", zero_gamma=True, kwargs={"drop_path_rate": 0.1}),
    Torchvision(name="mobilenet_v3_small"),
    Torchvision(name="resnet18", zero_gamma=True),
]
KINDS = get_args(get_args(ModelSpec)[0])
EXAMPLES += [kind() for kind in KINDS if kind not in map(type, EXAMPLES)]  # a new kind as it is by default
CASES = [(model, channels) for model in EXAMPLES for channels in (1, 3) if channels == 3 or model.kind != "torchvision"]
SIZE, CLASSES = 32, 7

each = pytest.mark.parametrize(
    ("model", "channels"),
    CASES,
    ids=[f"{model.kind}-{number}-{channels}" for number, (model, channels) in enumerate(CASES)],
)


def built(model: Model, channels: int) -> torch.nn.Module:
    seed_global("contract", 3)
    return model.build(CLASSES, channels)


def test_every_kind_has_an_example() -> None:
    assert {type(model) for model in EXAMPLES} == set(KINDS)


@each
def test_json_round_trip(model: Model, channels: int) -> None:
    assert TypeAdapter(ModelSpec).validate_json(model.model_dump_json()) == model


@each
def test_images_to_logits_and_gradients_to_every_parameter(model: Model, channels: int) -> None:
    network = built(model, channels).train()
    logits = network(torch.randn(6, channels, SIZE, SIZE))
    assert logits.shape == (6, CLASSES)
    assert logits.dtype == torch.float32
    cross_entropy(logits, torch.arange(6) % CLASSES).backward()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@each
def test_same_seed_same_weights(model: Model, channels: int) -> None:
    first, second = built(model, channels).state_dict(), built(model, channels).state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    seed_global("contract", 4)
    other = model.build(CLASSES, channels).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


@each
def test_weights_survive_safetensors(model: Model, channels: int, tmp_path) -> None:
    network = built(model, channels)
    x = torch.randn(4, channels, SIZE, SIZE)
    network(x)  # so that BatchNorm's statistics are not the initial ones
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, tmp_path / "x.safetensors")
    seed_global("contract", 4)
    again = model.build(CLASSES, channels)
    again.load_state_dict(load_file(tmp_path / "x.safetensors"))
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network.eval()(x))
