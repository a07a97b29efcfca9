"""Label Studio: the JSON export. Polygons, brushes (RLE), rectangles and ellipses are painted.

See https://labelstud.io/guide/export. Shapes are painted in the order of an annotation's results.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

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
    ellipse,
    is_file,
    near,
    photo_at,
    polygon,
    rectangle,
    runs_of,
    size_of,
    turned,
)

KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload
log = logging.getLogger(__name__)


def read(source: Path, photos: Path | None) -> Annotations:
    """Read an export; its photos lie below ``photos``, or else beside it.

    Raises:
        ValueError: it is faulty; the message names the file and the place.
    """
    found, left_out, several = list[Photo](), Counter[str](), 0
    for task in read_json(source).items():
        sound = [at for at in task["annotations"].items() if not cancelled(at)]
        several += len(sound) > 1
        if not sound:
            left_out["tasks without an annotation"] += 1
            continue
        name = picture_name(task["data"])
        path = find_photo(name, photos or source.parent)
        size, shapes = size_of(path, name, None, None), []
        for at in sound[0]["result"].items():
            kind = at["type"].text()
            if kind not in KINDS:
                left_out[kind] += 1
                continue
            size_of(path, at, at["original_height"], at["original_width"])
            if (turn := at.get("image_rotation")) is not None and turn.number():
                raise turn.wrong("the photo was turned in Label Studio: turn its file instead")
            value = at["value"]
            named = value[kind].items()
            if len(named) != 1:
                raise value[kind].wrong(f"names {len(named)} labels, not one")
            shapes.append(Shape(named[0].text(), area(kind, value, size), at))
        found.append(Photo(path, size, shapes, task))
    if several:
        log.warning("photos with several annotations, of which the first counts: %d", several)
    return Annotations(found, None, left_out)


def cancelled(at: Field) -> bool:
    """Tell whether an annotation was skipped."""
    skipped = at.get("was_cancelled")
    return skipped is not None and skipped.value is True


def picture_name(data: Field) -> Field:
    """Return what names the picture of a task: its ``image``, or the only text it has.

    Raises:
        ValueError: there is none.
    """
    if (image := data.get("image")) is not None:
        return image
    texts = [key for key, value in data.value.items() if isinstance(value, str)]
    if len(texts) != 1:
        raise data.wrong("has no image")
    return data[texts[0]]


def find_photo(name: Field, folder: Path) -> Path:
    """Return the photo in a folder that a URL names: by as much of the URL's end as is there.

    Raises:
        ValueError: there is none.
    """
    try:
        url = urlsplit(name.text())
        inner = parse_qs(url.query).get("d", [unquote(url.path)])[0]  # /data/local-files/?d=a/b.jpg
    except ValueError as error:
        raise name.wrong(f"is no URL: {error}") from None
    parts = [part for part in PurePosixPath(inner.replace("\\", "/")).parts if part != "/"]
    last = parts[-1] if parts else ""
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    for end in (*ends, UPLOADED.sub("", last)):
        if end and ".." not in end.split("/") and is_file(folder / end):
            return photo_at(name, folder, end)
    return photo_at(name, folder, last or name.text())


def area(kind: str, value: Field, size: Size) -> Area:
    """Return the pixels of a result; all but brushes are in percent of the photo's sides.

    Raises:
        ValueError: it is faulty.
    """
    if kind == "brushlabels":
        return brush(value["rle"], size)
    height, width = size
    sides = np.array([width, height]) / 100
    if kind == "polygonlabels":
        return Polygons((polygon(value["points"], value["points"].points() * sides, size),))
    turn = value.get("rotation")
    degrees = 0.0 if turn is None else turn.number()
    x, y = value["x"].number() * sides[0], value["y"].number() * sides[1]
    if kind == "rectanglelabels":
        right = x + value["width"].number() * sides[0]
        corners = rectangle(x, y, right, y + value["height"].number() * sides[1])
    else:
        a, b = value["radiusX"].number() * sides[0], value["radiusY"].number() * sides[1]
        corners = ellipse(x, y, a, b)
    return Polygons((near(value, turned(corners, (x, y), degrees), size),))


def brush(at: Field, size: Size) -> Area:
    """Return the pixels of a brush: those whose alpha is not 0 in a packed RGBA picture.

    The bits of the bytes (https://github.com/thi-ng/umbrella, rle-pack) say: 32, how many values;
    5, the bits of a value, less 1; 4 times 4, the bits of a count, less 1. Then for each block: 1,
    whether it repeats one value; 2, which of the counts' sizes; the count, less 1; the value, or
    as many of them.

    Raises:
        ValueError: they do not say so, or not as many as the photo needs.
    """
    values = at.numbers()
    if ((values < 0) | (values > 255) | (values % 1 != 0)).any():
        raise at.wrong("is no list of bytes")
    bits = np.unpackbits(values.astype(np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise at.wrong("the RLE ends too early")
        return int("".join(map(str, bits[place - count : place])), 2)

    total, wanted = take(32), 4 * size[0] * size[1]
    if total != wanted:
        raise at.wrong(f"the RLE has {total} values, not 4 x {size[0]} x {size[1]} = {wanted}")
    word = take(5) + 1
    if word > 8:
        raise at.wrong(f"the RLE has values of {word} bits, not 8")
    sizes = [take(4) + 1 for _ in range(4)]
    out: NDArray[np.uint8] = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeated = take(1)
        end = done + 1 + take(sizes[take(2)])
        if end > total:
            raise at.wrong(f"the RLE has more than {total} values")
        if repeated:
            out[done:end] = take(word)
        else:
            out[done:end] = [take(word) for _ in range(end - done)]
        done = end
    return runs_of(out.reshape(*size, 4)[..., 3] > 0)
