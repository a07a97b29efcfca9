"""Masks whose colors stand for the classes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyfcn.data.image_io import opened, turn_of
from toyfcn.data.palettes import Color

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # what has colors of 8 bits


@lru_cache(maxsize=2)
def color_table(
    colors: tuple[Color, ...], void_color: Color | None, void: int
) -> NDArray[np.uint16]:
    """Return 1 + label by r + 256·g + 65536·b, and 0 for colors that stand for nothing.

    Made once a process; pages that hold only zeros take no memory.
    """
    table = np.zeros(1 << 24, np.uint16)
    for label, (r, g, b) in enumerate(colors):
        table[r | g << 8 | b << 16] = label + 1
    if void_color is not None:
        r, g, b = void_color
        table[r | g << 8 | b << 16] = void + 1
    return table


def read_colors(
    path: Path, colors: tuple[Color, ...], void_color: Color | None, void: int
) -> Tensor:
    """Read a mask whose colors stand for the classes: uint8 (H, W). Transparency is ignored.

    Raises:
        ValueError: the file cannot be decoded, or holds other colors; the message names some.
    """
    with opened(path, "mask") as image:
        if image.mode not in MODES:
            raise ValueError(f"its mode is {image.mode}, which has no colors of 8 bits")
        painted = image.convert("RGB")
        if (turn := turn_of(image)) is not None:
            painted = painted.transpose(turn)
        size = (painted.height, painted.width)
        pixels = painted.tobytes("raw", "RGBX")
    codes = np.frombuffer(pixels, "<u4") & 0xFFFFFF
    found = color_table(colors, void_color, void)[codes]
    if not found.all():
        unknown = np.unique(codes[found == 0])
        named = ", ".join(f"[{c & 255},{c >> 8 & 255},{c >> 16}]" for c in unknown[:3].tolist())
        raise ValueError(
            f"{path} holds {len(unknown)} color{'s' * (len(unknown) > 1)} that neither "
            f"data.colours nor data.void_colour lists: {named}{', …' * (len(unknown) > 3)}"
        )
    return torch.from_numpy((found - 1).astype(np.uint8).reshape(size))
