"""Bilinear kernels, and the deconvolution that starts as bilinear interpolation (section 3.3)."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.geometry import Layer


def bilinear_kernel(size: int, shift: float = 0) -> Tensor:
    """Return the bilinear kernel, float (size, size), as in the FCN paper's Caffe release.

    With f = (size + 1) // 2 and center c = f - 1 (odd size) or f - 0.5 (even size), the weight at
    (i, j) is (1 - |i - c| / f) (1 - |j - c| / f). With ``shift``, of up to half a cell of an even
    kernel, it interpolates so much further to the right and the bottom.

    >>> bilinear_kernel(4) * 16  # for upsampling by 2
    tensor([[1., 3., 3., 1.],
            [3., 9., 9., 3.],
            [3., 9., 9., 3.],
            [1., 3., 3., 1.]])
    """
    factor = (size + 1) // 2
    center = (factor - 1 if size % 2 else factor - 0.5) - shift
    ramp = 1 - (torch.arange(size) - center).abs() / factor
    return ramp[:, None] * ramp[None, :]


class Deconvolution(nn.Module):
    """Upsampling of score maps by ``stride`` with a bilinearly initialized deconvolution.

    Kernel 2·stride, no bias (FCN paper, section 3.3). ``kind`` ``channel`` has one filter per
    class; ``dense`` can mix classes, with off-diagonal weights that start at zero: the same
    function until they have learned. With ``replicate`` ('same' geometry) the border cells are
    repeated once, so that the untrained layer equals
    ``F.interpolate(mode="bilinear", align_corners=False)`` everywhere instead of fading towards the
    borders. ``init`` ``random`` starts as PyTorch's own deconvolution does, for comparison.
    ``shift``, in output cells, is for backbones whose cells are not centered: with ``replicate``
    the output begins so much further to the right and the bottom (or left and top, if negative).

    Raises:
        ValueError: a shift of more than half the stride.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        kind: str = "channel",
        learned: bool = True,
        replicate: bool = True,
        init: str = "bilinear",
        shift: Fraction = Fraction(0),
    ) -> None:
        super().__init__()
        assert kind in ("channel", "dense") and init in ("bilinear", "random")
        assert replicate or not shift
        if abs(shift) > Fraction(stride, 2):
            raise ValueError(f"cells {shift} pixels off center cannot be upsampled by {stride}")
        self.stride, self.replicate, self.shift = stride, replicate, shift
        self.whole_shift = int(shift)  # by cropping; the rest is up to the kernel
        self.groups = channels if kind == "channel" else 1
        kernel = bilinear_kernel(2 * stride, float(shift - self.whole_shift))
        weight = torch.zeros(channels, channels // self.groups, 2 * stride, 2 * stride)
        for channel in range(channels):
            weight[channel, 0 if kind == "channel" else channel] = kernel
        if init == "random":
            nn.init.kaiming_uniform_(weight, a=5**0.5)
        self.weight = nn.Parameter(weight, requires_grad=learned)

    def forward(self, scores: Tensor) -> Tensor:
        """Upsample scores (B, C, h, w).

        Returns (B, C, stride·h, stride·w) with ``replicate``, else (B, C, stride·(h + 1),
        stride·(w + 1)): the plain deconvolution, which the caller crops.
        """
        if not self.replicate:
            return F.conv_transpose2d(scores, self.weight, stride=self.stride, groups=self.groups)
        # F.pad(mode="replicate") has no deterministic backward on CUDA
        scores = torch.cat([scores[..., :1, :], scores, scores[..., -1:, :]], -2)
        scores = torch.cat([scores[..., :1], scores, scores[..., -1:]], -1)
        # a stride for the repeated cells, half a stride where the kernel extends beyond the edge
        margin, moved = self.stride + self.stride // 2, abs(self.whole_shift)
        upsampled = F.conv_transpose2d(
            scores, self.weight, stride=self.stride, padding=margin - moved, groups=self.groups
        )
        if not moved:
            return upsampled
        first, last = (2 * moved, None) if self.whole_shift > 0 else (None, -2 * moved)
        return upsampled[..., first:last, first:last]

    @property
    def layer(self) -> Layer:
        """What it does to the grid of its input."""
        padding = self.stride // 2 + self.shift if self.replicate else 0
        return Layer("deconv", 2 * self.stride, self.stride, padding)
