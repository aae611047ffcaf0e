"""Zero gamma: every fresh block is its shortcut, in our ResNet and in the libraries'; plain networks refuse it."""

import inspect

import pytest
import timm
import timm.models
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from jobs.models import CNN, Model, ResNet, Timm, Torchvision
from jobs.models.gamma import _LAST_NORM, last_norms
from jobs.randomness import seed_global


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("depth", "variant"), [(8, "B"), (8, "D"), (18, "C"), (50, "A"), (50, "D")])
def test_fresh_block_is_its_shortcut(depth: int, variant: str, training: bool) -> None:
    seed_global("gamma")
    network = ResNet(depth=depth, width=8, variant=variant, zero_gamma=True, drop_path=0.2).build(3, 3).train(training)
    x = network.stem(torch.randn(4, 3, 33, 33))
    with torch.no_grad():
        for block in network.blocks:
            expected = torch.relu(block.shortcut(x))
            assert torch.equal(block(x), expected)
            assert expected.std() > 0.01
            x = expected


def test_only_last_gammas_are_zero_and_all_else_is_as_without() -> None:
    networks = []
    for zero in (True, False):
        seed_global("else")
        networks.append(ResNet(depth=50, width=8, variant="D", zero_gamma=zero).build(3, 3))
    zeroed = {f"blocks.{number}.branch.7.weight" for number in range(16)}
    for (name, with_zero), without in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(with_zero, torch.zeros_like(without) if name in zeroed else without), name
        assert name not in zeroed or without.eq(1).all()


def test_last_gammas_learn_and_then_their_branches() -> None:
    network = ResNet(depth=8, width=4, zero_gamma=True).build(3, 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    for block in network.blocks:
        assert block.last_norm.weight.abs().max() > 0
        assert block.branch[0].weight.grad.abs().max() > 0


LIBRARY: list[tuple[type[Model], str, int]] = [
    (Torchvision, "resnet18", 33),
    (Torchvision, "resnext50_32x4d", 33),
    (Torchvision, "regnet_y_400mf", 64),
    (Timm, "resnet18d", 33),
    (Timm, "seresnet50", 33),
    (Timm, "res2net50_14w_8s", 33),
    (Timm, "resnest14d", 64),
    (Timm, "skresnet18", 33),
    (Timm, "regnetx_002", 33),
    (Timm, "regnetz_005", 64),
    (Timm, "tresnet_m", 64),
    (Timm, "cspresnet50", 64),
    (Timm, "cspdarknet53", 64),
    (Timm, "cs3edgenet_x", 64),
    (Timm, "gernet_s", 64),
    (Timm, "eca_botnext26ts_256", 256),
    (Timm, "resnet50_gn", 33),
]
BRANCHLESS = ("downsample", "shortcut", "proj")


def blocks(network: nn.Module, size: int) -> list[tuple[nn.Module, torch.Tensor]]:
    """The blocks that hold a last norm, each with an input that reaches it."""
    norms = {id(norm) for norm in last_norms(network)}
    found, inputs, handles = [], {}, []
    for module in network.modules():
        if f"{type(module).__module__}.{type(module).__name__}" in _LAST_NORM:
            if norms & {id(inner) for inner in module.modules()}:
                found.append(module)
            handles.append(module.register_forward_pre_hook(lambda m, x: inputs.update({m: x[0].clone()})))
    with torch.no_grad():
        network(torch.randn(2, 3, size, size))
    for handle in handles:
        handle.remove()
    assert len(found) == len(norms)
    return [(module, inputs[module]) for module in found]


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize(("kind", "name", "size"), LIBRARY)
def test_fresh_block_of_a_library_hears_nothing_of_its_branch(
    kind: type[Model], name: str, size: int, zero: bool
) -> None:
    seed_global("library")
    network = kind(name=name, zero_gamma=zero).build(3, 3).train()
    fresh = blocks(network, size)
    assert len(fresh) >= 4
    with torch.no_grad():
        for block, x in fresh:
            first = next(
                module
                for where, module in block.named_modules()
                if isinstance(module, nn.Conv2d) and not where.startswith(BRANCHLESS)
            )
            before = block(x.clone())
            first.weight.normal_()
            after = block(x.clone())
            assert torch.equal(before, after) == zero
            assert before.abs().sum() > 0  # the signal passes


@pytest.mark.parametrize(("kind", "name", "size"), LIBRARY)
def test_projections_keep_gamma_1_and_without_it_all_gammas_are_1(kind: type[Model], name: str, size: int) -> None:
    for zero in (True, False):
        network = kind(name=name, zero_gamma=zero).build(3, 3)
        last = {id(norm) for norm in last_norms(network)}
        for where, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                assert module.weight.eq(0 if zero and id(module) in last else 1).all(), where


@pytest.mark.parametrize("zero", [True, False])
def test_same_weights_as_the_libraries_own_zero_initialisation(zero: bool) -> None:
    pairs = [
        (
            Timm(name="resnet18", zero_gamma=zero),
            lambda: timm.create_model("resnet18", num_classes=3, zero_init_last=zero),
        ),
        (
            Timm(name="gernet_s", zero_gamma=zero),
            lambda: timm.create_model("gernet_s", num_classes=3, zero_init_last=zero),
        ),
        (
            Torchvision(name="resnet18", zero_gamma=zero),
            lambda: models.resnet18(num_classes=3, zero_init_residual=zero),
        ),
    ]
    for spec, create in pairs:
        seed_global("own")
        ours = spec.build(3, 3).state_dict()
        seed_global("own")
        theirs = create().state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), spec


def test_blocks_without_a_shortcut_keep_their_gamma() -> None:
    network = Timm(name="regnetz_005", zero_gamma=True).build(3, 3)
    bare = [module for module in network.modules() if getattr(module, "downsample", "") is None]
    assert bare
    assert all(module.conv3.bn.weight.eq(1).all() for module in bare)


def test_every_block_that_timm_can_zero_is_known() -> None:
    known = {name for name in _LAST_NORM if name.startswith("timm.") and "tresnet" not in name}
    can = set()
    for module in (vars(timm.models)[name] for name in timm.list_modules()):
        for cls in vars(module).values():
            block = inspect.isclass(cls) and issubclass(cls, nn.Module) and not hasattr(cls, "forward_features")
            if not block or cls.__module__ != module.__name__:
                continue
            initialise = getattr(cls, "init_weights", None)
            arguments = inspect.signature(initialise).parameters if initialise else {}
            if hasattr(cls, "zero_init_last") or "zero_init_last" in arguments:
                can.add(f"{cls.__module__}.{cls.__name__}")
    pre_activation = {"resnetv2.PreActBasic", "resnetv2.PreActBottleneck", "regnet.PreBottleneck"}
    sums_of_convolutions = {"byobnet.RepVggBlock"}
    assert can - known == {f"timm.models.{name}" for name in pre_activation | sums_of_convolutions}
    assert not known - can


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Torchvision, "vgg11_bn"),
        (Torchvision, "shufflenet_v2_x0_5"),
        (Timm, "mobilenetv1_100"),
        (Timm, "vit_tiny_patch16_224"),
        (Timm, "resnetv2_50"),
        (Timm, "repvgg_a0"),
    ],
)
def test_networks_without_such_blocks_refuse_it(kind: type[Model], name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} has no blocks .* would zero the signal itself; leave zero_gamma out"
    ):
        kind(name=name, zero_gamma=True).build(3, 3)


def test_plain_network_refuses_it_when_the_spec_is_read() -> None:
    with pytest.raises(ValidationError, match=r"kind cnn has no shortcuts, so a gamma of 0 would zero the signal"):
        CNN(zero_gamma=True)
    assert CNN(zero_gamma=False) == CNN()


@pytest.mark.parametrize(("kind", "name"), [(Torchvision, "zero_init_residual"), (Timm, "zero_init_last")])
@pytest.mark.parametrize("value", [True, False])
def test_the_libraries_own_switch_is_refused(kind: type[Model], name: str, value: bool) -> None:
    with pytest.raises(ValidationError, match=rf"{name} {value} cannot be given here: model\.zero_gamma says"):
        kind(name="resnet18", kwargs={name: value})
