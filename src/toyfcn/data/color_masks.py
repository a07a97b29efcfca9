"""Masks whose colours stand for the classes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from toyfcn.data.image_io import MAX_PIXELS, reason_of

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # what has colours of 8 bits
Colour = tuple[int, int, int]


@lru_cache(maxsize=2)
def colour_table(
    colours: tuple[Colour, ...], void_colour: Colour | None, void: int
) -> NDArray[np.uint16]:
    """Return 1 + label by r + 256·g + 65536·b, and 0 for colours that stand for nothing.

    Made once a process; pages that hold only zeros take no memory.
    """
    table = np.zeros(1 << 24, np.uint16)
    for label, (r, g, b) in enumerate(colours):
        table[r | g << 8 | b << 16] = label + 1
    if void_colour is not None:
        r, g, b = void_colour
        table[r | g << 8 | b << 16] = void + 1
    return table


def read_colours(
    path: Path, colours: tuple[Colour, ...], void_colour: Colour | None, void: int
) -> Tensor:
    """Read a mask whose colours stand for the classes: uint8 (H, W). Transparency is ignored.

    Raises:
        ValueError: the file cannot be decoded, or holds other colours; the message names some.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in MODES:
                raise ValueError(f"its mode is {image.mode}, which has no colours of 8 bits")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it claims {image.width} x {image.height} pixels")
            size = (image.height, image.width)
            pixels = image.convert("RGB").tobytes("raw", "RGBX")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the mask {path}: {reason_of(error)}") from None
    codes = np.frombuffer(pixels, "<u4") & 0xFFFFFF
    found = colour_table(colours, void_colour, void)[codes]
    if not found.all():
        unknown = np.unique(codes[found == 0])
        named = ", ".join(f"[{c & 255},{c >> 8 & 255},{c >> 16}]" for c in unknown[:3].tolist())
        raise ValueError(
            f"{path} holds {len(unknown)} colour{'s' * (len(unknown) > 1)} that neither "
            f"data.colours nor data.void_colour lists: {named}{', …' * (len(unknown) > 3)}"
        )
    return torch.from_numpy((found - 1).astype(np.uint8).reshape(size))
