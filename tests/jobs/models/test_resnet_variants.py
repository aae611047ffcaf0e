"""ResNet-A, -B, -C and -D against timm, against torchvision with its strides moved, and by hand."""

from itertools import pairwise

import pytest
import timm
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torchvision import models

from jobs.models import ModelSpec, ResNet
from jobs.randomness import seed_global
from jobs.spec import JobSpec
from jobs.specfile import SpecError, read


def filled(network: nn.Module, seed: str) -> nn.Module:
    """The network in float64 with a BatchNorm that is nowhere the identity."""
    seed_global(seed)
    for name, tensor in network.double().state_dict().items():
        if "running" in name or "bn" in name or "downsample.2" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return network


def copied(theirs: nn.Module, ours: nn.Module) -> nn.Module:
    ours = ours.double().train(theirs.training)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    return ours


THEIRS = [
    ("B", 18, "resnet18"),
    ("B", 50, "resnet50"),
    ("C", 50, "resnet50c"),
    ("D", 18, "resnet18d"),
    ("D", 50, "resnet50d"),
    ("D", 50, "resnet50d.gluon_in1k"),
]


@pytest.mark.parametrize(("variant", "depth", "name"), [*THEIRS, ("D", 34, "resnet34d"), ("D", 152, "resnet152d")])
def test_parameter_count_is_timms(variant: str, depth: int, name: str) -> None:
    with torch.device("meta"):
        ours = ResNet(depth=depth, variant=variant).build(1000, 3)
        theirs = timm.create_model(name, pretrained=False)
    assert [p.shape for p in ours.state_dict().values()] == [p.shape for p in theirs.state_dict().values()]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("variant", "depth", "name"), THEIRS)
def test_outputs_are_timms_for_the_same_weights(variant: str, depth: int, name: str, training: bool) -> None:
    theirs = filled(timm.create_model(name, pretrained=False, num_classes=7), name).train(training)
    ours = copied(theirs, ResNet(depth=depth, variant=variant).build(7, 3))
    x = torch.randn(2, 3, 65, 97, dtype=torch.float64)  # odd maps all the way down
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=1e-10, atol=1e-10)


def test_resnet50d_in_single_precision_at_225_pixels_is_timms() -> None:
    theirs = filled(timm.create_model("resnet50d", num_classes=7), "225").float().eval()
    ours = copied(theirs, ResNet(depth=50, variant="D").build(7, 3)).float()
    x = torch.randn(1, 3, 225, 225)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-3)


def test_variant_a_is_torchvisions_with_the_strides_moved_to_the_first_1x1() -> None:
    theirs = filled(models.resnet50(num_classes=7), "A").eval()
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    x = torch.randn(2, 3, 65, 97, dtype=torch.float64)
    with torch.no_grad():
        a, b = (copied(theirs, ResNet(depth=50, variant=variant).build(7, 3))(x) for variant in "AB")
        torch.testing.assert_close(a, theirs(x), rtol=1e-10, atol=1e-10)
        assert not torch.allclose(a, b, rtol=1e-3)


@pytest.mark.parametrize(("variant", "kernel"), [("A", (1, 1)), ("B", (3, 3)), ("C", (3, 3)), ("D", (3, 3))])
def test_where_bottlenecks_stride(variant: str, kernel: tuple[int, int]) -> None:
    blocks = ResNet(depth=50, variant=variant).build(2, 3).blocks
    strided = [m.kernel_size for b in blocks for m in b.branch if getattr(m, "stride", None) == (2, 2)]
    assert strided == [kernel] * 3
    convolutions = [m for b in blocks for m in b.shortcut.modules() if isinstance(m, nn.Conv2d)]
    assert [m.stride for m in convolutions] == [(1, 1)] * 4 if variant == "D" else [(1, 1)] + [(2, 2)] * 3


def test_average_of_an_odd_map_counts_its_pixels_only() -> None:
    network = ResNet(depth=8, width=1, variant="D").build(2, 1).eval()
    average = network.blocks[1].shortcut[0]
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert average(x).flatten().tolist() == [(0 + 1 + 3 + 4) / 4, (2 + 5) / 2, (6 + 7) / 2, 8.0]
    assert isinstance(network.blocks[0].shortcut, nn.Identity)


def test_projection_at_stride_1_averages_nothing() -> None:
    first = ResNet(depth=50, variant="D").build(2, 3).blocks[0].shortcut
    assert [type(module) for module in first] == [nn.Conv2d, nn.BatchNorm2d]
    assert [type(module) for module in ResNet(depth=18, variant="D").build(2, 3).blocks[2].shortcut] == [
        nn.AvgPool2d,
        nn.Conv2d,
        nn.BatchNorm2d,
    ]


@pytest.mark.parametrize("variant", ["C", "D"])
@pytest.mark.parametrize(("width", "stem"), [(None, [32, 32, 64]), (16, [8, 8, 16]), (5, [3, 3, 5]), (1, [1, 1, 1])])
def test_channels_of_the_deep_stem(variant: str, width: int | None, stem: list[int]) -> None:
    network = ResNet(depth=18, width=width, variant=variant).build(2, 4)
    convolutions = [m for m in network.stem if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == stem
    assert [m.in_channels for m in convolutions] == [4, *stem[:2]]
    assert [m.stride[0] for m in convolutions] == [2, 1, 1]
    assert [type(m) for m in network.stem] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3 + [nn.MaxPool2d]


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("variant", ["A", "B", "C", "D"])
@pytest.mark.parametrize(("size", "last"), [(225, 8), (224, 7), (33, 2)])
def test_every_variant_takes_odd_sizes(depth: int, variant: str, size: int, last: int) -> None:
    network = ResNet(depth=depth, width=4, variant=variant).build(5, 3)
    with torch.no_grad():
        features = network.blocks(network.stem(torch.randn(1, 3, size, size)))
    assert features.shape[2:] == (last, last)


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 56, 110, 18, 34, 50, 101, 152])
def test_every_depth_builds_in_every_variant_that_it_has(depth: int) -> None:
    with torch.device("meta"):
        counts = {
            variant: sum(p.numel() for p in ResNet(depth=depth, width=8, variant=variant).build(5, 3).parameters())
            for variant in ("A", "B", "D")
        }
    assert counts["A"] == counts["B"]
    if depth in (18, 34, 50, 101, 152):
        stem = {"B": (3 * 8 * 49 + 2 * 8), "D": (3 * 4 + 4 * 4 + 4 * 8) * 9 + 2 * (4 + 4 + 8)}
        assert counts["D"] - counts["B"] == stem["D"] - stem["B"]
    else:
        assert counts["D"] == counts["B"]


@pytest.mark.parametrize("depth", [20, 18])
def test_a_is_b_in_basic_blocks(depth: int) -> None:
    networks = []
    for variant in "AB":
        seed_global("basic")
        networks.append(ResNet(depth=depth, width=4, variant=variant).build(3, 3))
    x = torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        first, second = (network(x) for network in networks)
    assert torch.equal(first, second)
    assert all(str(a) == str(b) for a, b in pairwise(networks))


@pytest.mark.parametrize("depth", [8, 20, 110])
def test_c_is_refused_where_the_stem_is_small(depth: int) -> None:
    with pytest.raises(ValidationError, match=rf"variant C replaces the 7x7 stem .* depth {depth} has a 3x3 stem"):
        ResNet(depth=depth, variant="C")


def test_a_spec_file_is_told_so_too(tmp_path) -> None:
    text = "name: x\nmodel: {kind: resnet, depth: 20, variant: C}\nepochs: 1\nbatch_size: 2\n"
    path = tmp_path / "x.yaml"
    path.write_text(text + "data: {kind: digits}\noptimizer: {kind: sgd, lr: 0.1}\n")
    with pytest.raises(SpecError, match=r"x\.yaml:2:\d+: .*variant C replaces the 7x7 stem"):
        read(path, JobSpec)


def test_a_spec_without_a_variant_is_b() -> None:
    old = {"kind": "resnet", "depth": 50, "width": None}
    assert TypeAdapter(ModelSpec).validate_python(old) == ResNet(depth=50, variant="B", zero_gamma=False, drop_path=0.0)
