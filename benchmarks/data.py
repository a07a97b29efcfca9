"""Reading VOC2007, side by side: bare decoding, ours, torchvision's VOCSegmentation, our cache.

Rates are medians of interleaved repeats in one process, one after another on the same images;
ratios count, absolute figures depend on the machine.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation
from torchvision.io import ImageReadMode, decode_image, decode_jpeg
from torchvision.transforms import v2

from toyfcn.data.cache import PixelCache
from toyfcn.data.config import VOCConfig
from toyfcn.data.datamodule import LazyDataset, ScheduledLoader, open_source, single
from toyfcn.data.schedule import Schedule

REPEATS, BATCH = 7, 16
join = functools.partial(single, fill=(124, 116, 104), void=255)


def transforms() -> v2.Transform:
    """The same v2 transforms for both: random resized crop to 256x256 and flip, on uint8."""
    return v2.Compose(
        [v2.ToImage(), v2.RandomResizedCrop((256, 256), antialias=True), v2.RandomHorizontalFlip()]
    )


class WithV2:
    """Our dataset's transform hook around torchvision's v2 transforms."""

    def __init__(self) -> None:
        self.joint = transforms()

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Transform a pair; the seed is set as our own transforms set theirs."""
        torch.default_generator.manual_seed(seed)
        photo, labels = self.joint(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return photo.as_subclass(Tensor), labels.as_subclass(Tensor)


class Peer(VOCSegmentation):
    """The straightforward program: VOCSegmentation, its pair joined by tv_tensors."""

    def __getitem__(self, index: int) -> Any:
        """Read with PIL, wrap the mask, transform."""
        image, mask = super().__getitem__(index)
        photo, labels = JOINT(image, tv_tensors.Mask(np.array(mask)))
        return photo, labels


JOINT = transforms()


def measure(root: str, workers: int) -> dict[str, float]:
    """Return images/s of each way to read VOC2007 train."""
    config = VOCConfig(root=root)
    source = open_source(config)
    ids = source.ids("train")

    def bare() -> Iterable[Any]:
        for name in ids:
            photo = torch.from_numpy(np.fromfile(source.image_path(name), np.uint8))
            mask = torch.from_numpy(np.fromfile(source.mask_path(name), np.uint8))
            yield (
                decode_jpeg(photo, ImageReadMode.RGB),
                decode_image(mask, ImageReadMode.UNCHANGED),
            )

    def loader(cache: PixelCache | None) -> ScheduledLoader:
        dataset = LazyDataset(source, ids, WithV2(), None, 0, cache)  # type: ignore[arg-type]
        schedule = Schedule(len(ids), BATCH)
        return ScheduledLoader(dataset, schedule, num_workers=workers, collate_fn=join)

    peer = DataLoader(
        Peer(root, "2007", "train"), BATCH, shuffle=True, num_workers=workers, drop_last=False
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = PixelCache(source, ids, Path(folder))
        ways: dict[str, Callable[[], Iterable[Any]]] = {
            "bare": bare,
            "read": lambda: map(source.pair, ids),
            "peer": lambda: peer,
            "ours": lambda: loader(None),
            "cached": lambda: loader(cache),
            "transforms": lambda: map(
                lambda name, i: WithV2()(*cache.pair(name), seed=i), ids, range(len(ids))
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, way in ways.items():
                start = time.perf_counter()
                for _ in way():
                    pass
                seconds[name].append(time.perf_counter() - start)
    return {name: len(ids) / statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    """Print the rates and the ratios that issue 3 asks for."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    root = os.environ.get("TOYFCN_VOC")
    if not root:
        raise SystemExit(
            "set TOYFCN_VOC to the folder that holds VOCdevkit: this reads real photos"
        )
    for workers in (0, 1, 2):
        rate = measure(root, workers)
        print(f"{workers} workers, images/s: {', '.join(f'{k} {v:.0f}' for k, v in rate.items())}")
        if workers == 0:
            print(f"  reading / bare decoding {rate['read'] / rate['bare']:.2f}  (bar 0.80)")
        print(f"  ours / VOCSegmentation, equal v2   {rate['ours'] / rate['peer']:.2f}  (bar 1.2)")
        print(
            f"  with a warm cache                  {rate['cached'] / rate['peer']:.2f}  (bar 2.5)"
        )


if __name__ == "__main__":
    main()
