"""A network's convolutions in the form that a device computes fastest: they compute the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.fcn import FCN

LARGE = 20_480  # numbers in the map of a single photo, up to which PyTorch never takes oneDNN


class Pointwise(nn.Conv2d):
    """A 1x1 convolution by oneDNN with a single CPU thread too.

    PyTorch leaves 1x1 convolutions to oneDNN if it has several threads, or if they are dilated; its
    own kernel is slower. So they are dilated, which a 1x1 filter cannot notice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        if torch.compiler.is_compiling():  # or exporting: sizes are not known there
            return super().forward(x)
        floats = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        onednn = floats and (len(x) > 1 or x.numel() > LARGE)
        dilation = 2 if onednn and not torch.is_autocast_enabled("cpu") else 1
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, dilation, self.groups)


def choose_kernels(net: nn.Module, device: torch.device) -> None:
    """Prepare a network that is on a device, in place; its weights and scores stay what they are.

    A GPU convolves with filters in channels_last layout (see ``Backbone.memory_format``), a CPU
    with ``Pointwise`` where PyTorch has oneDNN.
    """
    if device.type == "cuda" and isinstance(net, FCN):
        net.to(memory_format=torch.channels_last)
    onednn = device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    present, wanted = (nn.Conv2d, Pointwise) if onednn else (Pointwise, nn.Conv2d)
    for module in net.modules():
        if type(module) is present and (module.kernel_size, module.padding) == ((1, 1), (0, 0)):
            module.__class__ = wanted  # the same weights, names and hooks


def laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """Return ``value`` in the layout in memory of a weight of its shape."""
    if value.stride() == weight.stride():
        return value
    return torch.empty_like(weight, dtype=value.dtype, device=value.device).copy_(value)
