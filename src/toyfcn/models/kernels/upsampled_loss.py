"""The last upsampling and the loss in one pass, without storing scores at the image's size.

Scores at the image's size are the largest thing of a training step, and only the loss is wanted of
them. So they are computed in chunks: each is made, its loss and gradients are taken, and it is
overwritten by the next.

A deconvolution of kernel 2·s and stride s combines 2x2 cells into each s x s block of the output.
With the four cells in a column, it is a matrix product: (classes · s², classes · 4) times
(classes · 4, blocks), or one such product per class where each class has its own filter. The result
equals ``losses.cross_entropy_sums`` of the upsampled scores, which is the plain formulation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from toyfcn.models.kernels import compiled
from toyfcn.models.kernels.argmax import first_nonzero
from toyfcn.models.upsampling import Deconvolution

# scores that are in memory at once: few enough for a CPU's cache, enough to keep a GPU busy
CHUNK = {"cpu": 1 << 20, "meta": 1 << 20, "cuda": 1 << 26}  # meta: where a CPU's is foreseen
SMALL = 100  # in bits: 2^100, summed over 255 classes, and 2^-100 are normal float32 numbers
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # of 2x2 cells, in the order of ``as_matrices``


@dataclass(frozen=True)
class Upsampling:
    """Scores that are still to be upsampled to the image's size, and their target.

    ``scores`` float (B, C, h, w); ``target`` uint8 (B, H, W), whose top left pixel is at ``offset``
    (in both directions) of the output of ``up``; ``class_weights`` float (C,).
    """

    scores: Tensor
    up: Deconvolution
    target: Tensor
    class_weights: Tensor
    void: int
    offset: int = 0


@dataclass(frozen=True)
class Blocks:
    """An ``Upsampling`` as a matrix product, whose output is a column for each s x s block.

    ``cells`` float (C, B, rows + 1, columns + 1), the scores around each of the (rows, columns)
    blocks; ``weight`` float (G, C/G · s², C/G · 4), the deconvolution as G matrices; ``labels``
    uint8 (s², B, rows, columns), the target; ``weights`` float (256,), one per label, 0 for void.
    """

    cells: Tensor
    weight: Tensor
    labels: Tensor
    weights: Tensor
    void: int


def upsampled_cross_entropy(of: Upsampling) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w) over the labeled pixels of ``up(scores)`` cropped to the target.

    Equal to ``losses.cross_entropy_sums``. Computed in float32, or in float64 where the scores are,
    also under autocast. Only the first sum has a gradient.

    Raises:
        IndexError, RuntimeError: the target has a label that is neither a class nor void.
    """
    with torch.autocast(of.scores.device.type, enabled=False):
        blocks, _ = in_blocks(of)
        sums: tuple[Tensor, Tensor] = UpsampledCrossEntropy.apply(
            blocks.cells, blocks.weight, blocks, torch.is_grad_enabled()
        )
        return sums


@torch.no_grad()
def upsampled_labels(of: Upsampling) -> tuple[Tensor, Tensor, Tensor]:
    """Return the predicted labels, uint8 (B, H, W), and the sums of ``upsampled_cross_entropy``.

    Of equal scores the first label is taken.
    """
    with torch.autocast(of.scores.device.type, enabled=False):
        blocks, corner = in_blocks(of)
        predicted = torch.empty_like(blocks.labels)
        total, weight_sum = one_pass(blocks, predicted=predicted)
        stride, (batch, height, width) = of.up.stride, of.target.shape
        pixels = predicted.view(stride, stride, *predicted.shape[1:]).permute(2, 3, 0, 4, 1)
        pixels = pixels.reshape(batch, pixels.shape[1] * stride, -1)
        return pixels[:, corner : corner + height, corner : corner + width], total, weight_sum


def in_blocks(of: Upsampling) -> tuple[Blocks, int]:
    """Return the matrix product, and at which pixel of the first block the target begins."""
    dtype = torch.promote_types(of.scores.dtype, torch.float32)
    up, stride, (height, width) = of.up, of.up.stride, of.target.shape[-2:]
    # counted from the first block
    offset = of.offset + (stride // 2 + up.whole_shift if up.replicate else 0)
    cells = padded(of.scores.to(dtype), up.replicate).transpose(0, 1)
    first, corner = divmod(offset, stride)
    last = [first + (corner + size - 1) // stride + 2 for size in (height, width)]
    assert last[0] <= cells.shape[-2] and last[1] <= cells.shape[-1], "target beyond the scores"
    cells = cells[..., first : last[0], first : last[1]].contiguous()
    shape = (cells.shape[-2] - 1, cells.shape[-1] - 1)
    labels = target_in_blocks(of.target, stride, corner, shape, of.void)
    weights = weight_by_label(of.class_weights.to(of.scores.device, dtype), of.void)
    matrices = as_matrices(up.weight.to(dtype), stride, up.groups)
    return Blocks(cells, matrices, labels, weights, of.void), corner


def weight_by_label(class_weights: Tensor, void: int) -> Tensor:
    """Return a weight for each of 256 labels, those of the classes, and 0 for others and void."""
    weights = class_weights.new_zeros(256)
    weights[: len(class_weights)] = class_weights
    weights[void] = 0
    return weights


def padded(scores: Tensor, replicate: bool) -> Tensor:
    """Pad scores by a cell on every side: the border's own repeated, or zeros."""
    for dim in (-2, -1):
        edges = [scores.narrow(dim, i, 1) for i in (0, scores.shape[dim] - 1)]
        if not replicate:
            edges = [torch.zeros_like(edge) for edge in edges]
        scores = torch.cat([edges[0], scores, edges[1]], dim)
    return scores


def as_matrices(weight: Tensor, stride: int, groups: int) -> Tensor:
    """Reorder a deconvolution's weight (C, C/G, 2s, 2s) to matrices (G, C/G · s², C/G · 4).

    The upper and left cells of four are multiplied with the second half of the kernel.
    """
    share = weight.shape[0] // groups
    parts = weight.view(groups, share, share, 2, stride, 2, stride)  # G, in, out, cell, y, cell, x
    parts = parts.flip(3, 5).permute(0, 2, 4, 6, 1, 3, 5)
    return parts.reshape(groups, share * stride**2, share * 4)


def target_in_blocks(
    target: Tensor, stride: int, offset: int, blocks: tuple[int, int], void: int
) -> Tensor:
    """Reorder a target (B, H, W) to (s², B, rows, columns) of blocks, with void around it."""
    batch, height, width = target.shape
    whole = target.new_full((batch, blocks[0] * stride, blocks[1] * stride), void)
    whole[:, offset : offset + height, offset : offset + width] = target
    whole = whole.view(batch, blocks[0], stride, blocks[1], stride)
    return whole.permute(2, 4, 0, 1, 3).reshape(stride**2, batch, *blocks)


def chunks(of: Blocks) -> tuple[int, Iterator[tuple[slice, slice]]]:
    """Return how many scores the largest chunk has, and each as slices of images and of rows.

    A chunk has several whole images, or some rows of blocks of one.
    """
    classes, batch, rows, columns = of.cells.shape
    rows, columns = rows - 1, columns - 1
    row = classes * len(of.labels) * columns  # scores
    budget = CHUNK.get(of.cells.device.type, 1 << 24)
    images, height = max(1, budget // (row * rows)), min(rows, max(1, budget // row))
    starts = itertools.product(range(0, batch, images), range(0, rows, height))
    slices = ((slice(b, b + images), slice(y, min(rows, y + height))) for b, y in starts)
    return min(images, batch) * height * row, slices


def one_pass(
    of: Blocks,
    cells_grad: Tensor | None = None,
    weight_grad: Tensor | None = None,
    predicted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w).

    Where they are given, the gradients of the first sum are added to ``cells_grad`` and
    ``weight_grad``, and the labels of the highest scores are written to ``predicted``.
    """
    total, weight_sum = of.cells.new_zeros(()), of.cells.new_zeros(())
    largest, slices = chunks(of)
    # new memory costs page faults: one buffer for all scores, one for what equals the highest
    buffers = of.cells.new_empty(1 if predicted is None else 2, largest)
    in_bits = of.weight / math.log(2)  # powers of two are faster than those of e
    small = known_small(of.cells, in_bits)
    classes, groups = len(of.cells), len(of.weight)
    for images, rows in slices:
        corners = corners_of(images, rows, of.labels.shape[-1])
        taps = torch.stack([of.cells[corner] for corner in corners], 1)
        shape, taps = taps.shape, taps.view(groups, classes // groups * 4, -1)
        chunk = buffers[:, : of.weight.shape[0] * of.weight.shape[1] * taps.shape[2]]
        scores = torch.bmm(in_bits, taps, out=chunk[0].view(*of.weight.shape[:2], -1))
        scores = scores.view(classes, -1)
        label = of.labels[:, images, rows].reshape(1, -1)
        if predicted is not None and compiled.can_take(scores):
            found = torch.empty_like(label[0])
            loss, weight = compiled.labels_and_loss(
                scores, found, label[0], of.weights, in_bits=True
            )
            predicted[:, images, rows] = found.view(of.labels[:, images, rows].shape)
            total, weight_sum = total + loss, weight_sum + weight
            continue

        label = label.long()
        w = of.weights.index_select(0, label[0])
        label = label.masked_fill_(label == of.void, 0)  # its weight is 0: any class will do

        if predicted is not None or not small:
            highest = scores.amax(0)
            if predicted is not None:
                is_highest = torch.eq(scores, highest, out=chunk[1].view(classes, -1))
                part = predicted[:, images, rows]
                part.copy_(first_nonzero(is_highest).view(part.shape))
            if not small:
                scores -= highest
        of_target = scores.gather(0, label)[0]
        sums = scores.exp2_().sum(0)
        total += torch.dot(w, sums.log2() - of_target) * math.log(2)
        weight_sum += w.sum()
        if cells_grad is None and weight_grad is None:
            continue

        subtract_target(scores.mul_(w / sums), label, w)
        scores = scores.view(groups, of.weight.shape[1], -1)
        if weight_grad is not None:
            weight_grad += torch.bmm(scores, taps.transpose(1, 2))
        if cells_grad is not None:
            by_tap = torch.bmm(of.weight.transpose(1, 2), scores).view(shape)
            for i, corner in enumerate(corners):
                cells_grad[corner] += by_tap[:, i]
    return total, weight_sum


def corners_of(images: slice, rows: slice, columns: int) -> list[tuple[slice, ...]]:
    """Return where the four cells of each block of a chunk lie in ``Blocks.cells``."""
    return [
        (slice(None), images, slice(rows.start + y, rows.stop + y), slice(x, columns + x))
        for y, x in CORNERS
    ]


def subtract_target(grad: Tensor, label: Tensor, w: Tensor) -> None:
    """Turn w · softmax into the gradient by the scores, w · (softmax - one-hot target), in place.

    ``grad`` (C, pixels), ``label`` long (1, pixels), ``w`` (pixels,).
    """
    if grad.is_cuda:  # where a deterministic scatter is slow
        grad -= w * (label == torch.arange(len(grad), device=label.device)[:, None])
    else:
        grad.scatter_add_(0, label, -w[None])


def known_small(cells: Tensor, in_bits: Tensor) -> bool:
    """Whether powers of all scores are normal numbers without subtracting each pixel's highest.

    Only asked on a CPU: on a GPU it would mean waiting for the result.
    """
    return cells.device.type == "cpu" and bool(
        cells.abs().amax() * in_bits.abs().sum(-1).amax() < SMALL
    )


class UpsampledCrossEntropy(torch.autograd.Function):
    """``one_pass`` with its gradients, which the backward pass only has to scale."""

    @staticmethod
    def forward(
        ctx: Any, cells: Tensor, weight: Tensor, blocks: Blocks, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Compute both sums, and the gradients by cells and weight where they are needed."""
        grads = [
            torch.zeros_like(x) if needed and with_gradient else None
            for x, needed in zip((cells, weight), ctx.needs_input_grad, strict=False)
        ]
        total, weight_sum = one_pass(blocks, *grads)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(weight_sum)
        return total, weight_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients."""
        grads = [None if g is None else g * grad for g in ctx.saved_tensors]
        return grads[0], grads[1], None, None
