"""YOLO segmentation: data.yaml, and a text file for each photo with a polygon a line.

See https://docs.ultralytics.com/datasets/segment/. A line has the class's number, then x and y of
each corner as shares of the photo's sides. Polygons are painted in their order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from toyfcn.data.annotations.field import Field, read_bytes, read_yaml
from toyfcn.data.annotations.shapes import (
    Annotations,
    Photo,
    Polygons,
    Shape,
    Size,
    is_file,
    is_folder,
    photo_at,
    polygon,
    size_of,
)
from toyfcn.data.layout import PHOTOS

SPLITS = ("train", "val", "test")
log = logging.getLogger(__name__)


def read(source: Path, photos: Path | None) -> Annotations:
    """Read data.yaml, or the folder that it is in; ``photos`` takes the place of its ``path``.

    A photo without a text file, or with an empty one, has no shape.

    Raises:
        ValueError: something is faulty; the message names the file and the line.
    """
    file = source / "data.yaml" if source.is_dir() else source
    top = read_yaml(file)
    names = class_names(top["names"])
    root = photos or root_of(top)
    split_of = dict[Path, str]()
    for split in SPLITS:
        given = top.get(split)
        listed = [] if given is None else list(photos_of(given, root))
        twice = [path for path in listed if split_of.setdefault(path, split) != split]
        if twice:
            log.warning("photos of %s that an earlier split has, and keeps: %d", split, len(twice))
    if not split_of:
        raise top.wrong(f"train, val and test name no photo below {root}")
    found = []
    for path, split in split_of.items():
        labels = label_file(path, root)
        size = size_of(path, top, None, None)
        shapes = list(shapes_in(labels, names, size)) if is_file(labels) else []
        found.append(Photo(path, size, shapes, Field(None, labels), split))
    return Annotations(found, names)


def class_names(at: Field) -> list[str]:
    """Return the names of the classes from 0 on: a list, or numbers with names.

    Raises:
        ValueError: it is neither, or a number is missing.
    """
    if not isinstance(at.value, dict):
        return [item.text() for item in at.items()]
    names = [at.value.get(number, at.value.get(str(number))) for number in range(len(at.value))]
    return [
        Field(name, at.file, f"{at.place}.{number}").text() for number, name in enumerate(names)
    ]


def root_of(top: Field) -> Path:
    """Return the folder that photos are named from: ``path``, if it is below the file's."""
    given, beside = top.get("path"), top.file.parent
    if given is None or given.text() in (".", "./"):
        return beside
    path = Path(given.text())
    inside = not path.is_absolute() and ".." not in path.parts and is_folder(beside / path)
    if not inside:
        log.warning("%s: path: %s is no folder below it: %s is used", top.file, path, beside)
    return beside / path if inside else beside


def photos_of(at: Field, root: Path) -> Iterator[Path]:
    """Yield the photos of a split: those of folders, or of text files with a path a line.

    Raises:
        ValueError: a folder or file is not there, or a path leads out.
    """
    for item in at.items() if isinstance(at.value, list) else [at]:
        name = item.text().removeprefix("./").removeprefix("../")  # as Roboflow writes it
        path = root / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise item.wrong(f"{name!r} leads out of {root} (photos=FOLDER takes its place)")
        if is_folder(path):
            found = (p for p in path.rglob("[!.]*") if p.suffix.lower() in PHOTOS)
            yield from sorted(found)
        elif path.suffix == ".txt" and is_file(path):
            for number, line in enumerate(lines_of(path), 1):
                if line:
                    place = Field(line, path, f"line {number}")
                    yield photo_at(place, root, line.removeprefix("./"))
        else:
            raise item.wrong(f"there is no folder or list {path}")


def label_file(photo: Path, root: Path) -> Path:
    """Return where the polygons of a photo are: labels/ in place of the last images/."""
    parts = list(photo.relative_to(root).parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file without what surrounds them.

    Raises:
        ValueError: it is no text.
    """
    try:
        return [line.strip() for line in read_bytes(file).decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise Field(None, file).wrong(f"byte {error.start}: no UTF-8 text") from None


def shapes_in(file: Path, names: list[str], size: Size) -> Iterator[Shape]:
    """Yield the polygons of a text file.

    Raises:
        ValueError: a line is none.
    """
    for number, line in enumerate(lines_of(file), 1):
        if not line:
            continue
        at = Field(line, file, f"line {number}")
        values = [Field(word, file, at.place).number() for word in line.split()]
        if values[0] not in range(len(names)):
            raise at.wrong(f"{values[0]:g} is no number of a class, 0 to {len(names) - 1}")
        if len(values) == 5:
            raise at.wrong("has 4 numbers behind the class: a box, not a polygon")
        if len(values) % 2 == 0:
            raise at.wrong(f"has {len(values) - 1} numbers behind the class, no pairs of x and y")
        corners = np.array(values[1:]).reshape(-1, 2) * size[::-1]
        yield Shape(names[int(values[0])], Polygons((polygon(at, corners, size),)), at)
