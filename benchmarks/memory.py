"""Private memory of the training loader: 200, 2,000 and 20,000 small images, cache or not.

A fresh process for each figure reads every image once through the real loader and prints its
RssAnon (kB) afterwards, and that of its largest worker. The images are one drawn pair of 32x32
pixels under as many names (hard links). Linux only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from toyfcn.config.data import VOCConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source

SIZES = (200, 2_000, 20_000)


def world(root: Path, count: int) -> None:
    """Write a VOC2007 folder of ``count`` ids, with lists n200, n2000, … of the first ones."""
    folder = root / "VOCdevkit" / "VOC2007"
    photos, masks = folder / "JPEGImages", folder / "SegmentationClass"
    lists = folder / "ImageSets" / "Segmentation"
    for part in (photos, masks, lists):
        part.mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / "one.jpg")
    labels = Image.fromarray(rng.integers(0, 21, (32, 32), np.uint8))
    labels.putpalette(bytes(768))
    labels.save(folder / "one.png")
    ids = [f"2007_{i:06}" for i in range(count)]
    for name in ids:
        (photos / f"{name}.jpg").hardlink_to(folder / "one.jpg")
        (masks / f"{name}.png").hardlink_to(folder / "one.png")
    for size in SIZES:
        (lists / f"n{size}.txt").write_text("".join(f"{name}\n" for name in ids[:size]))


def private(process: str = "self") -> int:
    """Return a process's RssAnon in kB."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1])


def read_all(root: str, size: str, workers: str, cache: str) -> None:
    """Read every image once; print RssAnon of this process and of its largest worker, in kB."""
    torch.set_num_threads(1)
    config = VOCConfig(
        root=root, train_split=f"n{size}", batch_size=10, workers=int(workers), cache=cache
    )
    config.cache_folder = f"{root}/cache"
    loader = SegmentationData(open_source(config), config).train_dataloader()
    assert sum(len(batch["id"]) for batch in loader) == int(size)
    left = loader._iterator  # keeps the workers alive, to measure them
    pids = [str(worker.pid) for worker in getattr(left, "_workers", [])]
    print(private(), max(map(private, pids), default=0))


def measure(root: Path, size: int, workers: int, cache: str) -> list[int]:
    """Run ``read_all`` in a process of its own; return the numbers that it prints."""
    words = [str(root), str(size), str(workers), cache]
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def main() -> None:
    """Print the figures, and the ratio of the largest data set's to the smallest's."""
    with tempfile.TemporaryDirectory() as folder:
        world(Path(folder), max(SIZES))
        for workers in (0, 2):
            for cache in ("none", "disk"):
                found = [measure(Path(folder), size, workers, cache) for size in SIZES]
                for who, kb in zip(("main", "worker"), zip(*found, strict=True), strict=True):
                    if not max(kb):
                        continue  # no workers
                    told = ", ".join(f"{n:,} {k / 1e3:.1f}" for n, k in zip(SIZES, kb, strict=True))
                    print(
                        f"{workers} workers, cache={cache:4} {who:6}: RssAnon, MB: {told}; "
                        f"largest / smallest {max(kb) / min(kb):.3f}  (bar 1.05)",
                        flush=True,
                    )


if __name__ == "__main__":
    read_all(*sys.argv[1:]) if len(sys.argv) > 1 else main()
