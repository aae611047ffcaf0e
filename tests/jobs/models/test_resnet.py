"""Our ResNet against torchvision's (an independent implementation) and against parameters counted by hand."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision import models

from jobs.models import ResNet
from jobs.randomness import seed_global


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_parameter_count_and_shapes_are_torchvisions(depth: int) -> None:
    with torch.device("meta"):
        ours = ResNet(depth=depth).build(1000, 3)
        theirs = getattr(models, f"resnet{depth}")()
    assert parameters(ours) == parameters(theirs)
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in theirs.state_dict().values()]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("depth", "size"), [(18, 65), (50, 64), (101, 33)])
def test_outputs_are_torchvisions_for_the_same_weights(depth: int, size: int, training: bool) -> None:
    seed_global("outputs", depth)
    theirs = getattr(models, f"resnet{depth}")(num_classes=7).double().train(training)
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    ours = ResNet(depth=depth).build(7, 3).double().train(training)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 56, 110])
def test_small_family_has_as_many_layers_as_its_depth(depth: int) -> None:
    network = ResNet(depth=depth).build(10, 3)
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == depth
    assert len(network.blocks) == (depth - 2) // 2


def test_resnet20_parameters_counted_by_hand() -> None:
    stem = 3 * 16 * 9 + 2 * 16
    first = 3 * 2 * (16 * 16 * 9 + 2 * 16)
    second = (16 * 32 * 9 + 2 * 32) + 5 * (32 * 32 * 9 + 2 * 32) + (16 * 32 + 2 * 32)
    third = (32 * 64 * 9 + 2 * 64) + 5 * (64 * 64 * 9 + 2 * 64) + (32 * 64 + 2 * 64)
    classifier = 64 * 10 + 10
    total = stem + first + second + third + classifier
    assert total == 272_474
    assert parameters(ResNet(depth=20).build(10, 3)) == total
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert total - projections == 269_722  # the 0.27 M of He et al., table 6, whose shortcuts have no weights


def test_width_sets_the_first_stage_and_the_rest_follows() -> None:
    small = ResNet(depth=8, width=4).build(10, 1)
    assert [block.branch[0].out_channels for block in small.blocks] == [4, 8, 16]
    assert small.classifier.in_features == 16
    assert ResNet(depth=50, width=8).build(10, 3).classifier.in_features == 8 * 8 * 4


@pytest.mark.parametrize(("depth", "size", "last"), [(8, 33, 9), (18, 225, 8), (50, 225, 8), (8, 8, 2), (18, 33, 2)])
def test_any_size_of_image_works(depth: int, size: int, last: int) -> None:
    network = ResNet(depth=depth, width=4).build(5, 3)
    with torch.no_grad():
        features = network.blocks(network.stem(torch.randn(2, 3, size, size)))
        assert features.shape[2:] == (last, last)
        assert network.classifier(network.pool(features)).shape == (2, 5)


def test_bottleneck_strides_in_its_3x3() -> None:
    strided = [m for m in ResNet(depth=50).build(2, 3).blocks.modules() if getattr(m, "stride", None) == (2, 2)]
    assert [m.kernel_size for m in strided] == [(3, 3), (1, 1)] * 3  # the 1x1 ones are the projections


def test_initialisation_is_he_by_fan_out_with_gamma_1() -> None:
    seed_global("init")
    network = ResNet(depth=20, width=64).build(10, 3)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_other_depths_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"8, 14, 20"):
        ResNet(depth=19)
