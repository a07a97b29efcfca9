"""Where a cell of a feature map lies in the image: strides, receptive fields and crop offsets.

Plain arithmetic, as in the FCN paper's Caffe release (coord_map): every layer maps an output index
i to an input coordinate a·i + b, and these maps compose. A deconvolution is the inverse of the
convolution with its kernel, stride and padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Layer:
    """A layer that changes positions or sizes: ``kind`` is ``conv``, ``pool`` or ``deconv``."""

    kind: str
    kernel: int
    stride: int = 1
    padding: int | Fraction = 0


@dataclass(frozen=True)
class Grid:
    """The cells of a feature map in pixels of the image.

    The center of cell i is at ``stride``·i + ``start`` (0 is the center of the first pixel); its
    receptive field is ``field`` pixels wide. The image's own grid is ``Grid()``.
    """

    stride: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    field: Fraction = Fraction(1)

    def through(self, layer: Layer) -> Grid:
        """Return the grid of the output of a layer applied to this one."""
        reach = Fraction(layer.kernel - 1, 2) - layer.padding
        if layer.kind == "deconv":
            cells = math.ceil(Fraction(layer.kernel, layer.stride))  # that one output cell sees
            stride = self.stride / layer.stride
            return Grid(stride, self.start - stride * reach, self.field + (cells - 1) * self.stride)
        return Grid(
            self.stride * layer.stride,
            self.start + self.stride * reach,
            self.field + (layer.kernel - 1) * self.stride,
        )


def chain(layers: Iterable[Layer], grid: Grid | None = None) -> Grid:
    """Return the grid after several layers, starting from the image or from ``grid``."""
    grid = grid or Grid()
    for layer in layers:
        grid = grid.through(layer)
    return grid


def crop_offset(of: Grid, onto: Grid) -> int:
    """Return how many cells to crop from the top left of one map to align it with another.

    Raises:
        ValueError: the strides differ, or the maps are a fraction of a cell apart.
    """
    cells = (onto.start - of.start) / of.stride
    if of.stride != onto.stride or cells.denominator != 1:
        raise ValueError(
            f"maps of strides {of.stride} and {onto.stride} are {cells} cells apart: no crop fits"
        )
    return int(cells)
