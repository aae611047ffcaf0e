"""Networks on torch's meta device: names and shapes without any memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from jobs.models.model import Model


def on_meta(model: Model, classes: int, channels: int) -> nn.Module:
    """The network, built with no parameter ever filled; the global generators are left alone.

    ``torch.device("meta")`` would be too much: some networks (RegNet) compute their widths with small tensors. The few
    that compute with their parameters (Swin V2 CR, ViTamin) are built in earnest, and their memory is given back.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with _parameters_on_meta():
                return model.build(classes, channels).to("meta")
        except (NotImplementedError, RuntimeError):
            return model.build(classes, channels).to("meta")


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    thread = threading.get_ident()

    def move(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or threading.get_ident() != thread:
            return None
        return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)

    handle = register_module_parameter_registration_hook(move)  # type: ignore[arg-type]  # its stub forgets the result
    try:
        yield
    finally:
        handle.remove()
