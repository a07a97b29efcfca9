"""TIFFs that Pillow does not read whole: of several bands, and of colors with 16 bits a channel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from toyfcn.config.extras import import_extra
from toyfcn.data.scale import has_16_bits

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Bands:
    """An opened TIFF: the page, or the pages of one band each, that ``part`` reads.

    ``more``: there are other photos behind it; ``colors``: its first three bands are red, green and
    blue; ``orientation`` is EXIF's.
    """

    part: Any
    more: bool
    colors: bool
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as stored."""
        return self._length("Y"), self._length("X")

    @property
    def count(self) -> int:
        """How many bands there are."""
        return self._length(self.band_axis)

    def _length(self, axis: str) -> int:
        return int(dict(zip(self.part.axes, self.part.shape, strict=True)).get(axis, 1))

    @property
    def band_axis(self) -> str:
        """What tifffile calls the axis of the bands; "": there is one band."""
        return str(self.part.axes).replace("Y", "").replace("X", "")

    def values(self) -> NDArray[Any]:
        """Read all bands as they are stored: (H, W, bands)."""
        found = np.asarray(self.part.asarray())
        if found.ndim != len(self.part.axes):
            raise ValueError(f"its pixels are {found.shape}, not {self.part.axes} as it claims")
        if not self.band_axis:
            return found[..., None]
        return np.moveaxis(found, self.part.axes.index(self.band_axis), -1)


def needs_tifffile(file: BinaryIO, channels: int) -> bool:
    """Tell whether a file is a TIFF that Pillow does not read whole as ``channels`` channels."""
    magic = file.read(4)
    file.seek(0)
    if magic not in MAGIC:
        return False
    try:
        with Image.open(file) as image:
            deep_colors = has_16_bits(image) and image.mode in ("RGB", "RGBA")  # Pillow keeps 8
            return channels not in (1, 3) or deep_colors
    except UnidentifiedImageError:
        return True
    except Exception:  # of a damaged file, which Pillow then says
        return False
    finally:
        file.seek(0)


@contextlib.contextmanager
def opened_tiff(file: BinaryIO, limit: int) -> Iterator[Bands]:
    """Open a TIFF by its header: one page of several bands, or as many pages of one band.

    Raises:
        ValueError: tifffile is not installed, or this is no photo of at most ``limit`` pixels.
    """
    tifffile = import_extra("tifffile", "tiff", "a TIFF that Pillow does not read whole")
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        part = page if page.samplesperpixel > 1 else tiff.series[0]
        more = tiff.series[0].ndim > part.ndim
        colors = page.photometric == tifffile.PHOTOMETRIC.RGB
        orientation = page.tags.valueof(274, default=1)
        found = Bands(part, more, colors, orientation)
        if len(found.band_axis) > 1 or part.dtype is None or part.dtype.kind not in "uif":
            raise ValueError(f"it holds {part.dtype} with the axes {part.axes}, not bands")
        height, width = found.size
        if height * width > limit or height * width * found.count > 32 * limit:
            raise ValueError(f"it claims {width} x {height} pixels of {found.count} channels")
        yield found
