"""labelme: a JSON file for each photo. Shapes are drawn as labelme's own ``shapes_to_label`` does.

See https://github.com/wkentaro/labelme: ``labelme/utils/shape.py``.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from toyfcn.data.annotations.field import Field, read_json
from toyfcn.data.annotations.shapes import (
    Annotations,
    Area,
    Drawn,
    Photo,
    Shape,
    Size,
    near,
    photo_at,
    polygon,
    runs_of,
    size_of,
)
from toyfcn.data.image_io import reason_of

POINTS = {"circle": 2, "rectangle": 2, "line": 2, "point": 1, "oriented_rectangle": 4}
KINDS = (*POINTS, "polygon", "linestrip", "mask")


def read(source: Path, photos: Path | None) -> Annotations:
    """Read a folder of labelme's files, those in folders below it too, or one file.

    With ``photos``, a photo lies there as its JSON file lies below ``source``.

    Raises:
        ValueError: there is none, or one is faulty; the message names the file and the place.
    """
    files = sorted(source.rglob("[!.]*.json")) if source.is_dir() else [source]
    if not files:
        raise ValueError(f"source={source} holds no .json file of labelme")
    found, left_out = list[Photo](), Counter[str]()
    for file in files:
        top = read_json(file)
        named = top["imagePath"]
        if photos is None:
            path = photo_at(named, file.parent, named.text())
        else:
            below = file.parent.relative_to(source) if source.is_dir() else Path()
            path = photo_at(named, photos / below, PureWindowsPath(named.text()).name)
        size = size_of(path, named, top.get("imageHeight"), top.get("imageWidth"))
        shapes = []
        for at in top["shapes"].items():
            label, kind = at["label"].text(), kind_of(at)
            if kind in KINDS:
                shapes.append(Shape(label, area(at, kind, size), at))
            else:
                left_out[kind] += 1
        found.append(Photo(path, size, shapes, top))
    return Annotations(found, None, left_out)


def kind_of(at: Field) -> str:
    """Return the kind of a shape; the oldest files have polygons only, and do not say so."""
    kind = at.get("shape_type")
    return "polygon" if kind is None else kind.text()


def area(at: Field, kind: str, size: Size) -> Area:
    """Return the pixels of a shape.

    Raises:
        ValueError: it is faulty.
    """
    place = at["points"]
    points = place.points()
    if kind == "mask":
        return mask_area(at, points, size)
    if kind == "polygon":
        return Drawn(kind, polygon(place, points, size))
    if len(points) != POINTS.get(kind, len(points)) or len(points) < POINTS.get(kind, 2):
        raise place.wrong(f"a {kind} has {POINTS.get(kind, '2 or more')} points: {len(points)}")
    return Drawn(kind, near(place, points, size))


def mask_area(at: Field, points: np.ndarray, size: Size) -> Area:
    """Return the pixels of a mask: a PNG in base64, for the rectangle between two points.

    Raises:
        ValueError: it is no such picture, of another size, or leads out of the photo.
    """
    place = at["mask"]
    if len(points) != 2:
        raise at["points"].wrong(f"a mask has 2 points: {len(points)}")
    (left, top), (right, bottom) = near(at["points"], points, size).astype(int).tolist()
    wanted = (right - left + 1, bottom - top + 1)
    if min(left, top) < 0 or right >= size[1] or bottom >= size[0]:
        raise at["points"].wrong("the mask leads out of the photo")
    try:
        with Image.open(io.BytesIO(base64.b64decode(place.text(), validate=True))) as image:
            stated = image.size
            pixels = np.array(image) if stated == wanted else None
    except Exception as error:  # decoders raise anything over damaged bytes
        raise place.wrong(f"is no picture in base64: {reason_of(error)}") from None
    if pixels is None or pixels.ndim != 2:
        raise place.wrong(f"is a picture of {stated}, not one channel of {wanted} pixels")
    return runs_of(pixels.astype(bool), left, top)
