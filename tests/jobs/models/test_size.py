"""Sizes against known ones and against what a real forward pass on the CPU keeps."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import ResNet50_Weights

from jobs.models import CNN, Model, ResNet, Timm, Torchvision
from jobs.models.size import check_one_image, measure
from tests.jobs.digits_job import job


def kept_on_cpu(model: Model, batch: int, channels: int, size: int, dtype: torch.dtype) -> int:
    """Bytes of the distinct storages that autograd really keeps, the network's own apart."""
    network = model.build(5, channels).to(torch.float64 if dtype == torch.float64 else torch.float32)
    x = torch.randn(batch, channels, size, size, dtype=next(network.parameters()).dtype)
    saved = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.untyped_storage()), lambda _: None),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
    ):
        network(x)
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    return sum({s.data_ptr(): s.nbytes() for s in saved if s.data_ptr() not in own}.values())


MODELS = [
    CNN(width=8),
    CNN(norm=False),
    ResNet(depth=8),
    ResNet(depth=50, width=8),
    ResNet(depth=50, width=8, variant="D", zero_gamma=True, drop_path=0.2),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("dtype", "dtype_bytes"), [(torch.float32, 4), (torch.float64, 8)])
def test_activation_bytes_are_what_autograd_keeps(model: Model, dtype: torch.dtype, dtype_bytes: int) -> None:
    size = measure(model, 5, 3, 33, 4, dtype_bytes)
    assert size.activation_bytes == pytest.approx(kept_on_cpu(model, 4, 3, 33, dtype), rel=0.001)


def test_activation_bytes_under_autocast_are_near() -> None:
    model = ResNet(depth=20)
    real = kept_on_cpu(model, 16, 3, 32, torch.bfloat16)
    assert measure(model, 5, 3, 32, 16, 2).activation_bytes == pytest.approx(real, rel=0.1)


def test_resnet50_is_25_6_million_parameters_and_4_1_giga_multiply_accumulates() -> None:
    size = measure(ResNet(depth=50), 1000, 3, 224, 2, 4)
    assert size.parameters == 25_557_032
    listed = ResNet50_Weights.IMAGENET1K_V1.meta["_ops"]  # in 1e9 multiply-accumulates
    assert size.flops_per_image / 2e9 == pytest.approx(listed, abs=0.0006)
    assert size.buffers == 2 * 26_560 + 53  # mean and variance of every BatchNorm channel, a counter a BatchNorm
    assert size == measure(Torchvision(name="resnet50"), 1000, 3, 224, 2, 4)


@pytest.mark.parametrize(("variant", "published"), [("A", 3.8), ("B", 4.1), ("C", 4.3), ("D", 4.3)])
def test_flops_of_the_variants_are_those_of_the_paper(variant: str, published: float) -> None:
    size = measure(ResNet(depth=50, variant=variant), 1000, 3, 224, 1, 4)
    assert size.flops_per_image / 2e9 == pytest.approx(published, abs=0.07)  # arXiv 1812.01187, table 5


@pytest.mark.parametrize("model", [Timm(name="resnet18"), Torchvision(name="resnet18"), ResNet(depth=18)])
def test_zero_gamma_and_stochastic_depth_cost_no_parameters(model: Model) -> None:
    changes = {"zero_gamma": True, **({"drop_path": 0.1} if model.kind == "resnet" else {})}
    changed = measure(model.override(changes), 10, 3, 64, 2, 4)
    plain = measure(model, 10, 3, 64, 2, 4)
    assert (changed.parameters, changed.buffers) == (plain.parameters, plain.buffers)
    assert changed.flops_per_image == plain.flops_per_image


def test_flops_are_those_of_a_real_forward_pass() -> None:
    model = ResNet(depth=14)
    with FlopCounterMode(display=False) as counter:
        model.build(10, 1)(torch.randn(3, 1, 28, 28))
    assert measure(model, 10, 1, 28, 8, 4).flops_per_image == counter.get_total_flops() // 3


def test_activations_grow_with_the_batch_and_parameters_do_not() -> None:
    one, four = (measure(CNN(), 10, 1, 8, batch, 4) for batch in (1, 4))
    assert (one.parameters, one.flops_per_image) == (four.parameters, four.flops_per_image)
    statistics = 2 * (32 + 64 + 128) * 4  # each BatchNorm keeps its batch's mean and deviation, whatever the batch
    assert four.activation_bytes - statistics == 4 * (one.activation_bytes - statistics)


@pytest.mark.parametrize("model", [Torchvision(name="regnet_y_400mf"), Timm(name="swinv2_cr_tiny_ns_224")])
def test_networks_that_compute_while_they_are_built(model: Model) -> None:
    network = model.build(10, 3)
    assert measure(model, 10, 3, 224, 1, 4).parameters == sum(p.numel() for p in network.parameters())


def test_measuring_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    measure(Timm(name="vit_tiny_patch16_224"), 10, 3, 224, 1, 4)
    assert torch.equal(before, torch.get_rng_state())


def test_size_that_does_not_fit_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match=r"vit_tiny_patch16_224.* cannot take 32x32 images of 3 channels: "):
        measure(Timm(name="vit_tiny_patch16_224"), 10, 3, 32, 1, 4)


def test_parts_of_one_image_are_refused_where_maps_are_one_pixel() -> None:
    model = {"kind": "torchvision", "name": "resnet18"}
    data = {"kind": "synthetic", "size": 32}
    spec = job(data=data, model=model, batch_size=2, resources__workers=2)
    said = (
        "each of the 2 workers gets 1 image at a time (batch_size 2 / 2 workers x 1 accumulation), and BatchNorm needs "
        "2 or more where maps are 1x1, as in model torchvision, name resnet18 at 32x32 pixels; raise batch_size to 4, "
        "lower resources.workers or accumulation, or take larger images"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        check_one_image(spec, spec.data.open())
    larger = spec.override({"data.size": 64})
    check_one_image(larger, larger.data.open())
    check_one_image(job(batch_size=2, accumulation=2), job().data.open())


def test_output_that_is_no_logits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must put out logits of shape \(2, 10\), got \(2, 197, 10\)"):
        measure(Timm(name="vit_tiny_patch16_224", kwargs={"global_pool": ""}), 10, 3, 224, 2, 4)
