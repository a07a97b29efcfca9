"""Which photos toyfcn-predict reads, and that no result replaces another or a photo."""

from __future__ import annotations

from collections import Counter
from glob import glob
from pathlib import Path

from toyfcn.config.commands import PredictConfig
from toyfcn.config.data import VOCConfig
from toyfcn.data.datasets import open_voc
from toyfcn.data.folder import PHOTOS
from toyfcn.data.locations import refuse_missing_source
from toyfcn.data.splits import sound_ids
from toyfcn.data.voc import CLASSES
from toyfcn.inference.evaluate import as_trained
from toyfcn.runs.checkpoint import Checkpoint

SUFFIXES = {*PHOTOS, ".gif", ".ppm"}


def refuse_collisions(photos: list[Path], out: Path, config: PredictConfig) -> None:
    """Check that no result replaces another one, or a photo.

    Raises:
        ValueError: naming the photos.
    """
    ends = [".png"] + ["_overlay.png"] * (config.format != "voc_server")
    ends += ["_scores.npz"] * config.scores
    made: dict[str, Path] = {}
    for photo in photos:
        for name in (f"{photo.stem}{end}" for end in ends):
            other = made.setdefault(name, photo)
            if other != photo:
                raise ValueError(
                    f"source={config.source}: {other} and {photo} would both be written to "
                    f"{out / name}: rename one, or predict them into two folders"
                )
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    ours = {(out / name).resolve() for name in there & set(made)}
    if ours and (lost := [photo for photo in photos if photo.resolve() in ours]):
        raise ValueError(f"out={config.out} would write over {lost[0]}: choose another folder")


def find_photos(source: str | list[str] | None) -> list[Path]:
    """Return the photos that files, folders or globs name: sorted within each, each once.

    What lies there beside them is printed, but for hidden files.

    Raises:
        ValueError: nothing is named, it is not there, or no photo is found.
    """
    if not source:
        raise ValueError("source= is missing: name a photo, a folder of photos or a glob")
    if isinstance(source, list):
        return list(dict.fromkeys(photo for item in source for photo in find_photos(item)))
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.iterdir())
    else:
        refuse_missing_source(source)
        found = sorted(map(Path, glob(str(path), recursive=True)))
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
    return photos


def what_else(path: Path) -> str:
    """Say what a path is that is no photo."""
    if path.is_dir():
        return "folder" if path.suffix.lower() not in SUFFIXES else f"folder {path.name}"
    if path.is_symlink() and not path.exists():
        return f"dangling link {path.name}"
    return path.suffix.lower() or "file without suffix"


def submission(config: PredictConfig, loaded: Checkpoint) -> tuple[list[Path], Path]:
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
    return photos, Path(config.out, "results", f"VOC{data.year}", "Segmentation", folder)
