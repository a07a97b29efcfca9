"""A network that sees a photo tile by tile, for photos of any size: scores blend where tiles meet.

Tiles begin at multiples of the network's coarsest stride, so that cells lie where they lie in the
whole photo; at the photo's borders, tiles have the same borders. So a score equals the whole
photo's wherever its receptive field ends within the tiles that count there. The outer quarter of
an overlap does not count; from there on the weights rise as a squared sine.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.build import Network
from toyfcn.models.ensemble import Ensemble

log = logging.getLogger(__name__)


class Block(NamedTuple):
    """Scores float (B, C, h, w) of the rectangle of photos whose top left pixel is (top, left)."""

    top: int
    left: int
    scores: Tensor


class Span(NamedTuple):
    """A tile along one side: pixels from ``start`` to ``stop``, from ``after`` on shared with the
    next; ``weight`` float (stop - start,) is how much each of its pixels counts.
    """

    start: int
    stop: int
    after: int
    weight: Tensor


class Tiled(nn.Module):
    """A network applied to tiles of ``tile`` pixels a side that share ``overlap`` or more.

    Raises:
        ValueError: they leave no room for a step of the network's stride.
    """

    def __init__(self, net: Network | Ensemble, tile: int, overlap: int) -> None:
        super().__init__()
        self.net, self.tile, self.overlap = net, tile, overlap
        self.stride = net.coarsest_stride
        if tile - overlap < self.stride:
            raise ValueError(
                f"tile={tile} and overlap={overlap} leave no room for the network's stride of "
                f"{self.stride} pixels: set tile={overlap + 2 * self.stride} or more"
            )

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, 3, H, W): (B, C, H, W), or interpolated to ``size``: see ``FCN``."""
        scores = torch.empty(0)
        for top, left, found in self.blocks(image):
            if not scores.numel():
                scores = found.new_empty(*found.shape[:2], *image.shape[-2:])
            scores[..., top : top + found.shape[2], left : left + found.shape[3]] = found
        if size is not None and tuple(scores.shape[-2:]) != tuple(size):
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores

    def blocks(self, image: Tensor) -> Iterator[Block]:
        """Yield the scores of photos (B, 3, H, W) in blocks that cover them, each pixel once.

        In memory are a tile, and the rows that the next tiles share with those before.
        """
        down, across = (spans(n, self.tile, self.overlap, self.stride) for n in image.shape[-2:])
        shared = max(span.stop - span.after for span in down)
        carried = torch.empty(0)  # sums of the rows that are shared with the tiles above
        height = 0  # of these
        for y in down:
            before = torch.empty(0)  # sums of the columns that are shared with the last tile
            for x in across:
                part = self.net(image[..., y.start : y.stop, x.start : x.stop])
                if len(down) * len(across) > 1:
                    part = part * (y.weight[:, None] * x.weight).to(part.device)
                if before.numel():
                    part[..., : before.shape[-1]] += before
                if not carried.numel():
                    carried = part.new_empty(*part.shape[:2], shared, image.shape[-1])
                done, before = part.tensor_split((x.after - x.start,), dim=-1)
                columns = carried[..., x.start : x.after]
                done[..., :height, :] += columns[..., :height, :]
                columns[..., : y.stop - y.after, :] = done[..., y.after - y.start :, :]
                yield Block(y.start, x.start, done[..., : y.after - y.start, :])
            height = y.stop - y.after


def spans(side: int, tile: int, overlap: int, stride: int) -> list[Span]:
    """Return the tiles along a side of a photo; the last one ends with it."""
    steps = max(0, -(-(side - tile) // ((tile - overlap) // stride * stride)))
    last = -(-(side - tile) // stride)  # in strides; spread evenly, or the last would share most
    starts = [i * last // steps * stride if i else 0 for i in range(steps + 1)]
    stops = [min(start + tile, side) for start in starts]
    weights = [torch.ones(stop - start) for start, stop in zip(starts, stops, strict=True)]
    for i in range(1, len(starts)):
        common = stops[i - 1] - starts[i]
        share = ((torch.arange(common) + 0.5) / common * 2 - 0.5).clamp(0, 1)
        rising = (share * (math.pi / 2)).sin() ** 2
        weights[i][:common] *= rising
        weights[i - 1][-common:] *= 1 - rising
    total = torch.zeros(side)
    for start, stop, weight in zip(starts, stops, weights, strict=True):
        total[start:stop] += weight
    return [
        Span(start, stop, after, weight / total[start:stop])
        for start, stop, after, weight in zip(
            starts, stops, [*starts[1:], side], weights, strict=True
        )
    ]


def warn_of_small_photos(tile: int, short_side: int | None) -> None:
    """Warn if most photos will be smaller than a tile, once they are resized."""
    if short_side is not None and short_side <= tile:
        log.warning(
            "tile=%d: the checkpoint sees photos with a short side of %d pixels, so only those "
            "more than %.1f times as long as wide have several tiles; for photos of full size, "
            "train with model.short_side=null",
            tile,
            short_side,
            tile / short_side,
        )
