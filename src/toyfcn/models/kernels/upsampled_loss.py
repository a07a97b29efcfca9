"""The last upsampling and the loss in one pass: what a training step is quickest with.

Scores at the image's size are the largest thing of a step, and the loss is all that is wanted of
them. So a stretch of them is made, its loss and gradients are taken, and it is forgotten.

A deconvolution of kernel 2·s and stride s looks at 2x2 cells for each s x s block of the output.
With the four cells in a column, it is a matrix product: (classes · s², classes · 4) times
(classes · 4, blocks), or one such product a class where a class has a filter of its own.
``losses.cross_entropy_sums`` of the upsampled scores is the plain formulation, equal to it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from toyfcn.models.kernels.argmax import first_where
from toyfcn.models.upsampling import Deconvolution

# scores that are in memory at once: few enough for a CPU's cache, enough to keep a GPU busy
STRETCH = {"cpu": 1 << 20, "cuda": 1 << 26}
SMALL = 100  # in bits: 2^100, summed over 255 classes, and 2^-100 are float32's own numbers
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # of the 2x2 cells, as per_block lays the weight out


@dataclass(frozen=True)
class Upsampling:
    """Scores on their last step to the image's size, and the truth that they are held against.

    ``scores`` float (B, C, h, w); ``truth`` uint8 (B, H, W), its top left pixel at ``offset`` (in
    both directions) of what ``up`` returns; ``class_weights`` float (C,).
    """

    scores: Tensor
    up: Deconvolution
    truth: Tensor
    class_weights: Tensor
    void: int
    offset: int = 0


def upsampled_cross_entropy(of: Upsampling) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w) of ``up(scores)`` cropped, as ``losses.cross_entropy_sums`` does.

    Computed in float32, or in float64 where the scores are, autocast or not. Only the first sum has
    a gradient.
    """
    with torch.autocast(of.scores.device.type, enabled=False):
        cells, weight, labels, weights, _ = laid_out(of)
        sums: tuple[Tensor, Tensor] = UpsampledCrossEntropy.apply(
            cells, weight, labels, weights, of.void, torch.is_grad_enabled()
        )
        return sums


@torch.no_grad()
def upsampled_labels(of: Upsampling) -> tuple[Tensor, Tensor, Tensor]:
    """Return the likeliest labels, uint8 (B, H, W), and both sums of ``upsampled_cross_entropy``.

    What scoring is quickest with; of equal scores the first one's label is taken.
    """
    with torch.autocast(of.scores.device.type, enabled=False):
        cells, weight, labels, weights, corner = laid_out(of)
        likeliest = torch.empty_like(labels)
        total, weight_sum = one_pass(cells, weight, labels, weights, of.void, likeliest=likeliest)
        stride, (batch, height, width) = of.up.stride, of.truth.shape
        tall = likeliest.view(stride, stride, *likeliest.shape[1:]).permute(2, 3, 0, 4, 1)
        tall = tall.reshape(batch, tall.shape[1] * stride, -1)
        return tall[:, corner : corner + height, corner : corner + width], total, weight_sum


def laid_out(of: Upsampling) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return what ``one_pass`` takes, and where in the first block the truth begins.

    That is the cells (C, B, rows + 1, columns + 1) that the truth's blocks lie between, the
    deconvolution as matrices, the truth in blocks, and a weight for each of 256 labels.
    """
    dtype = torch.promote_types(of.scores.dtype, torch.float32)
    up, stride, (height, width) = of.up, of.up.stride, of.truth.shape[-2:]
    offset = of.offset + (stride // 2 if up.replicate else 0)  # counted from the first block
    cells = bordered(of.scores.to(dtype), up.replicate).transpose(0, 1)
    first, corner = divmod(offset, stride)
    last = [first + (corner + size - 1) // stride + 2 for size in (height, width)]
    assert last[0] <= cells.shape[-2] and last[1] <= cells.shape[-1], "truth beyond the scores"
    cells = cells[..., first : last[0], first : last[1]].contiguous()
    blocks = (cells.shape[-2] - 1, cells.shape[-1] - 1)
    labels = in_blocks(of.truth, stride, corner, blocks, of.void)
    weights = torch.zeros(256, dtype=dtype, device=of.scores.device)
    weights[: len(of.class_weights)] = of.class_weights
    weights[of.void] = 0
    return cells, per_block(up.weight.to(dtype), stride, up.groups), labels, weights, corner


def bordered(scores: Tensor, replicate: bool) -> Tensor:
    """Add a cell on every side: the border's own again, or zeros."""
    for dim in (-2, -1):
        edges = [scores.narrow(dim, i, 1) for i in (0, scores.shape[dim] - 1)]
        if not replicate:
            edges = [torch.zeros_like(edge) for edge in edges]
        scores = torch.cat([edges[0], scores, edges[1]], dim)
    return scores


def per_block(weight: Tensor, stride: int, groups: int) -> Tensor:
    """Lay a deconvolution's weight (C, C/G, 2s, 2s) out as matrices (G, C/G · s², C/G · 4).

    The upper and left cells of four see the second half of the kernel.
    """
    share = weight.shape[0] // groups
    parts = weight.view(groups, share, share, 2, stride, 2, stride)  # G, in, out, cell, y, cell, x
    parts = parts.flip(3, 5).permute(0, 2, 4, 6, 1, 3, 5)
    return parts.reshape(groups, share * stride**2, share * 4)


def in_blocks(
    truth: Tensor, stride: int, offset: int, blocks: tuple[int, int], void: int
) -> Tensor:
    """Cut a truth (B, H, W) into blocks (s², B, blocks y, blocks x), with void around it."""
    batch, height, width = truth.shape
    around = truth.new_full((batch, blocks[0] * stride, blocks[1] * stride), void)
    around[:, offset : offset + height, offset : offset + width] = truth
    around = around.view(batch, blocks[0], stride, blocks[1], stride)
    return around.permute(2, 4, 0, 1, 3).reshape(stride**2, batch, *blocks)


def one_pass(
    cells: Tensor,
    weight: Tensor,
    labels: Tensor,
    weights: Tensor,
    void: int,
    cells_grad: Tensor | None = None,
    weight_grad: Tensor | None = None,
    likeliest: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w) of what ``laid_out`` returns.

    On the way the gradients of the first sum are added to ``cells_grad`` and ``weight_grad``, and
    the labels of the highest scores are put into ``likeliest``, where these are given.
    """
    classes, batch, rows, columns = cells.shape
    rows, columns = rows - 1, columns - 1
    groups, share = len(weight), classes // len(weight)
    total, weight_sum = cells.new_zeros(()), cells.new_zeros(())
    # stretches of whole images, or of rows of one
    row = classes * len(labels) * columns
    budget = STRETCH.get(cells.device.type, 1 << 24)
    images, height = max(1, budget // (row * rows)), min(rows, max(1, budget // row))
    # fresh memory costs page faults: the scores, and what is equal to the highest
    store = cells.new_empty(1 if likeliest is None else 2, min(images, batch) * height * row)
    in_bits = weight / math.log(2)  # powers of two are quicker than those of e
    small = known_small(cells, in_bits)
    for b, top in itertools.product(range(0, batch, images), range(0, rows, height)):
        bottom = min(rows, top + height)
        corners = [
            (slice(None), slice(b, b + images), slice(top + y, bottom + y), slice(x, columns + x))
            for y, x in CORNERS
        ]
        taps = torch.stack([cells[corner] for corner in corners], 1)
        shape, taps = taps.shape, taps.view(groups, share * 4, -1)
        out = store[:, : weight.shape[0] * weight.shape[1] * taps.shape[2]]
        scores = torch.bmm(in_bits, taps, out=out[0].view(*weight.shape[:2], -1)).view(classes, -1)
        label = labels[:, b : b + images, top:bottom].reshape(1, -1).long()
        w = weights.index_select(0, label[0])
        label = label.masked_fill_(label == void, 0)  # of weight 0: any class will do

        if likeliest is not None or not small:
            highest = scores.amax(0)
            if likeliest is not None:
                into = likeliest[:, b : b + images, top:bottom]
                found = torch.eq(scores, highest, out=out[1].view(classes, -1))
                into.copy_(first_where(found).view(into.shape))
            if not small:
                scores -= highest
        of_truth = scores.gather(0, label)[0]
        sums = scores.exp2_().sum(0)
        total += torch.dot(w, sums.log2() - of_truth) * math.log(2)
        weight_sum += w.sum()
        if cells_grad is None and weight_grad is None:
            continue

        # the gradient of the loss by the scores: w · (softmax - one at the truth)
        scores *= w / sums
        if scores.is_cuda:  # where adding at places is slow if it has to repeat exactly
            scores -= w * (label == torch.arange(classes, device=label.device)[:, None])
        else:
            scores.scatter_add_(0, label, -w[None])
        scores = scores.view(groups, share * len(labels), -1)
        if weight_grad is not None:
            weight_grad += torch.bmm(scores, taps.transpose(1, 2))
        if cells_grad is not None:
            by_tap = torch.bmm(weight.transpose(1, 2), scores).view(shape)
            for i, corner in enumerate(corners):
                cells_grad[corner] += by_tap[:, i]
    return total, weight_sum


def known_small(cells: Tensor, in_bits: Tensor) -> bool:
    """Whether powers of all scores are numbers as they are, before a pixel's highest is taken off.

    Only a CPU is asked: a GPU would have to be waited for.
    """
    return cells.device.type == "cpu" and bool(
        cells.abs().amax() * in_bits.abs().sum(-1).amax() < SMALL
    )


class UpsampledCrossEntropy(torch.autograd.Function):
    """``one_pass`` with its gradients: the loss is one number, so the way back only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        cells: Tensor,
        weight: Tensor,
        labels: Tensor,
        weights: Tensor,
        void: int,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        """Compute both sums, and the gradients by cells and weight where these are needed."""
        grads = [
            torch.zeros_like(x) if needed and with_gradient else None
            for x, needed in zip((cells, weight), ctx.needs_input_grad, strict=False)
        ]
        total, weight_sum = one_pass(cells, weight, labels, weights, void, *grads)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(weight_sum)
        return total, weight_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that there are."""
        grads = [None if g is None else g * grad for g in ctx.saved_tensors]
        return grads[0], grads[1], None, None, None, None
