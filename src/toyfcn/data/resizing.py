"""Sizes at which photos and masks are seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def working_size(size: Sequence[int], short_side: int | None) -> tuple[int, int]:
    """Return the (height, width) at which the network sees a photo: its short side is given."""
    height, width = size
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 photo (C, H, W) bilinearly, antialiased."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 mask (H, W) by the nearest pixel center."""
    if tuple(mask.shape) == tuple(size):
        return mask
    return F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]


def filled(fill: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Return a picture of one color, uint8 (C, H, W)."""
    return torch.stack([torch.full(size, value, dtype=torch.uint8) for value in fill])
