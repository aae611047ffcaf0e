"""Layer-wise learning rates: factors by hand, against timm's own groups, and what they do to an update."""

from __future__ import annotations

import pytest
import timm
import timm.optim
import torch
from torch import nn

from jobs.models import CNN, ResNet, Timm, Torchvision
from jobs.optimizers import SGD
from jobs.optimizers.depth import depths
from jobs.optimizers.parameters import groups
from tests.jobs.digits_job import job
from tests.jobs.optimizers.nets import backward, small
from tests.jobs.optimizers.test_takeover import begun

BOTH = ("bias", "norm")


def test_a_small_resnet_by_hand() -> None:
    """ResNet-8: the stem, three blocks, the classifier; 0.5 to the 4, 3, 2, 1 and 0."""
    network = ResNet(depth=8, width=4).build(10, 3)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    made = groups(network, 1e-4, BOTH, 0.5)
    assert [(group["lr_scale"], group["weight_decay"]) for group in made] == [
        *((0.0625, 1e-4), (0.0625, 0.0)),
        *((0.125, 1e-4), (0.125, 0.0)),
        *((0.25, 1e-4), (0.25, 0.0)),
        *((0.5, 1e-4), (0.5, 0.0)),
        *((1.0, 1e-4), (1.0, 0.0)),
    ]
    told = [[names[id(parameter)] for parameter in group["params"]] for group in made]
    assert told[:2] == [["stem.0.weight"], ["stem.1.weight", "stem.1.bias"]]
    assert told[2] == ["blocks.0.branch.0.weight", "blocks.0.branch.3.weight"]
    assert "blocks.2.shortcut.1.bias" in told[7] and "blocks.2.shortcut.0.weight" in told[6]
    assert told[8:] == [["classifier.weight"], ["classifier.bias"]]
    assert sorted(name for group in told for name in group) == sorted(names.values())


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_factors_are_timms(name: str) -> None:
    network = timm.create_model(name, num_classes=5)
    theirs = {
        id(parameter): (group["lr_scale"], group["weight_decay"])
        for group in timm.optim.param_groups_layer_decay(network, 0.05, layer_decay=0.7)
        for parameter in group["params"]
    }
    one_dimension = {id(parameter) for parameter in network.parameters() if parameter.ndim <= 1}
    ours = {
        id(parameter): group["lr_scale"] for group in groups(network, 0.05, BOTH, 0.7) for parameter in group["params"]
    }
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx({key: scale for key, (scale, _) in theirs.items()}, rel=1e-12)
    assert len(set(ours.values())) > 4
    if name == "resnet10t":  # no tensor there of one dimension that is neither bias nor norm
        mine = groups(network, 0.05, BOTH, 0.7)
        decays = {id(parameter): group["weight_decay"] for group in mine for parameter in group["params"]}
        assert decays == {key: decay for key, (_, decay) in theirs.items()}
        assert {key for key, decay in decays.items() if not decay} == one_dimension


def test_torchvisions_resnet_is_timms() -> None:
    ours = depths(Torchvision(name="resnet18").build(5, 3))
    theirs = depths(Timm(name="resnet18").build(5, 3))
    assert ours == theirs
    assert max(ours.values()) == 9


@pytest.mark.parametrize(
    ("name", "kwargs", "first", "deepest"),
    [
        ("mobilenet_v2", {}, "features.0.0.weight", 19),
        ("efficientnet_b0", {}, "features.0.0.weight", 9),
        ("convnext_tiny", {}, "features.0.0.weight", 8),
        ("vit_b_32", {"hidden_dim": 24, "num_heads": 2, "mlp_dim": 8, "num_layers": 3}, "class_token", 4),
    ],
)
def test_others_of_torchvision(name: str, kwargs: dict[str, int], first: str, deepest: int) -> None:
    if name == "vit_b_32":
        from torchvision.models.vision_transformer import VisionTransformer

        network: nn.Module = VisionTransformer(image_size=32, patch_size=8, num_classes=5, **kwargs)  # type: ignore[arg-type]
    else:
        with torch.device("meta"):
            network = Torchvision(name=name, kwargs=kwargs).build(5, 3)
    found = depths(network)
    last = list(dict(network.named_parameters()))[-1]
    assert (found[first], found[last], max(found.values())) == (0, deepest, deepest)
    assert set(found.values()) == set(range(deepest + 1))


def test_layers_in_turn_take_their_normalisation_along() -> None:
    assert depths(CNN(width=4).build(10, 1)) == {
        **{"0.weight": 0, "1.weight": 0, "1.bias": 0},
        **{"3.weight": 1, "4.weight": 1, "4.bias": 1},
        **{"6.weight": 2, "7.weight": 2, "7.bias": 2},
        **{"11.weight": 3, "11.bias": 3},
    }


def test_an_order_that_is_not_known_is_refused_with_the_cure() -> None:
    network = Torchvision(name="squeezenet1_1").build(2, 3)
    with pytest.raises(
        ValueError, match=r"the layers of a torchvision\.models\.squeezenet\.SqueezeNet is not known; leave"
    ):
        groups(network, 0.0, (), 0.5)


def test_shared_and_frozen_parameters_stand_in_one_group_and_none() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    network[1].weight = network[0].weight
    network[2].bias.requires_grad_(False)
    made = groups(network, 0.1, ("bias",), 0.5)
    held = [id(parameter) for group in made for parameter in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    assert [group["lr_scale"] for group in made] == [0.25, 0.25, 0.5, 1.0]


def test_without_it_groups_are_what_they_were() -> None:
    assert all("lr_scale" not in group for group in groups(small(), 0.1, BOTH))


def test_an_update_moves_every_depth_at_its_share_of_the_rate() -> None:
    run = begun(kind="sgd", lr=1.0, momentum=0.0, nesterov=False, layer_decay=0.5)
    before = {name: parameter.detach().clone() for name, parameter in run.network.named_parameters()}
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(run.trained(x), torch.arange(16) % 10).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in run.network.named_parameters()}  # type: ignore[union-attr]
    run.update(0.1)
    where = depths(run.network)
    for name, parameter in run.network.named_parameters():
        expected = before[name] - 0.1 * 0.5 ** (3 - where[name]) * gradients[name]
        torch.testing.assert_close(parameter.detach(), expected)


def test_a_run_that_takes_over_weights_keeps_its_own_factors() -> None:
    donor, taker = begun(kind="sgd", lr=0.1, layer_decay=0.5), begun(kind="sgd", lr=0.1, layer_decay=0.25)
    state = donor.state()
    assert state is not None
    taker.load(state)
    assert [group["lr_scale"] for group in taker.optimizer.param_groups] == [0.25**k for k in (3, 2, 1, 0)]


def test_every_field_is_the_specs() -> None:
    network = small()
    optimizer = SGD(lr=0.1, layer_decay=0.5).build(network, 0.1)
    backward(network, 1)
    optimizer.step()
    assert [group["lr_scale"] for group in optimizer.param_groups] == [0.125, 0.25, 0.5, 1.0]
    assert job(optimizer__layer_decay=0.75).flatten()["optimizer.layer_decay"] == 0.75
