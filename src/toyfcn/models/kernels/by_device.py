"""A network's convolutions in the form that a device computes fastest: they compute the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toyfcn.models.fcn import FCN


def choose_kernels(net: nn.Module, device: torch.device) -> None:
    """Prepare a network that is on a device, in place; its weights and scores stay what they are.

    A GPU convolves with filters in channels_last layout (see ``Backbone.memory_format``). On a CPU,
    PyTorch leaves 1x1 convolutions to oneDNN if it has several threads, or if they are dilated. Its
    own kernel for a single thread is slower: so they are dilated, which a 1x1 filter cannot notice.
    """
    if device.type == "cuda" and isinstance(net, FCN):
        net.to(memory_format=torch.channels_last)
    onednn = device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            dilated = onednn and module.weight.dtype == torch.float32
            module.dilation = (2, 2) if dilated else (1, 1)


def laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` in the layout in memory of a weight of its shape."""
    if value.stride() == weight.stride():
        return value
    return torch.empty_like(weight, dtype=value.dtype, device=value.device).copy_(value)
