"""Scores of a photo at its own size, block by block, so that they are never all in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.custom import CustomNetwork
from toyfcn.models.ensemble import Ensemble
from toyfcn.models.fcn import FCN
from toyfcn.models.tiled import Block, Tiled
from toyfcn.models.unet import UNet

ROWS = 1 << 19  # scores of the rows that are enlarged at once


def blocks(net: nn.Module, image: Tensor, size: tuple[int, int]) -> Iterator[Block]:
    """Yield ``net(image, size)`` of a photo (1, 3, H, W) in blocks that cover it, each pixel once.

    A network of tiles is never asked for more than one of them, where the photo is not enlarged.

    Enlarged scores differ in their last bits from those that are enlarged all at once.
    """
    if isinstance(net, Ensemble):
        for parts in zip(*(blocks(member, image, size) for member in net.nets), strict=True):
            yield parts[0]._replace(scores=net.mean([part.scores for part in parts]))
    elif isinstance(net, FCN | UNet | CustomNetwork | Tiled) and tuple(image.shape[-2:]) != size:
        yield from enlarged(net(image), size)
    elif isinstance(net, Tiled):
        yield from net.blocks(image)
    else:
        yield Block(0, 0, net(image, size))


def enlarged(scores: Tensor, size: tuple[int, int]) -> Iterator[Block]:
    """Yield scores (1, C, h, w) interpolated bilinearly to ``size``, as ``F.interpolate`` does."""
    height = scores.shape[-2]
    wide = F.interpolate(scores, (height, size[1]), mode="bilinear").contiguous()
    centers = torch.arange(size[0], dtype=torch.float32, device=scores.device) + 0.5
    places = (centers * (height / size[0]) - 0.5).clamp(min=0)
    upper = places.long().clamp(max=height - 1)
    lower = (upper + 1).clamp(max=height - 1)
    share = (places - upper)[:, None].to(wide)
    step = max(1, ROWS // (scores.shape[1] * size[1]))
    for top in range(0, size[0], step):
        rows = slice(top, top + step)
        yield Block(top, 0, wide[:, :, upper[rows]].lerp_(wide[:, :, lower[rows]], share[rows]))
