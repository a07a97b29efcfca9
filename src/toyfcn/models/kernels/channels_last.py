"""Layers for maps in channels_last layout on a CPU, where PyTorch's own are slow.

Both compute what PyTorch's compute, and have the same parameters and names in a checkpoint. Two of
PyTorch's kernels are far slower than the processor allows (`python benchmarks/layers.py`): the
gradient of a convolution's weight, and batch normalization of a few channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ONLY_BY_X = [True, False, False]  # of the gradients by input, weight and bias


class Convolution(nn.Conv2d):
    """``nn.Conv2d`` of stride 1 that computes the gradient of its weight as matrix products."""

    MIN_COLUMNS = 80  # of the matrix: with fewer, PyTorch's own gradient is faster

    def __init__(
        self, inputs: int, outputs: int, kernel: int, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H + 2p - k + 1, W + 2p - k + 1)."""
        kernel, padding = self.kernel_size[0], self.padding[0]
        columns = 0 if kernel == 1 else kernel * self.in_channels
        if columns < self.MIN_COLUMNS or not self.weight.requires_grad or not in_eager_training(x):
            return super().forward(x)
        mapped: Tensor = ConvolutionFunction.apply(x, self.weight, self.bias, padding)
        return mapped


class ConvolutionFunction(torch.autograd.Function):
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
        """Compute the gradient by x with PyTorch, those by weight and bias here."""
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

    ``x`` (B, C, H, W) is the input, ``grad`` (B, O, H', W') the gradient by the output. The windows
    that one row of the kernel covers in an image are a matrix with k · C columns and one row for
    each output pixel. Built once for all rows of the image, it serves every row of the kernel.
    """
    (batch, outputs, height, width), inputs = grad.shape, x.shape[1]
    padded = F.pad(x, [padding] * 4).permute(0, 2, 3, 1).contiguous()
    grads = grad.permute(0, 2, 3, 1).reshape(batch, height * width, outputs)
    total = [grad.new_zeros(kernel * inputs, outputs) for _ in range(kernel)]
    for image, grad_rows in zip(padded, grads, strict=True):
        rows, columns, _ = image.shape
        windows = image.as_strided(
            (rows, width, kernel * inputs), (columns * inputs, inputs, 1), image.storage_offset()
        ).reshape(rows * width, kernel * inputs)
        for y in range(kernel):
            covered = windows[y * width : (y + height) * width]
            total[y] = torch.addmm(total[y], covered.t(), grad_rows)
    by_weight = torch.stack(total).view(kernel, kernel, inputs, outputs).permute(3, 2, 0, 1)
    return by_weight.contiguous(memory_format=torch.channels_last)


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` that normalizes few channels in contiguous layout."""

    MIN_CHANNELS = 16  # PyTorch's channels_last kernel processes so many at once, fewer one by one

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        if self.num_features >= self.MIN_CHANNELS or not self.training or not in_eager_training(x):
            return super().forward(x)
        contiguous: Tensor = ChangeLayout.apply(x, torch.contiguous_format, torch.channels_last)
        normalized: Tensor = ChangeLayout.apply(
            super().forward(contiguous), torch.channels_last, torch.contiguous_format
        )
        return normalized


class ChangeLayout(torch.autograd.Function):
    """A copy in another memory layout, whose gradient is copied back to the layout before."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, to: torch.memory_format, before: torch.memory_format) -> Any:
        """Copy ``x`` even if it is in both layouts already: the next layer may work in place."""
        ctx.before = before
        return x.clone(memory_format=to)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Copy the gradient."""
        return grad.contiguous(memory_format=ctx.before), None, None


def in_eager_training(x: Tensor) -> bool:
    """Whether ``x`` is a channels_last map on a CPU, in full precision, in eager training."""
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )
