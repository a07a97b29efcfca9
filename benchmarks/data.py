"""Reading VOC2007, side by side: bare decoding, ours, torchvision's VOCSegmentation, our cache.

All methods take turns in one process on the same images; ratios are medians over the repeats, with
the middle half behind. Ratios count, absolute figures depend on the machine. Workers stay from one
epoch to the next, in all loaders.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from toyfcn.config.data import VOCConfig
from toyfcn.config.trainer import TrainerConfig
from toyfcn.data.cache import PixelCache
from toyfcn.data.collate import pad_and_stack
from toyfcn.data.datasets import open_voc
from toyfcn.data.image_io import read_image, read_mask
from toyfcn.data.loader import LazyDataset, ResumableLoader
from toyfcn.data.sampler import EpochSampler
from toyfcn.data.transforms import TrainTransform
from toyfcn.training.device import keep_memory

REPEATS, BATCH = 9, 16
join = functools.partial(pad_and_stack, fill=(124, 116, 104), void=255)


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


def epochs(root: str, workers: int) -> dict[str, list[float]]:
    """Return ms an image of each method of reading VOC2007 train, one figure a repeat."""
    source = open_voc(VOCConfig(root=root))
    ids = source.ids("train")
    settings: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}

    def bare() -> Iterable[Any]:
        for name in ids:
            photo = source.image_path(name).read_bytes()
            mask = torch.from_numpy(np.fromfile(source.mask_path(name), np.uint8))
            yield (
                simplejpeg.decode_jpeg(photo),  # the quickest decoder here
                decode_image(mask, ImageReadMode.UNCHANGED),
            )

    def loader(cache: PixelCache | None) -> ResumableLoader:
        dataset = LazyDataset(source, ids, WithV2(), None, 0, cache)
        return ResumableLoader(dataset, EpochSampler(len(ids), BATCH), collate_fn=join, **settings)

    with tempfile.TemporaryDirectory() as folder:
        cache = PixelCache(source, ids, Path(folder))
        voc = Peer(root, "2007", "train")
        peer: DataLoader[Any] = DataLoader(voc, BATCH, shuffle=True, **settings)
        ours, cached = loader(None), loader(cache)
        methods: dict[str, Callable[[], Iterable[Any]]] = {
            "peer": lambda: peer,
            "ours": lambda: ours,
            "cached": lambda: cached,
        }
        if workers == 0:
            methods |= {"bare": bare, "read": lambda: map(source.pair, ids)}
        return interleaved(methods, len(ids))


def interleaved(
    methods: dict[str, Callable[[], Iterable[Any]]], count: int
) -> dict[str, list[float]]:
    """Run each method in turn, ``REPEATS`` times after a first that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for repeat in range(1 + REPEATS):
        for name, method in methods.items():
            start = time.perf_counter()
            for _ in method():
                pass
            if repeat:
                taken[name].append((time.perf_counter() - start) / count * 1e3)
    return taken


class Ready(Dataset[Any]):
    """Samples that are there already: what is left is the transport from worker to trainer."""

    sample = (torch.zeros(3, 256, 256, dtype=torch.uint8), torch.zeros(256, 256).byte(), "id")

    def __getitem__(self, index: int) -> Any:
        """Return the one sample."""
        return self.sample

    def __len__(self) -> int:
        return 512


def parts(root: str) -> dict[str, list[float]]:
    """Return ms an image of each step of reading a pair, by itself."""
    source = open_voc(VOCConfig(root=root))
    ids = source.ids("train")
    pairs = [source.pair(name) for name in ids]
    joint, own = WithV2(), TrainTransform(scale=(0.5, 2.0), crop=(256, 256))
    done = [(*joint(*pair, seed=0), "id") for pair in pairs[:BATCH]]
    settings: dict[str, Any] = {"num_workers": 1, "persistent_workers": True, "collate_fn": join}
    ready = DataLoader(Ready(), BATCH, **settings)
    each = range(len(ids))
    paths = [(source.image_path(name), source.mask_path(name)) for name in ids]
    methods: dict[str, Callable[[], Iterable[Any]]] = {
        "decoding the photo": lambda: (read_image(photo) for photo, _ in paths),
        "decoding the mask": lambda: (read_mask(mask) for _, mask in paths),
        "both, checked": lambda: map(source.pair, ids),
        "transforms: v2's": lambda: (joint(*pairs[i], seed=i) for i in each),
        "transforms: our own": lambda: (own(*pairs[i], seed=i) for i in each),
        "collation": lambda: (join(done) for i in each if i % BATCH == 0),
        "collation and transport, one worker": lambda: ready,
    }
    taken = interleaved(methods, len(ids))
    taken["collation and transport, one worker"] = [
        ms * len(ids) / len(Ready()) for ms in taken["collation and transport, one worker"]
    ]
    return taken


def main() -> None:
    """Print the ratios that issue 3 asks for, and where the time goes."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    root = os.environ.get("TOYFCN_VOC")
    if not root:
        raise SystemExit(
            "set TOYFCN_VOC to the folder that holds VOCdevkit: this reads real photos"
        )
    rows: list[tuple[str, float, str]] = []  # what, how much, bar
    for workers, reuse in ((0, False), (1, False), (2, False), (0, True)):
        if reuse:
            # from here on, for all alike: as toyfcn-train does
            keep_memory(TrainerConfig(reuse_memory=True))
        ms = epochs(root, workers)
        memory = "memory reused" if reuse else "memory as it is"
        where = f"{workers} workers, {memory}"
        rates = ", ".join(f"{name} {1e3 / statistics.median(t):.0f}" for name, t in ms.items())
        print(f"{where}, images/s: {rates}")
        compared = [
            ("ours / VOCSegmentation, equal v2", "peer", "ours", "1.2"),
            ("with a warm cache", "peer", "cached", "2.5"),
        ]
        if workers == 0:
            compared.insert(0, ("reading / bare decoding", "bare", "read", "0.80"))
        for what, slow, quick, bar in compared:
            low, middle, high = ratio(ms[slow], ms[quick])
            print(f"  {what:34} {middle:.2f} ({low:.2f} to {high:.2f})  (bar {bar})")
            rows.append((f"{what}: {where}", middle, f"≥ {bar}"))
    print("where the time goes, ms an image, memory reused:")
    for name, taken in parts(root).items():
        print(f"  {name:36} {statistics.median(taken):.3f}")
    print(json.dumps(rows))


def ratio(slow: list[float], quick: list[float]) -> tuple[float, float, float]:
    """Return how many times as quick: the quartiles of the repeats."""
    low, middle, high = statistics.quantiles([s / q for s, q in zip(slow, quick, strict=True)], n=4)
    return low, middle, high


if __name__ == "__main__":
    main()
