"""What annotations say of a photo: its shapes with their classes, and the mask that they make.

Coordinates are (x, y) in pixels; the upper left pixel reaches from (0, 0) to (1, 1).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from toyfcn.data.annotations.field import Field
from toyfcn.data.image_io import image_size

Size = tuple[int, int]  # height, width
Points = NDArray[np.float64]  # (N, 2)


class Area(Protocol):
    """The pixels of a shape."""

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """Return them for a photo of a size: bool (H, W)."""


@dataclass(frozen=True)
class Polygons:
    """What any of some polygons covers, each by the even-odd rule, as pycocotools paints it."""

    rings: tuple[Points, ...]

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """Return the pixels whose centers lie inside: bool (H, W)."""
        from pycocotools import mask as coco  # of the extra toyfcn[convert]

        runs = coco.frPyObjects([ring.ravel().tolist() for ring in self.rings], *size)
        return np.asarray(coco.decode(coco.merge(runs)), np.bool_)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs, outside and inside in turn, over a rectangle of the photo.

    ``box`` is (left, top, width, height); runs go down the columns, or along rows ``by_rows``.
    """

    lengths: NDArray[np.int64]
    box: tuple[int, int, int, int]
    by_rows: bool

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """Return the pixels of the runs inside: bool (H, W)."""
        left, top, width, height = self.box
        inside = np.arange(len(self.lengths)) % 2 == 1
        flat, found = np.repeat(inside, self.lengths), np.zeros(size, np.bool_)
        box = flat.reshape(height, width) if self.by_rows else flat.reshape(width, height).T
        found[top : top + height, left : left + width] = box
        return found


@dataclass(frozen=True)
class Drawn:
    """A shape that Pillow draws, lines and points too, as labelme's ``shape_to_mask`` does."""

    kind: str
    points: Points

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """Return the pixels that are drawn, outlines included: bool (H, W)."""
        image = Image.new("L", (size[1], size[0]))
        draw, xy = ImageDraw.Draw(image), [(x, y) for x, y in self.points.tolist()]
        if self.kind in ("circle", "point"):
            (x, y), r = xy[0], 5.0 if self.kind == "point" else math.dist(*xy)
            draw.ellipse((x - r, y - r, x + r, y + r), outline=1, fill=1)
        elif self.kind == "rectangle":
            draw.rectangle((*self.points.min(0), *self.points.max(0)), outline=1, fill=1)
        elif self.kind in ("line", "linestrip"):
            draw.line(xy, fill=1, width=10)
        else:
            draw.polygon(xy, outline=1, fill=1)
        return np.array(image, np.bool_)


@dataclass(frozen=True)
class Shape:
    """A class's name and its pixels; ``at`` is where the annotation stands."""

    label: str
    area: Area
    at: Field
    crowd: bool = False


@dataclass(frozen=True)
class Photo:
    """A photo of (height, width), upright, and its shapes, later ones above earlier ones."""

    path: Path
    size: Size
    shapes: list[Shape]
    at: Field
    split: str | None = None


@dataclass(frozen=True)
class Annotations:
    """What a file or folder of annotations holds.

    ``classes`` have the format's own order, None where it has none; ``left_out`` counts, by its
    kind, what has no area.
    """

    photos: list[Photo]
    classes: list[str] | None = None
    left_out: Counter[str] = field(default_factory=Counter)


def paint(photo: Photo, labels: Mapping[str, int]) -> NDArray[np.uint8]:
    """Paint the shapes of a photo over background, 0, in their order: uint8 (H, W).

    ``labels`` has the value of each class's name.
    """
    mask = np.zeros(photo.size, np.uint8)
    for shape in photo.shapes:
        mask[shape.area.mask(photo.size)] = labels[shape.label]
    return mask


# ---- checks that all formats share ----
def photo_at(at: Field, folder: Path, name: str) -> Path:
    """Return the photo that an annotation names, below a folder.

    Raises:
        ValueError: it is not there, or the name leads out of the folder.
    """
    windows = PureWindowsPath(name)  # which takes both slashes, and drives
    if windows.anchor or ".." in windows.parts:
        raise at.wrong(f"{name!r} leads out of the folder of the photos (photos=FOLDER names it)")
    path = folder / PurePosixPath(*windows.parts)
    if not is_file(path):
        raise at.wrong(f"there is no photo {path} (photos=FOLDER says where the photos are)")
    return path


def is_file(path: Path) -> bool:
    """Tell whether there is a file; of a name too long there is none, where Path's would fail."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Tell likewise whether there is a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def size_of(path: Path, at: Field, height: Field | None, width: Field | None) -> Size:
    """Return the (height, width) of a photo when upright, which an annotation may state too.

    Raises:
        ValueError: it is no picture, or of another size than stated.
    """
    try:
        size = image_size(path)
    except ValueError as error:
        raise at.wrong(str(error)) from None
    if height is not None and width is not None:
        stated = (height.integer(), width.integer())
        if stated != size:
            turned = ", turned by its EXIF orientation," if stated == size[::-1] else ""
            raise at.wrong(
                f"is said to be {stated[1]} x {stated[0]} pixels, but {path}{turned} has "
                f"{size[1]} x {size[0]}"
            )
    return size


def near(at: Field, points: Points, size: Size) -> Points:
    """Return points that lie in a photo, or outside by no more than its own size.

    Raises:
        ValueError: another one does not.
    """
    sides = np.array(size[::-1], np.float64)
    sound = (points >= -sides) & (points <= 2 * sides)  # which nan is not
    for x, y in points[~sound.all(1)][:1]:
        photo = f"the photo of {size[1]} x {size[0]} pixels"
        raise at.wrong(f"the point ({x:g}, {y:g}) lies far outside of {photo}")
    return points


def polygon(at: Field, points: Points, size: Size) -> Points:
    """Return the corners of a polygon.

    Raises:
        ValueError: there are less than three, or they are not near the photo.
    """
    if len(points) < 3:
        raise at.wrong(f"a polygon needs 3 points or more, not {len(points)}")
    return near(at, points, size)


def turned(points: Points, center: tuple[float, float], degrees: float) -> Points:
    """Return points turned clockwise, as one sees them, around a center."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    found: Points = (points - center) @ turn + center
    return found


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of an upright rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def ellipse(x: float, y: float, a: float, b: float) -> Points:
    """Return 360 points of an ellipse with the center (x, y) and upright half axes a and b."""
    angle = np.linspace(0, 2 * math.pi, 360, endpoint=False)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], 1)


def runs(
    at: Field,
    lengths: NDArray[np.float64],
    box: tuple[int, int, int, int],
    size: Size,
    by_rows: bool,
) -> Runs:
    """Return runs that fill their rectangle, which lies in the photo.

    Raises:
        ValueError: they do not, or it does not.
    """
    left, top, width, height = box
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise at.wrong(f"its rectangle {[*box]} leads out of the photo, {size[1]} x {size[0]}")
    if ((lengths < 0) | (lengths % 1 != 0)).any():
        raise at.wrong("the RLE has lengths that are no whole numbers from 0 on")
    if (total := lengths.sum()) != width * height:
        raise at.wrong(f"the RLE has {total:.0f} pixels, not {height} x {width} = {height * width}")
    return Runs(lengths.astype(np.int64), box, by_rows)


def runs_of(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> Runs:
    """Return the runs of a mask whose upper left pixel is (left, top)."""
    flat = np.concatenate([[False], mask.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return Runs(lengths.astype(np.int64), (left, top, mask.shape[1], mask.shape[0]), by_rows=True)
