"""Annotations into what data=folder reads: photos, palette masks, lists, and a config file."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from toyfcn.config.data_commands import ConvertConfig
from toyfcn.config.option import as_list
from toyfcn.data.annotations import coco, cvat, labelme, labelstudio, yolo
from toyfcn.data.annotations.shapes import Annotations, Photo, is_file, is_folder, paint
from toyfcn.data.class_files import IGNORE, read_class_file
from toyfcn.data.layout import PHOTOS
from toyfcn.data.palettes import palette
from toyfcn.data.progress import progress
from toyfcn.data.source import VOID
from toyfcn.files import write_errors
from toyfcn.text import printable

READERS = {
    "labelme": labelme.read,
    "coco": coco.read,
    "cvat": cvat.read,
    "labelstudio": labelstudio.read,
    "yolo": yolo.read,
}
BACKGROUND = ("background", "_background_")  # names of label 0; labelme's is the second
SPLIT = re.compile(r"(?<![a-z])(?:(train)|(val|valid|validation)|(test))(?![a-z])")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """What is to be written: the photos by their ids, and the label of each class's name."""

    photos: Mapping[str, Photo]
    classes: list[str]
    labels: Mapping[str, int]
    splits: Mapping[str, list[str]]  # ids by list; none: split by fractions


def gather(config: ConvertConfig) -> Conversion:
    """Read all annotations and look at the head of each photo; write nothing.

    Raises:
        ValueError: something is missing or faulty; the message names the file and the place.
    """
    sources = [Path(path) for path in as_list(config.source)]
    folders = [Path(path) for path in as_list(config.photos or [])]
    if len(folders) not in (0, 1, len(sources)):
        raise ValueError(f"photos= names {len(folders)} folders: name one, or one for each source=")
    for option, paths in (("source", sources), ("photos", folders)):
        if missing := [path for path in paths if not (is_file(path) or is_folder(path))]:
            raise ValueError(f"{option}={missing[0]} does not exist")
    read = READERS[config.from_ or ""]
    found: list[Annotations] = []
    for number, source in enumerate(sources):
        folder = folders[number % len(folders)] if folders else None
        with np.errstate(all="ignore"):  # of absurd coordinates, which are refused
            part = read(source, folder)
        split = None
        if len(sources) > 1:
            split = split_of(source.stem) or split_of(source.absolute().parent.name)
        found.append(replace(part, photos=[in_split(photo, split) for photo in part.photos]))
    if left_out := sum((part.left_out for part in found), Counter[str]()):
        listed = ", ".join(f"{count} {printable(what)}" for what, count in left_out.items())
        log.warning("left out: %s", listed)
    photos = [photo for part in found for photo in part.photos]
    empty = sum(not photo.shapes for photo in photos)
    if empty and config.empty:
        log.warning("photos without a shape: %d, all background (empty=false: left out)", empty)
    photos = [photo for photo in photos if photo.shapes or config.empty]
    if not any(photo.shapes for photo in photos):
        raise ValueError(f"source={config.source} holds no shape that has an area")
    classes = class_names(config, found)
    photos = [as_classes(photo, config, classes) for photo in photos]
    labels = {name: label for label, name in enumerate(classes)}
    labels |= dict.fromkeys(BACKGROUND, 0) | dict.fromkeys((IGNORE, *config.void), VOID)
    named = by_id(photos)
    return Conversion(named, classes, labels, splits_of(named))


def split_of(name: str) -> str | None:
    """Return the split that a name speaks of, as in instances_val2017, if any."""
    found = SPLIT.search(name.lower())
    return ("train", "val", "test")[found.lastindex - 1] if found and found.lastindex else None


def in_split(photo: Photo, split: str | None) -> Photo:
    """Return a photo with the split of its source, or with its own under our name for it."""
    return replace(photo, split=split or split_of(photo.split or ""))


def class_names(config: ConvertConfig, found: list[Annotations]) -> list[str]:
    """Return the names of the labels from 0, background, on.

    Raises:
        ValueError: there are too many, or a given list is unreadable.
    """
    if isinstance(config.classes, str):
        try:
            names = read_class_file(Path(config.classes), VOID)
        except ValueError as error:  # which names the option of data=folder
            raise ValueError(re.sub(r"data\.classes(_file)?", "classes", str(error))) from None
    elif config.classes is not None:
        names = [str(name) for name in config.classes]
    elif all(part.classes is not None for part in found):
        names = [name for part in found for name in part.classes or ()]
    else:
        names = sorted({s.label for part in found for photo in part.photos for s in photo.shapes})
    kept = [name for name in names if name not in (*BACKGROUND, IGNORE, *config.void)]
    classes = list(dict.fromkeys(["background", *kept]))
    if not 2 <= len(classes) <= VOID:
        raise ValueError(f"there are {len(classes) - 1} classes: masks hold 1 to {VOID - 1}")
    for name in classes:
        if not name.strip() or not name.isprintable() or "${" in name or name == "???":
            raise ValueError(f"a class is called {name!r}: a config cannot hold this")
    return classes


def as_classes(photo: Photo, config: ConvertConfig, classes: list[str]) -> Photo:
    """Return a photo with its crowds as the config wants them, if all its classes are known.

    Raises:
        ValueError: one is not; the message names the place.
    """
    crowd = {"void": IGNORE, "background": "background"}.get(config.crowd)
    known = {*classes, *BACKGROUND, IGNORE, *config.void}
    shapes = []
    for shape in photo.shapes:
        label = crowd if shape.crowd and crowd is not None else shape.label
        if label not in known:
            raise shape.at.wrong(f"the class {label!r} is none of classes= (nor of void=)")
        shapes.append(replace(shape, label=label))
    return replace(photo, shapes=shapes)


def by_id(photos: list[Photo]) -> dict[str, Photo]:
    """Return photos by their file names without suffix; those of one name get their folders' too.

    Raises:
        ValueError: a photo is annotated twice, cannot be told from another, or is not readable.
    """
    seen = dict[Path, Photo]()
    for photo in photos:
        if (other := seen.setdefault(photo.path.absolute(), photo)) is not photo:
            raise photo.at.wrong(f"{photo.path} is annotated twice: {other.at.wrong('too')}")
        if photo.path.suffix.lower() not in PHOTOS:
            raise photo.at.wrong(f"{photo.path} is none of {', '.join(PHOTOS)}")
    common = Path(os.path.commonpath([path.parent for path in seen]))
    times = Counter(path.stem for path in seen)
    found = dict[str, Photo]()
    for path, photo in seen.items():
        parts = path.relative_to(common).with_suffix("").parts
        name = path.stem if times[path.stem] == 1 else "_".join(parts)
        if (other := found.setdefault(name, photo)) is not photo:
            raise photo.at.wrong(f"{path} and {other.path} would both be called {name}")
        if not name.isprintable():
            raise photo.at.wrong(f"{path} has a name that cannot be printed")
    return found


def splits_of(photos: Mapping[str, Photo]) -> dict[str, list[str]]:
    """Return the ids of each split, if all photos are in one, and there are train and val."""
    found: dict[str, list[str]] = {}
    for name, photo in photos.items():
        found.setdefault(photo.split or "", []).append(name)
    if found.keys() >= {"train", "val"} and "" not in found:
        return found
    if found.keys() - {"", "train"}:
        log.warning("no lists are kept: that needs train and val, and each photo in one of them")
    return {}


def write(conversion: Conversion, config: ConvertConfig, name: str) -> None:
    """Write the folder ``out``, whole or not at all.

    Raises:
        ValueError: it exists and is not empty, or cannot be written; nothing is left.
    """
    out = Path(config.out).absolute()
    if "${" in str(out):
        raise ValueError(f"out={config.out}: a config cannot hold a path with ${{")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"out={config.out} exists and is not empty: nothing is written over")
    stage = out.with_name(f".{out.name}.converting")
    with write_errors(f"write into {config.out}"):
        shutil.rmtree(stage, ignore_errors=True)  # left by one that was killed
        try:
            for part in ("images", "masks", "conf/data"):
                (stage / part).mkdir(parents=True)
            write_pairs(conversion, stage, os.link if config.link else shutil.copyfile)
            if conversion.splits:
                (stage / "lists").mkdir()
            for split, ids in conversion.splits.items():
                text = "".join(f"{one}\n" for one in ids)
                (stage / "lists" / f"{split}.txt").write_text(text, encoding="utf-8")
            text = data_config(conversion, config, name)
            (stage / "conf/data" / f"{name}.yaml").write_text(text, encoding="utf-8")
            if out.exists():
                out.rmdir()
            stage.rename(out)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def write_pairs(
    conversion: Conversion, folder: Path, place: Callable[[Path, Path], object]
) -> None:
    """Write the photos and their masks; ``place`` brings a photo from one path to another."""
    with progress("converting") as advance:
        for done, (name, photo) in enumerate(conversion.photos.items(), 1):
            place(photo.path, folder / "images" / f"{name}{photo.path.suffix}")
            mask = Image.fromarray(paint(photo, conversion.labels))
            mask.putpalette(palette())
            mask.save(folder / "masks" / f"{name}.png")
            advance(done, len(conversion.photos))


def data_config(conversion: Conversion, config: ConvertConfig, name: str) -> str:
    """Return the file that data=NAME reads."""
    values: dict[str, object] = {
        "name": name,
        "root": str(Path(config.out).absolute()),
        "images": "images",
        "masks": "masks",
        "classes": conversion.classes,
    }
    if conversion.splits:
        values["lists"] = "lists"
        if "test" not in conversion.splits:
            values["test_split"] = None
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return (
        f"# Converted from {config.from_}; root is to be changed where the folder moves.\n"
        f"defaults: [folder_schema, _self_]\n{text}"
    )
