"""Layers for maps that lie pixel by pixel in memory (channels_last), where PyTorch's are slow.

Both are PyTorch's own in what they compute, in their parameters and in their names in a checkpoint.
On a CPU, two of PyTorch's kernels lag far behind the processor (`python benchmarks/layers.py`): the
gradient of a convolution's weight, and batch normalisation of a few channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ONLY_BY_X = [True, False, False]  # of the gradients by input, weight and bias


class Convolution(nn.Conv2d):
    """``nn.Conv2d`` of stride 1, whose weight's gradient is taken as matrix products."""

    NARROW = 80  # below so many columns of the matrix, PyTorch's own way is the quicker one

    def __init__(
        self, inputs: int, outputs: int, kernel: int, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H + 2p - k + 1, W + 2p - k + 1)."""
        kernel, padding = self.kernel_size[0], self.padding[0]
        columns = 0 if kernel == 1 else kernel * self.in_channels
        if columns < self.NARROW or not self.weight.requires_grad or not pixelwise_training(x):
            return super().forward(x)
        mapped: Tensor = Convolved.apply(x, self.weight, self.bias, padding)
        return mapped


class Convolved(torch.autograd.Function):
    """A convolution of stride 1 with its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        """Convolve."""
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Take PyTorch's gradient by x, and our own by weight and bias."""
        (x, weight), padding = ctx.saved_tensors, ctx.padding
        grad = grad.contiguous(memory_format=torch.channels_last)
        by_x = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, ONLY_BY_X
            )
        if ctx.needs_input_grad[2]:
            by_bias = grad.sum((0, 2, 3))
        return by_x, weight_gradient(x, grad, weight.shape[-1], padding), by_bias, None


def weight_gradient(x: Tensor, grad: Tensor, kernel: int, padding: int) -> Tensor:
    """Return the gradient (O, C, k, k) by the weight of a convolution of stride 1.

    ``x`` (B, C, H, W) was convolved, ``grad`` (B, O, H', W') is the gradient by the result. What a
    row of the kernel saw of a photo is a matrix with k · C columns and a row for each pixel of the
    result. Made for all rows of the photo, it holds what each of the kernel's rows saw.
    """
    (batch, outputs, height, width), inputs = grad.shape, x.shape[1]
    padded = F.pad(x, [padding] * 4).permute(0, 2, 3, 1).contiguous()
    grads = grad.permute(0, 2, 3, 1).reshape(batch, height * width, outputs)
    total = [grad.new_zeros(kernel * inputs, outputs) for _ in range(kernel)]
    for image, by_pixel in zip(padded, grads, strict=True):
        tall, wide, _ = image.shape
        windows = image.as_strided(
            (tall, width, kernel * inputs), (wide * inputs, inputs, 1), image.storage_offset()
        ).reshape(tall * width, kernel * inputs)
        for y in range(kernel):
            seen = windows[y * width : (y + height) * width]
            total[y] = torch.addmm(total[y], seen.t(), by_pixel)
    by_weight = torch.stack(total).view(kernel, kernel, inputs, outputs).permute(3, 2, 0, 1)
    return by_weight.contiguous(memory_format=torch.channels_last)


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, with few channels normalised plane by plane."""

    FEW = 16  # channels that the kernel for pixel by pixel takes at once; the rest one by one

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.num_features >= self.FEW or not self.training or not pixelwise_training(x):
            return super().forward(x)
        planes: Tensor = Relaid.apply(x, torch.contiguous_format, torch.channels_last)
        normalised = super().forward(planes)
        pixels: Tensor = Relaid.apply(normalised, torch.channels_last, torch.contiguous_format)
        return pixels


class Relaid(torch.autograd.Function):
    """A map laid out otherwise in memory, and its gradient laid out as the map had been."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: torch.memory_format, was: torch.memory_format) -> Any:
        """Copy ``x``, also where it happens to lie both ways: what follows may write into it."""
        ctx.was = was
        return x.clone(memory_format=layout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Copy the gradient."""
        return grad.contiguous(memory_format=ctx.was), None, None


def pixelwise_training(x: Tensor) -> bool:
    """Tell whether a map lies pixel by pixel on a CPU, in full precision, and is trained on."""
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )
