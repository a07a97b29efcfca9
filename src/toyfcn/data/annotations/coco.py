"""COCO: one JSON file with images, categories and annotations: polygons and RLE, crowds too.

See https://cocodataset.org/#format-data. Shapes are painted in the order of the annotations.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyfcn.data.annotations.field import Field, read_json
from toyfcn.data.annotations.shapes import (
    Annotations,
    Area,
    Photo,
    Polygons,
    Shape,
    Size,
    photo_at,
    polygon,
    runs,
    size_of,
)

Id = int | str


def read(source: Path, photos: Path | None) -> Annotations:
    """Read a COCO file; its photos lie below ``photos``, or else beside it.

    Raises:
        ValueError: it is faulty; the message names the file and the place.
    """
    top = read_json(source)
    names = {key: at["name"].text() for key, at in by_id(top["categories"]).items()}
    images = by_id(top["images"])
    found = {}
    for key, at in images.items():
        path = photo_at(at["file_name"], photos or source.parent, at["file_name"].text())
        found[key] = path, size_of(path, at, at.get("height"), at.get("width"))
    shapes: defaultdict[Id, list[Shape]] = defaultdict(list)
    for at in by_id(top["annotations"]).values():
        image, category = at["image_id"], at["category_id"]
        if image.identifier() not in images:
            raise image.wrong(f"no image has the id {image.value!r}")
        if category.identifier() not in names:
            raise category.wrong(f"no category has the id {category.value!r}")
        crowd = at.get("iscrowd")
        if crowd is not None and crowd.integer() not in (0, 1):
            raise crowd.wrong(f"is {crowd.value}, not 0 or 1")
        size = found[image.value][1]
        shapes[image.value].append(
            Shape(
                names[category.value],
                area(at["segmentation"], size),
                at,
                crowd is not None and crowd.value == 1,
            )
        )
    listed = [Photo(*found[key], shapes[key], at) for key, at in images.items()]
    return Annotations(listed, [names[key] for key in sorted(names, key=rank)])


def rank(key: Id) -> tuple[bool, int, str]:
    """Sort ids: numbers first, by their value, then texts."""
    return (True, 0, key) if isinstance(key, str) else (False, key, "")


def by_id(listed: Field) -> dict[Id, Field]:
    """Return the objects of a list by their ids.

    Raises:
        ValueError: an id is missing or given twice.
    """
    found: dict[Id, Field] = {}
    for at in listed.items():
        key = at["id"].identifier()
        if key in found:
            raise at["id"].wrong(f"{found[key].place} has the id {key!r} too")
        found[key] = at.noted(f"id {key}")
    return found


def area(at: Field, size: Size) -> Area:
    """Return the pixels of a segmentation.

    Raises:
        ValueError: it is faulty.
    """
    if isinstance(at.value, dict):
        height, width = size
        stated = at["size"].numbers().tolist()
        if stated != [height, width]:
            raise at["size"].wrong(f"is {stated}, but the photo is {[height, width]}")
        place = at["counts"]
        lengths = decompressed(place) if isinstance(place.value, str) else place.numbers()
        return runs(place, lengths, (0, 0, width, height), size, by_rows=False)
    parts = at.items()
    if not parts:
        raise at.wrong("is empty: a box alone is no mask")
    rings = []
    for part in parts:
        values = part.numbers()
        if len(values) % 2:
            raise part.wrong(f"has {len(values)} numbers, which are no pairs of x and y")
        rings.append(polygon(part, values.reshape(-1, 2), size))
    return Polygons(tuple(rings))


def decompressed(at: Field) -> NDArray[np.float64]:
    """Return the lengths of runs that COCO's compressed text stands for.

    Each is written in digits of 5 bits, the lowest first, from the third on as the difference to
    the one before the last. (pycocotools reads beyond the end of a text that was cut off.)

    Raises:
        ValueError: it is no such text.
    """
    lengths: list[int] = []
    value = shift = 0
    for place, char in enumerate(at.value):
        digit = ord(char) - 48
        if not 0 <= digit < 64 or shift > 40:
            raise at.wrong(f"character {place} is {char!r}, which no compressed RLE has there")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:  # the last digit of this number; its highest bit is the sign
            value -= (digit >> 4 & 1) << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise at.wrong("the compressed RLE ends in the middle of a number")
    return np.array(lengths, np.float64)
