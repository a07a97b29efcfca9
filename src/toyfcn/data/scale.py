"""Values of more than 8 bits brought to 0..255, as data.black and data.white say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

log = logging.getLogger(__name__)
told: set[str] = set()  # warnings that this process has given


class Scale(NamedTuple):
    """What is black and what white in a photo of more than 8 bits; None: 65535 of 16 bits."""

    black: float = 0
    white: float | None = None

    @property
    def white_of_16_bits(self) -> float:
        """What is white in a photo of 16 bits."""
        return 65535 if self.white is None else self.white


AS_STORED = Scale()


def to_8_bits(deep: NDArray[Any], scale: Scale, path: Path) -> NDArray[np.uint8]:
    """Scale the values of a photo to uint8 of the same shape.

    Raises:
        ValueError: they are not of 16 bits from 0 on, and ``scale`` does not say what is white.
    """
    if scale.white is None and deep.dtype.name != "uint16":
        raise ValueError(
            f"its values are {deep.dtype.name}, which does not say what white is: set data.white, "
            "and data.black unless it is 0"
        )
    black, white = scale.black, scale.white_of_16_bits
    inside = (deep >= black) & (deep <= white)
    if not inside.all():
        low, high = np.nanmin(deep), np.nanmax(deep)
        warn_once(
            "photos hold values beyond data.black=%g and data.white=%g, which are cut off: those "
            "of %s are from %g to %g",
            *(black, white, path, low, high),
        )
    scaled = np.nan_to_num(deep.astype(np.float64), nan=black).clip(black, white) - black
    return np.asarray(np.floor(scaled * 255 / (white - black) + 0.5), np.uint8)


def has_16_bits(image: Image.Image) -> bool:
    """Tell whether an opened, not yet loaded picture stores 16 bits a channel."""
    return "16" in stored_mode(image)


def stored_mode(image: Image.Image) -> str:
    """Return how an opened, not yet loaded picture stores its pixels: Pillow's raw mode."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def warn_once(message: str, *about: object) -> None:
    """Warn of something, the first time in this process."""
    if message not in told:
        told.add(message)
        log.warning(message, *about)
