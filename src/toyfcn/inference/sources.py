"""Which photos toyfcn-predict reads, and that no result replaces another or a photo."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path, PurePath
from typing import NamedTuple

from toyfcn.config.data import VOCConfig
from toyfcn.config.inference import PredictConfig
from toyfcn.data.datasets import open_voc
from toyfcn.data.layout import PHOTOS
from toyfcn.data.locations import refuse_missing_source
from toyfcn.data.splits import sound_ids
from toyfcn.data.voc import CLASSES
from toyfcn.files import write_errors
from toyfcn.runs.checkpoint import Checkpoint, as_trained

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
SUFFIXES = {*PHOTOS, ".gif", ".ppm", *VIDEOS}


class Photo(NamedTuple):
    """A photo, and what its results are called: a path without suffix, from ``out`` on.

    Or a video, whose results are in a folder of that name, or one frame of it, counted from 1.
    """

    path: Path
    name: str
    frame: int | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is a whole video."""
        return self.frame is None and self.path.suffix.lower() in VIDEOS

    @property
    def label(self) -> str:
        """What tables call it: with the photo's suffix."""
        return self.name + (self.path.suffix if self.frame is None else "")


def endings(config: PredictConfig) -> list[str]:
    """Return what the names of a photo's own results end with."""
    ends = {
        ".png": True,
        "_overlay.png": config.format != "voc_server",
        "_scores.npz": config.scores,
        "_confidence.png": config.confidence,
        ".json": config.polygons == "labelme",
    }
    return [end for end, wanted in ends.items() if wanted]


def refuse_collisions(photos: Sequence[Photo], out: Path, config: PredictConfig) -> None:
    """Check that no result replaces another one, or a photo.

    Raises:
        ValueError: naming the photos.
    """
    made: dict[str, Path] = {}
    films = {f"{photo.name}/": photo.path for photo in photos if photo.is_video}
    for photo in photos:
        ends = ["/"] if photo.is_video else endings(config)
        for name in (f"{photo.name}{end}" for end in ends):
            other = made.setdefault(name, photo.path)
            if other == photo.path:  # or it lies in the folder of a video's frames
                other = films.get(f"{PurePath(name).parent}/", other)
            if other != photo.path:
                raise ValueError(
                    f"source={config.source}: {other} and {photo.path} would both be written to "
                    f"{out / name}: rename one, or predict them into two folders"
                )
    there = {str(p.relative_to(out)) for p in out.rglob("*")} if out.is_dir() else set()
    ours = {(out / name).resolve() for name in there & set(made)}
    if ours and (lost := [photo.path for photo in photos if photo.path.resolve() in ours]):
        raise ValueError(f"out={config.out} would write over {lost[0]}: choose another folder")


def find_photos(source: str | list[str] | None, out: Path) -> list[Photo]:
    """Return the photos that files, folders or globs name: sorted within each, each once.

    Folders are searched to their depth, but for hidden ones and ``out``; below a folder, or where a
    glob's wildcards begin, results are in the same folders. ``-`` reads names from the standard
    input. What lies there beside photos is printed, but for hidden files.

    Raises:
        ValueError: nothing is named, it is not there, or no photo is found.
    """
    if not source:
        raise ValueError("source= is missing: name a photo, a folder of photos or a glob")
    if isinstance(source, list):
        every = (photo for item in source for photo in find_photos(item, out))
        return list({photo.path: photo for photo in reversed(list(every))}.values())[::-1]
    if source == "-":
        return named_photos(sys.stdin.read().splitlines())
    path = Path(source)
    if path.is_file():
        return [Photo(path, path.stem)]
    if path.is_dir():
        top, found = path, list(below(path, out.resolve()))
    else:
        refuse_missing_source(source)
        fixed = itertools.takewhile(lambda part: not has_magic(part), path.parts)
        top, found = Path(*fixed), sorted(map(Path, glob(str(path), recursive=True)))
    found = [p for p in found if not p.name.startswith(".")]
    photos = [p for p in found if p.suffix.lower() in SUFFIXES and p.is_file()]
    known = set(photos)
    others = Counter(what_else(p) for p in found if p not in known)
    left_out = ", ".join(f"{count} {what}" for what, count in sorted(others.items()))
    if not photos:
        held = f"holds {left_out}" if left_out else "is empty"
        raise ValueError(
            f"source={source} names no photo: it {held} (looked for {', '.join(sorted(SUFFIXES))})"
        )
    if left_out:
        print(f"left out of {source}: {left_out}")
    return [Photo(p, str(p.relative_to(top).with_suffix(""))) for p in photos]


def below(folder: Path, out: Path) -> Iterator[Path]:
    """Yield the files below a folder, and the links to folders, which are not followed.

    Raises:
        ValueError: a folder cannot be read.
    """
    with write_errors(f"read the folder {folder}"):
        paths = sorted(folder.iterdir())
    for path in paths:
        if not path.is_dir() or path.is_symlink():
            yield path
        elif not path.name.startswith(".") and path.resolve() != out:
            yield from below(path, out)


def named_photos(names: Iterable[str]) -> list[Photo]:
    """Return the photos of a list of names; results of relative ones are in the same folders.

    Raises:
        ValueError: there is no such photo, or no name.
    """
    photos = {}
    for path in (Path(name) for name in names if name.strip()):
        if not path.is_file():
            raise ValueError(f"source=-: {path} is no file")
        kept = not path.is_absolute() and ".." not in path.parts
        photos[path] = Photo(path, str(path.with_suffix("")) if kept else path.stem)
    if not photos:
        raise ValueError("source=-: the standard input names no photo")
    return list(photos.values())


def what_else(path: Path) -> str:
    """Say what a path is that is no photo."""
    if path.is_dir():
        return "folder" if path.suffix.lower() not in SUFFIXES else f"folder {path.name}"
    if path.is_symlink() and not path.exists():
        return f"dangling link {path.name}"
    return path.suffix.lower() or "file without suffix"


def submission(config: PredictConfig, loaded: Checkpoint) -> tuple[list[Photo], Path]:
    """Return the photos of a split, and the folder that PASCAL's server wants their masks in.

    Raises:
        ValueError: the data is no VOC, or a photo is missing.
    """
    data = as_trained(config.data, loaded.data, config.trust)
    if not isinstance(data, VOCConfig) or loaded.classes != list(CLASSES):
        raise ValueError(
            f"format=voc_server is for PASCAL's classes: data={data.name}, and the checkpoint has "
            f"{len(loaded.classes)} classes"
        )
    source = open_voc(data)
    lines = source.lines(config.split)
    photos = [
        source.image_path(name)
        for name in sound_ids(source.list_path(config.split), lines, source.id_fault)
    ]
    if missing := [photo for photo in photos if not photo.is_file()]:
        raise ValueError(f"split={config.split}: {len(missing)} photos are missing: {missing[0]}")
    folder = f"comp6_{config.split}_cls"  # comp6: trained on more than VOC's own masks
    named = [Photo(photo, photo.stem) for photo in photos]
    return named, Path(config.out, "results", f"VOC{data.year}", "Segmentation", folder)
