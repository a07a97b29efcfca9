"""The toy VOC, drawn instead of downloaded: scenes in exactly the layout of a VOC year."""

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from toyfcn.data.shapes.scene import CLASSES, scene

Progress = Callable[[int, int], None]

FORMAT = 1  # of the world: raise it with any change that moves a pixel
SPLITS = ("train", "val", "test")  # a split's index is the number of its random stream
FEW = 200  # fewer images than this are drawn without a pool of processes


def _save(folder: Path, seed: int, size: tuple[int, int], job: tuple[str, int]) -> None:
    """Draw image `index` of a split into `folder`: its randomness depends on nothing else."""
    split, index = job
    stream = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index))
    photo, mask = scene(np.random.default_rng(stream), size)
    name = f"{split}_{index:06d}"
    photo.save(folder / "JPEGImages" / f"{name}.jpg", quality=92)
    mask.save(folder / "SegmentationClass" / f"{name}.png")


def _is_drawn(folder: Path, world: dict[str, Any]) -> bool:
    """Tell whether `folder` holds this world. Raise ValueError where it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"{folder} holds something that toyfcn did not draw: "
            "name a new or empty folder for the shapes"
        )
    differ = [key for key in {**world, **found} if world.get(key) != found.get(key)]
    if differ:
        raise ValueError(
            f"{folder} holds shapes drawn with other settings ("
            + ", ".join(f"{k}: {found.get(k)} there, {world.get(k)} asked for" for k in differ)
            + "): name another folder, or delete this one to have it drawn anew"
        )
    return True


def draw(
    folder: Path,
    *,
    seed: int = 0,
    train: int = 1000,
    val: int = 100,
    test: int = 200,
    size: tuple[int, int] = (96, 96),
    progress: Progress | None = None,
) -> Path:
    """Draw the world into `folder`, in the layout of a VOC year, and return `folder`.

    `train`, `val` and `test` count images, `size` is (height, width) in pixels, at least 48x48.
    `progress(done, total)` is called after each image. A world that is there already, with the same
    settings, is left as it is; anything else in `folder` raises ValueError. The folder appears
    at once and whole: an interrupted draw leaves none.
    """
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    if seed < 0 or min(counts.values()) < 0 or min(size) < 48:
        raise ValueError(
            f"seed={seed}, {train}+{val}+{test} images of {size[0]}x{size[1]} pixels cannot be "
            "drawn: seed and counts start at 0, and a photo is at least 48x48 pixels"
        )
    world = {"format": FORMAT, "seed": seed, **counts, "size": list(size), "classes": list(CLASSES)}
    home = folder.resolve()
    if _is_drawn(home, world):
        return folder
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{home.name}-", dir=home.parent) as scratch:
        fresh = Path(scratch) / home.name
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (fresh / part).mkdir(parents=True)
        jobs = [(split, index) for split in SPLITS for index in range(counts[split])]
        _save_all(partial(_save, fresh, seed, size), jobs, progress or (lambda done, total: None))
        for name, splits in {**{s: (s,) for s in SPLITS}, "trainval": ("train", "val")}.items():
            ids = [f"{split}_{index:06d}\n" for split, index in jobs if split in splits]
            (fresh / f"ImageSets/Segmentation/{name}.txt").write_text("".join(ids))
        (fresh / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
        (fresh / "world.json").write_text(json.dumps(world, indent=2) + "\n")
        try:
            fresh.rename(home)
        except OSError:
            if not _is_drawn(home, world):  # else somebody finished the same world first
                raise
    return folder


def _save_all(
    save: Callable[[tuple[str, int]], None], jobs: list[tuple[str, int]], progress: Progress
) -> None:
    """Run every job: here if they are few, else in as many processes as there are cores."""
    if len(jobs) < FEW:
        for done, job in enumerate(jobs, 1):
            save(job)
            progress(done, len(jobs))
        return
    # Forked workers start at once and do not import the caller's main module (torch) again.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context(method)) as pool:
        for done, _ in enumerate(pool.map(save, jobs, chunksize=16), 1):
            progress(done, len(jobs))
