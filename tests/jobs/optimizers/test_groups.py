"""Which parameters decay: every trainable one in exactly one group, frozen ones in none."""

from __future__ import annotations

import pytest
import timm
import timm.optim
import torch
from torch import nn
from torchvision import models

from jobs.models import ResNet
from jobs.optimizers import SGD, AdamW
from jobs.optimizers.parameters import arrange, fused, groups
from tests.jobs.optimizers.nets import backward, small

BOTH = ("bias", "norm")


def split(network: nn.Module, no_decay: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Names that decay and names that do not; checks that each trainable parameter is in one group, in order."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    order = list(names.values())
    made = groups(network, 0.5, no_decay)
    listed = [[names[id(parameter)] for parameter in group["params"]] for group in made]
    assert all(group == sorted(group, key=order.index) for group in listed)
    flat = [name for group in listed for name in group]
    assert sorted(flat) == sorted(name for name, parameter in network.named_parameters() if parameter.requires_grad)
    decays = {group["weight_decay"]: set(found) for group, found in zip(made, listed, strict=True)}
    assert set(decays) <= {0.5, 0.0}
    return decays.get(0.5, set()), decays.get(0.0, set())


def test_each_choice_on_a_small_network() -> None:
    weights, biases = {"0.weight", "3.weight", "4.weight", "8.weight"}, {"3.bias", "4.bias", "8.bias"}
    norm = {"1.weight", "1.bias"}
    assert split(small(), ()) == (weights | biases | norm, set())
    assert split(small(), ("bias",)) == (weights | norm, biases)
    assert split(small(), ("norm",)) == (weights | biases, norm)
    assert split(small(), BOTH) == (weights, biases | norm)


def test_frozen_parameters_are_in_no_group_and_empty_groups_are_left_out() -> None:
    network = small()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name == "8.bias")
    assert split(network, BOTH) == (set(), {"8.bias"})
    assert len(groups(network, 0.1, BOTH)) == 1
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="empty parameter list"):
        SGD(lr=0.1).build(network, 0.1)


def test_tied_parameters_stand_once() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.LayerNorm(3))
    network[1].weight = network[0].weight
    network[1].bias = network[2].bias  # one owner is a normalisation: exempt for any of them
    assert split(network, BOTH) == ({"0.weight"}, {"0.bias", "1.bias", "2.weight"})
    assert split(network, ("norm",)) == ({"0.weight", "0.bias"}, {"1.bias", "2.weight"})


@pytest.mark.parametrize(
    "network",
    [
        *(nn.BatchNorm1d(3), nn.BatchNorm2d(3), nn.SyncBatchNorm(3), nn.InstanceNorm2d(3, affine=True)),
        *(nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.RMSNorm(3), models.convnext.LayerNorm2d(3)),
        *(timm.layers.BatchNormAct2d(3), timm.layers.LayerNorm2d(3), timm.layers.GroupNormAct(3, num_groups=1)),
        *(timm.layers.RmsNorm(3), timm.layers.SimpleNorm(3), timm.layers.EvoNorm2dS0(8, group_size=4)),
        *(timm.layers.FilterResponseNormTlu2d(3), timm.layers.grn.GlobalResponseNorm(3)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_every_sort_of_normalisation(network: nn.Module) -> None:
    everything = {name for name, _ in network.named_parameters()}
    assert everything
    assert split(network, ("norm",)) == (set(), everything)
    assert split(network, ("bias",)) == (everything, set())


def test_torchvisions_resnet_is_split_as_timm_splits_it() -> None:
    network = models.resnet18(num_classes=10)
    decayed, exempt = split(network, BOTH)
    assert decayed == {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    assert "fc.bias" in exempt and "fc.weight" in decayed
    theirs = timm.optim.param_groups_weight_decay(network, 0.5)
    ours = groups(network, 0.5, BOTH)
    for group in theirs:
        mine = next(own for own in ours if own["weight_decay"] == group["weight_decay"])
        assert [id(p) for p in mine["params"]] == [id(p) for p in group["params"]]


def test_our_resnet() -> None:
    network = ResNet(depth=20).build(10, 3)
    decayed, exempt = split(network, BOTH)
    assert decayed == {name for name, parameter in network.named_parameters() if parameter.ndim > 1}
    assert all(name.endswith((".bias", ".weight")) for name in exempt)


def test_a_vision_transformers_tokens_and_positions_decay() -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, num_classes=5)
    decayed, exempt = split(network, BOTH)
    assert {"cls_token", "pos_embed", "head.weight", "blocks.0.attn.qkv.weight"} <= decayed
    assert {
        "head.bias",
        "blocks.0.attn.qkv.bias",
        "blocks.0.norm1.weight",
        "norm.bias",
        "patch_embed.proj.bias",
    } <= exempt


def test_biases_of_attention_are_biases_and_tables_and_gains_are_not() -> None:
    assert split(nn.MultiheadAttention(4, 2), ("bias",))[1] == {"in_proj_bias", "out_proj.bias"}
    swin = timm.create_model("swinv2_cr_tiny_ns_224", img_size=32, depths=(1, 1), num_heads=(1, 1), embed_dim=8)
    assert all(name.endswith("bias") for name in split(swin, ("bias",))[1])
    with torch.device("meta"):
        nfnet = timm.create_model(
            "dm_nfnet_f0", num_classes=5
        )  # free of normalisation, whatever its classes are called
    assert any("skipinit_gain" in name for name, _ in nfnet.named_parameters())
    assert split(nfnet, ("norm",))[1] == set()


def test_exempt_parameters_do_not_decay_and_the_others_do() -> None:
    network = small()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = AdamW(lr=0.1, weight_decay=0.5, no_decay=BOTH).build(network, 0.1)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        shrink = 1.0 if parameter.ndim == 1 else 0.95
        torch.testing.assert_close(parameter.detach(), before[name] * shrink, rtol=1e-6, atol=0)


def test_fused_where_torch_can() -> None:
    assert fused(small()) and fused(small(torch.float64))
    assert not fused(small(torch.bfloat16)) and not fused(small().to("meta"))
    half = small(torch.bfloat16)  # a half-precision network still trains, without the fused kernel
    optimizer = SGD(lr=0.1).build(half, 0.1)
    backward(half, 1)
    optimizer.step()
    assert optimizer.param_groups[0]["fused"] is False


def test_a_loaded_scalar_goes_where_the_count_of_updates_is() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.NAdam([parameter])
    optimizer.state[parameter] = {"step": torch.zeros((), device="meta"), "mu_product": torch.ones(())}
    arrange(optimizer)
    assert optimizer.state[parameter]["mu_product"].device.type == "meta"


ALL = ("bias", "norm", "scale", "embedding")


@pytest.mark.parametrize(
    "name",
    [
        *("vit_tiny_patch16_224", "deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "convnext_tiny"),
        *("swinv2_tiny_window8_256", "cait_xxs24_224", "beit_base_patch16_224", "resnet50", "levit_128s", "coat_tiny"),
    ],
)
def test_timms_rule_is_timms(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    named = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for group in timm.optim.param_groups_weight_decay(network, 0.5, no_weight_decay_list=named):
        theirs = {names[id(parameter)] for parameter in group["params"]}
        assert split(network, ("timm",))[group["weight_decay"] == 0] == theirs


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "maxvit_t", "resnet50"])
def test_torchvisions_decay_the_kernels_of_layers_alone(name: str) -> None:
    with torch.device("meta"):
        network = models.get_model(name)
    kernels = {
        f"{path}.{name}"
        for path, module in network.named_modules()
        for name in ("weight", "in_proj_weight")
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention) and hasattr(module, name)
    }
    assert split(network, ALL)[0] == kernels


def test_parameters_that_are_called_otherwise() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            names = ("cls_token", "pos_embed", "reg_token", "relative_position_bias_table", "gamma", "gamma_1")
            for name in (*names, "layer_scale", "relative_weights"):
                setattr(self, name, nn.Parameter(torch.zeros(1, 2, 3)))
            self.act, self.lstm = nn.PReLU(), nn.LSTM(2, 2, bidirectional=True)
            self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)

    embedding = {"cls_token", "pos_embed", "reg_token", "relative_position_bias_table"}
    scale = {"gamma", "gamma_1", "layer_scale", "act.weight"}
    assert split(Odd(), ("embedding",))[1] == embedding
    assert split(Odd(), ("scale",))[1] == scale
    recurrent = {f"lstm.bias_{part}_l0{end}" for part in ("ih", "hh") for end in ("", "_reverse")}
    assert split(Odd(), ("bias",))[1] == recurrent | {
        f"attention.{name}" for name in ("in_proj_bias", "out_proj.bias", "bias_k", "bias_v")
    }
