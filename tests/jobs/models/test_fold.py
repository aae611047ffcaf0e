"""BatchNorm folded into frozen networks: exact where it is done, and not done where it would not be exact."""

import copy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from jobs.models import CNN, Model, ResNet, Timm, Torchvision, load, save
from jobs.models.fold import fold
from jobs.randomness import seed_global


def trained(network: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The network with a BatchNorm that is nowhere the identity, in training mode."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.detach().uniform_(0.5, 1.5)
    return network.to(dtype).train()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def check(network: nn.Module, x: torch.Tensor, left: int, tolerance: float = 1e-10) -> nn.Module:
    """The folded copy, which answers as the network does and has ``left`` BatchNorms."""
    before = copy.deepcopy(network.state_dict())
    folded = fold(network)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module.training for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    with torch.no_grad():
        expected = network.eval()(x)
        torch.testing.assert_close(folded(x), expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())
    assert expected.std() > 0
    assert norms(folded) == left
    return folded


def test_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=0.0))
    with torch.no_grad():
        for tensor, values in zip(
            (network[0].weight, network[0].bias, *network[1].state_dict().values()),
            ([3.0, 5.0], [1.0, 2.0], [2.0, 1.0], [7.0, 8.0], [4.0, 6.0], [4.0, 16.0]),
            strict=False,
        ):
            tensor.copy_(torch.tensor(values).view_as(tensor))
    folded = fold(network)
    assert folded[0].weight.flatten().tolist() == [3.0 * 2 / 2, 5.0 * 1 / 4]
    assert folded[0].bias.tolist() == [(1.0 - 4) * 2 / 2 + 7, (2.0 - 6) * 1 / 4 + 8]
    assert isinstance(folded[1], nn.Identity)
    assert network[0].weight.flatten().tolist() == [3.0, 5.0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_weights_are_those_of_torchs_fusion(bias: bool, affine: bool) -> None:
    pairs = [
        (nn.Conv2d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm2d(6, affine=affine), fuse_conv_bn_eval),
        (nn.Conv1d(4, 6, 3, bias=bias), nn.BatchNorm1d(6, affine=affine), fuse_conv_bn_eval),
    ]
    if affine:  # torch's for linear layers needs gamma and beta
        pairs.append((nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6), fuse_linear_bn_eval))
    for layer, norm, fuse in pairs:
        network = trained(nn.Sequential(layer, norm))
        expected = fuse(*copy.deepcopy(network).eval())
        folded = fold(network)[0]
        torch.testing.assert_close(folded.weight.data, expected.weight.data)
        torch.testing.assert_close(folded.bias.data, expected.bias.data)


NETWORKS: list[tuple[Model, int, int]] = [
    (CNN(width=4), 17, 0),
    (ResNet(depth=8, width=4), 17, 0),
    (ResNet(depth=20, width=4, variant="D", drop_path=0.2), 17, 0),
    (ResNet(depth=50, width=8, variant="B"), 65, 0),
    (ResNet(depth=50, width=8, variant="D", zero_gamma=True), 65, 0),
    (Torchvision(name="resnet18"), 65, 0),
    (Torchvision(name="mobilenet_v3_small"), 64, 0),
    (Torchvision(name="densenet121"), 64, 121 - 59),  # most of its BatchNorms stand before the convolution
    (Timm(name="resnet18d"), 65, 0),
    (Timm(name="regnetx_002"), 64, 0),
    (Timm(name="efficientnet_b0"), 64, 0),  # its BatchNorms hold the activations
    (Timm(name="vit_tiny_patch16_224", kwargs={"img_size": 32, "patch_size": 8, "depth": 1}), 32, 0),
]


@pytest.mark.parametrize(("model", "size", "left"), NETWORKS)
def test_networks_answer_as_before(model: Model, size: int, left: int) -> None:
    seed_global("fold")
    network = trained(model.build(5, 3))
    check(network, torch.randn(2, 3, size, size, dtype=torch.float64), left)


@pytest.mark.parametrize("model", [ResNet(depth=50, width=16, variant="D"), Timm(name="resnet18d")])
def test_single_precision(model: Model) -> None:
    seed_global("single")
    folded = check(trained(model.build(5, 3), torch.float32), torch.randn(2, 3, 65, 65), 0, 1e-4)
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.float32}


def test_layout_is_kept() -> None:
    network = trained(ResNet(depth=8, width=4).build(5, 3)).to(memory_format=torch.channels_last)
    folded = check(network, torch.randn(2, 3, 17, 17, dtype=torch.float64), 0)
    assert folded.blocks[0].branch[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_stored_model_is_folded(tmp_path) -> None:
    model = ResNet(depth=8, width=4, variant="D")
    network = trained(model.build(3, 3), torch.float32)
    told = {"size": 16, "channels": 3, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
    save(tmp_path, network, model.model_dump(mode="json"), ("a", "b", "c"), told)
    check(load(tmp_path).network.train(), torch.randn(2, 3, 16, 16), 0, 1e-5)


class Wired(nn.Module):
    """Two convolutions, BatchNorms and a way to connect them."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.wires = forward

    def forward(self, x, double=False, scale=None):
        y = self.wires(self, x)
        y = y + y if double else y
        return (y if scale is None else y * scale).flatten(1)


def used_twice(net, x):
    y = net.one(x)
    return net.first(y) + y


def forked(net, x):
    y = net.one(x)
    return net.first(y) * net.second(y)


WIRES = {
    "chain": (lambda net, x: net.second(net.two(net.first(net.one(x)).relu())), 0),
    "output used twice": (used_twice, 2),
    "output to two norms": (forked, 2),
    "layer called twice": (lambda net, x: net.first(net.one(net.one(x))), 2),
    "norm called twice": (lambda net, x: net.first(net.one(x)) + net.first(net.two(x)), 2),
    "norm first": (lambda net, x: net.one(net.first(x)), 2),
    "something between": (lambda net, x: net.first(net.one(x).relu()), 2),
    "weights read elsewhere": (lambda net, x: net.first(net.one(x)) * net.one.weight.mean(), 2),
    "gamma read elsewhere": (lambda net, x: net.first(net.one(x)) * net.first.weight.mean(), 2),
    "one of two": (lambda net, x: net.second(net.two(net.first(net.one(x).relu()))), 1),
    "depends on the images": (lambda net, x: net.first(net.one(x)) if x.sum() > 0 else x, 2),
}


@pytest.mark.parametrize("name", WIRES)
def test_only_pairs_that_are_alone_are_folded(name: str) -> None:
    wires, left = WIRES[name]
    check(trained(Wired(wires)), torch.rand(2, 3, 5, 5, dtype=torch.float64), left)


def test_same_module_under_two_names() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    network.append(network[0]).append(network[1])
    check(trained(network), torch.rand(2, 3, 5, 5, dtype=torch.float64), 1)


def test_layers_that_are_more_than_layers_are_left() -> None:
    hooked = nn.Conv2d(3, 3, 1)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    for layer in (hooked, normed, StdConv2d(3, 3, 1), nn.ConvTranspose2d(3, 3, 1)):
        network = trained(nn.Sequential(layer, nn.BatchNorm2d(3)))
        check(network, torch.rand(2, 3, 5, 5, dtype=torch.float64), 1)


def test_norm_that_uses_the_statistics_of_the_batch_is_left() -> None:
    network = trained(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)))
    check(network, torch.rand(2, 3, 5, 5, dtype=torch.float64), 1)


def test_linear_layer_of_another_width_is_left() -> None:
    network = trained(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(7)))  # normalises the tokens of (N, 7, 6)
    check(network, torch.rand(2, 7, 4, dtype=torch.float64), 1)


def test_activation_inside_timms_norm_stays() -> None:
    network = trained(nn.Sequential(nn.Conv2d(3, 3, 1), BatchNormAct2d(3, act_layer=nn.SiLU)))
    folded = check(network, torch.randn(2, 3, 5, 5, dtype=torch.float64), 0)
    assert any(isinstance(module, nn.SiLU) for module in folded.modules())


def test_network_that_cannot_be_traced_is_copied() -> None:
    network = trained(timm.create_model("mobilevit_xxs", num_classes=3))
    folded = check(network, torch.randn(1, 3, 64, 64, dtype=torch.float64), norms(network))
    assert folded is not network
