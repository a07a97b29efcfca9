"""All that is wrong with a data set, and what it holds; a file is read once."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from toyfcn.data.folder import FolderSource
from toyfcn.data.image_io import image_size, opened, read_header, read_mask_and_palette
from toyfcn.data.palettes import ADVICE, Used, disagreements, used_colors, warn_of_reordered_voc
from toyfcn.data.preflight import tell_of_16_bits
from toyfcn.data.progress import progress
from toyfcn.data.source import FileSource
from toyfcn.data.voc import VOCSource, canonical
from toyfcn.text import printable


class Fault(TypedDict):
    """A file and what is wrong with it."""

    file: str
    reason: str


class ClassShare(TypedDict):
    """A class: its share of the labeled pixels, and the masks it occurs in."""

    share: float
    images: int


class Span(TypedDict):
    """The spread of a side's length in pixels."""

    min: int
    median: float
    max: int


class Report(TypedDict):
    """The JSON report. Figures are of the pairs that could be read."""

    data: str
    layout: str
    lists: str
    splits: dict[str, int]
    images: int
    seconds: float
    classes: dict[str, ClassShare]
    void_share: float
    distinct_sizes: int
    width: Span | None
    height: Span | None
    channels: dict[str, int]
    mask_modes: dict[str, int]
    faults: list[Fault]


@dataclass
class Pair:
    """What one id's two files turned out to be; None where that could not be read."""

    faults: list[Fault] = field(default_factory=list)
    size: tuple[int, int] | None = None  # the photo's (height, width)
    channels: int | None = None  # the photo's, as its file has them
    counts: Tensor | None = None  # pixels of each label: int64 (256,)
    mode: str | None = None  # the mask's
    colors: dict[int, Used] = field(default_factory=dict)  # of its palette, where masks compare

    def add_fault(self, path: Path, reason: str) -> None:
        """Note a fault of a file."""
        self.faults.append(fault(path, reason))


def fault(path: Path, reason: str) -> Fault:
    """Describe a fault, without the file's name in the reason."""
    for lead in (f"cannot read the photo {path}: ", f"cannot read the mask {path}: ", f"{path} "):
        reason = reason.removeprefix(lead)
    return {"file": printable(path), "reason": printable(reason)}


def read_lists(
    source: FileSource, splits: Sequence[str]
) -> tuple[dict[str, list[str]], list[Fault]]:
    """Return the valid ids of each split, each once, and the faults of the lists."""
    found: dict[str, list[str]] = {}
    faults: list[Fault] = []
    for split in splits:
        path, seen = source.list_path(split), dict[str, None]()
        try:
            lines = source.lines(split)
        except (ValueError, OSError) as error:
            faults.append(fault(path, str(error)))
            continue
        for name in lines:
            if wrong := source.id_fault(name, seen):
                faults.append(fault(path, wrong))
            else:
                seen[name] = None
        found[split] = list(seen)
    return found, faults


def overlaps(
    source: FileSource, ids: dict[str, list[str]], train_split: str, scoring_splits: Sequence[str]
) -> Iterator[Fault]:
    """Yield a fault for every id that is trained on and scored."""
    same = canonical if isinstance(source, VOCSource) else str
    trained = {same(name) for name in ids.get(train_split, ())}
    for split in scoring_splits:
        for name in ids.get(split, ()):
            if same(name) in trained:
                reason = f"names {name!r}, but the training split {train_split} has that photo too"
                yield fault(source.list_path(split), reason)


def read_pair(source: FileSource, name: str) -> Pair:
    """Read photo and mask of an id to the end and note all that is wrong with them."""
    pair = Pair()
    photo, mask = source.image_path(name), source.mask_path(name)
    if is_there(pair, photo):
        try:
            pair.channels = read_header(photo, source.channels).channels
            shape = source.image(name).shape
            pair.size = (shape[1], shape[2])
        except (ValueError, OSError) as error:
            pair.add_fault(photo, str(error))
    if not is_there(pair, mask):
        return pair
    size = None
    try:
        with opened(mask, "mask") as header:
            pair.mode = header.mode
        labels = source.mask(name)
        size = (labels.shape[0], labels.shape[1])
        pair.counts = torch.bincount(labels.flatten(), minlength=256)
        if isinstance(source, FolderSource) and not source.colors:
            pair.colors = used_colors(*read_mask_and_palette(mask))
    except (ValueError, OSError) as error:
        pair.add_fault(mask, str(error))
        with contextlib.suppress(ValueError):
            size = image_size(mask)
    if pair.size and size and pair.size != size:
        reason = f"is {size[1]} x {size[0]} pixels, but its photo {pair.size[1]} x {pair.size[0]}"
        pair.add_fault(mask, reason)
    return pair


def is_there(pair: Pair, path: Path) -> bool:
    """Tell whether a file is there, and note it where not."""
    try:
        if path.is_file():
            return True
        pair.add_fault(path, "is not a file" if path.exists() else "is missing")
    except OSError as error:  # no right to look, a name too long
        pair.add_fault(path, error.strerror or str(error))
    return False


@dataclass
class Totals:
    """What all pairs together hold."""

    faults: list[Fault]
    counts: Tensor = field(default_factory=lambda: torch.zeros(256, dtype=torch.int64))
    present: Tensor = field(default_factory=lambda: torch.zeros(256, dtype=torch.int64))
    sizes: list[tuple[int, int]] = field(default_factory=list)  # (height, width) of the photos
    channels: Counter[int] = field(default_factory=Counter)  # of the photos
    modes: Counter[str] = field(default_factory=Counter)
    colors: dict[Path, dict[int, Used]] = field(default_factory=dict)  # by mask

    def add(self, pair: Pair, mask: Path) -> None:
        """Count one pair in."""
        if pair.colors:
            self.colors[mask] = pair.colors
        self.faults += pair.faults
        if pair.size is not None:
            self.sizes.append(pair.size)
        if pair.channels is not None:
            self.channels[pair.channels] += 1
        if pair.mode is not None:
            self.modes[pair.mode] += 1
        if pair.counts is not None:
            self.counts += pair.counts
            self.present += pair.counts > 0


def check_source(
    source: FileSource,
    *,
    train_split: str,
    scoring_splits: Sequence[str],
    allow_overlap: bool = False,
    splits: Sequence[str] | None = None,
    workers: int | None = None,
) -> Report:
    """Read every list and every file of a source, several at once, and report on all of them.

    Without ``splits``, these are the lists on disk and those that the config names.
    """
    start = time.perf_counter()
    if splits is None:
        splits = list(dict.fromkeys([*source.splits(), train_split, *scoring_splits]))
    ids, faults = read_lists(source, splits)
    if not allow_overlap:
        faults += overlaps(source, ids, train_split, scoring_splits)
    names = sorted({name for split in ids.values() for name in split})
    totals, labeled = Totals(faults), dict[str, bool]()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)  # decoding lets other threads run
    try:
        with progress("checking") as advance:
            pairs = pool.map(partial(read_pair, source), names)
            for done, (name, pair) in enumerate(zip(names, pairs, strict=True), 1):
                totals.add(pair, source.mask_path(name))
                if pair.counts is not None:
                    labeled[name] = bool(pair.counts.sum() > pair.counts[source.void])
                advance(done, len(names))
    finally:
        pool.shutdown(cancel_futures=True)
    for mask, used in [*totals.colors.items()][:1]:
        warn_of_reordered_voc(mask, used)
    for mask, why in disagreements(totals.colors).items():
        faults.append(fault(mask, f"its palette {why}; {ADVICE}"))
    of_training = [labeled[name] for name in ids.get(train_split, ()) if name in labeled]
    if of_training and not any(of_training):
        reason = f"the training split {train_split} has no labeled pixel: all of it is void"
        faults.append(fault(source.list_path(train_split), reason))
    tell_of_16_bits(map(source.image_path, labeled), source.scale, source.channels)
    return report_of(source, ids, len(names), totals, time.perf_counter() - start)


def report_of(
    source: FileSource, ids: dict[str, list[str]], images: int, totals: Totals, seconds: float
) -> Report:
    """Put all that was found into the JSON report."""
    counts, present = totals.counts.clone(), totals.present.clone()
    every, void = int(counts.sum()), int(counts[source.void])
    counts[source.void] = present[source.void] = 0
    shares = (counts / max(every - void, 1)).tolist()
    return {
        "data": source.name,
        "layout": printable(source.layout),
        "lists": printable(source.lists),
        "splits": {printable(split): len(names) for split, names in ids.items()},
        "images": images,
        "seconds": round(seconds, 2),
        "classes": {
            name: {"share": shares[label], "images": int(present[label])}
            for label, name in enumerate(source.classes)
        },
        "void_share": void / max(every, 1),
        "distinct_sizes": len(set(totals.sizes)),
        "width": span([width for _, width in totals.sizes]),
        "height": span([height for height, _ in totals.sizes]),
        "channels": {str(count): found for count, found in totals.channels.most_common()},
        "mask_modes": dict(totals.modes.most_common()),
        "faults": totals.faults,
    }


def span(lengths: list[int]) -> Span | None:
    """Return the spread of lengths, None where there is none."""
    if not lengths:
        return None
    return {"min": min(lengths), "median": statistics.median(lengths), "max": max(lengths)}
