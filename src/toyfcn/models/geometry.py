"""Where a cell of a feature map lies in the image: strides, receptive fields and crop offsets.

Pure arithmetic after the FCN paper's method (the Caffe release's coord_map): every layer maps
an output's index i to an input coordinate a·i + b, and maps compose. A deconvolution is the inverse
of the convolution of its kernel, stride and padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Layer:
    """A layer that moves or resizes: ``kind`` is ``conv``, ``pool`` or ``deconv``."""

    kind: str
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Grid:
    """The cells of a feature map in pixels of the image.

    Cell i is centred at ``stride``·i + ``start`` (0 is the centre of the first pixel) and sees
    ``field`` pixels (its receptive field). The image's own grid is ``Grid()``.
    """

    stride: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    field: Fraction = Fraction(1)

    def through(self, layer: Layer) -> Grid:
        """Return the grid of a layer's output."""
        reach = Fraction(layer.kernel - 1, 2) - layer.padding
        if layer.kind == "deconv":
            seen = math.ceil(Fraction(layer.kernel, layer.stride))  # cells under one output cell
            stride = self.stride / layer.stride
            return Grid(stride, self.start - stride * reach, self.field + (seen - 1) * self.stride)
        return Grid(
            self.stride * layer.stride,
            self.start + self.stride * reach,
            self.field + (layer.kernel - 1) * self.stride,
        )


def chain(layers: Iterable[Layer], grid: Grid | None = None) -> Grid:
    """Return the grid after several layers, from the image or from ``grid`` on."""
    grid = grid or Grid()
    for layer in layers:
        grid = grid.through(layer)
    return grid


def crop_offset(of: Grid, onto: Grid) -> int:
    """Return how many cells to crop from the top left of one map so that it starts with another.

    Raises:
        ValueError: the strides differ, or the maps lie a part of a cell apart.
    """
    cells = (onto.start - of.start) / of.stride
    if of.stride != onto.stride or cells.denominator != 1:
        raise ValueError(
            f"maps of strides {of.stride} and {onto.stride} lie {cells} cells apart: no crop fits"
        )
    return int(cells)
