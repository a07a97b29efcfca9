"""CVAT for images 1.1: one XML file with all photos.

See https://docs.cvat.ai/docs/manual/advanced/xml_format/. Shapes are painted by their ``z_order``,
those of one in their order in the file. Boxes and ellipses count as areas.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from toyfcn.data.annotations.field import Field, read_bytes
from toyfcn.data.annotations.shapes import (
    Annotations,
    Area,
    Photo,
    Points,
    Polygons,
    Shape,
    Size,
    ellipse,
    is_file,
    near,
    photo_at,
    polygon,
    rectangle,
    runs,
    size_of,
    turned,
)

AREAS = ("polygon", "mask", "box", "ellipse")
NO_AREAS = ("polyline", "points", "cuboid", "skeleton", "tag")


def read(source: Path, photos: Path | None) -> Annotations:
    """Read an XML file, or annotations.xml or the only one in a folder; photos are in images/ there
    by default.

    Raises:
        ValueError: it is faulty; the message names the file, the photo and the shape.
    """
    file = source
    if source.is_dir():
        files = list(source.glob("*.xml"))  # other tools than CVAT name theirs otherwise
        file = files[0] if len(files) == 1 else source / "annotations.xml"
    root = read_xml(file)
    beside = file.parent / "images"
    folder = photos or (beside if beside.is_dir() else file.parent)
    classes = [
        Field(name.text, file, f"meta: label {number}").text()
        for number, name in enumerate(root.iterfind("meta//labels/label/name"), 1)
    ]
    found, left_out = list[Photo](), Counter[str]()
    for image in root.iterfind("image"):
        at = Field(image.attrib, file, f"image {image.get('name') or image.get('id')!r}")
        path = photo_of(at, folder)
        size = size_of(path, at, at["height"], at["width"])
        layers, counted = list[tuple[int, Shape]](), Counter[str]()
        for element in image:
            counted[element.tag] += 1
            part = Field(element.attrib, file, f"{at.place}: {element.tag} {counted[element.tag]}")
            if element.tag not in AREAS:
                if element.tag not in NO_AREAS:
                    raise part.wrong("is nothing that CVAT for images 1.1 has")
                left_out[element.tag] += 1
                continue
            label = part["label"].text()
            if classes and label not in classes:
                raise part.wrong(f"the label {label!r} is none of those in <meta>")
            z_order = part.get("z_order")
            shape = Shape(label, area(element.tag, part, size), part)
            layers.append((0 if z_order is None else z_order.integer(), shape))
        shapes = [shape for _, shape in sorted(layers, key=lambda layer: layer[0])]
        found.append(Photo(path, size, shapes, at, image.get("subset")))
    return Annotations(found, classes or None, left_out)


def read_xml(file: Path) -> ElementTree.Element:
    """Read CVAT's XML; no file with entities of its own is.

    Raises:
        ValueError: it is no XML, or of another of CVAT's formats.
    """
    content, top = read_bytes(file), Field(None, file)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise top.wrong("has a DOCTYPE, which no file of CVAT has")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # of unknown encodings too
        raise top.wrong(f"is not XML: {error}") from None
    if root.tag != "annotations":
        raise top.wrong(f"is <{root.tag}>, not <annotations>: export as CVAT for images 1.1")
    if root.find("track") is not None:
        raise top.wrong("has tracks of a video: export as CVAT for images 1.1")
    return root


def photo_of(at: Field, folder: Path) -> Path:
    """Return the photo of an image; exports of projects have a folder for each subset."""
    name, subset = at["name"], at.get("subset")
    inside = "" if subset is None else f"{subset.text()}/{name.text()}"
    return photo_at(name, folder, inside if is_file(folder / inside) else name.text())


def area(kind: str, at: Field, size: Size) -> Area:
    """Return the pixels of a shape.

    Raises:
        ValueError: it is faulty.
    """
    if kind == "polygon":
        return Polygons((polygon(at, points_in(at["points"]), size),))
    if kind == "mask":
        left, top, width, height = (at[key].integer() for key in ("left", "top", "width", "height"))
        place = at["rle"]
        words = place.text().split(",")
        counts = np.array([Field(word, at.file, place.place).number() for word in words])
        return runs(place, counts, (left, top, width, height), size, by_rows=True)
    rotation = at.get("rotation")
    degrees = 0.0 if rotation is None else rotation.number()
    if kind == "box":
        x0, y0, x1, y1 = (at[key].number() for key in ("xtl", "ytl", "xbr", "ybr"))
        corners, center = rectangle(x0, y0, x1, y1), ((x0 + x1) / 2, (y0 + y1) / 2)
    else:
        x, y, a, b = (at[key].number() for key in ("cx", "cy", "rx", "ry"))
        corners, center = ellipse(x, y, a, b), (x, y)
    return Polygons((near(at, turned(corners, center, degrees), size),))


def points_in(at: Field) -> Points:
    """Return the points that a text lists as x,y;x,y: float64 (N, 2).

    Raises:
        ValueError: it is no such text.
    """
    rows = []
    for number, pair in enumerate(at.text().split(";")):
        part = Field(pair, at.file, f"{at.place}[{number}]")
        xy = pair.split(",")
        if len(xy) != 2:
            raise part.wrong(f"{pair[:40]!r} is not x,y")
        rows.append([Field(value, at.file, part.place).number() for value in xy])
    return np.array(rows, np.float64)
