"""Size, speed and mean IU of exported files beside PyTorch's, in one table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from toyfcn.data import preflight
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation.metrics import Scores, count_pairs, matrix_of
from toyfcn.inference.export_formats import Inputs, Run, seen
from toyfcn.models.kernels.argmax import argmax_labels

TIMED, REPEATS = 32, 3  # photos of the timing, and how often each is timed


@dataclass(frozen=True)
class Candidate:
    """What is measured: its name in the table, its size in 10⁶ bytes, and what runs it."""

    name: str
    megabytes: float
    run: Run


def size_of_file(path: Path) -> float:
    """Return the size of a file in 10⁶ bytes, an OpenVINO .xml with its .bin."""
    parts = {path, path.with_suffix(".bin")} if path.suffix == ".xml" else {path}
    return sum(part.stat().st_size for part in parts) / 1e6


def size_of_weights(net: nn.Module) -> float:
    """Return the size of all weights and buffers in 10⁶ bytes."""
    return sum(int(tensor.nbytes) for tensor in net.state_dict().values()) / 1e6


def benchmark(
    candidates: Sequence[Candidate], data: SegmentationData, sized: bool, threads: int
) -> None:
    """Print a table of candidates, the first one being what the others are compared with.

    Mean IU is of the val split, at the size of the masks, as toyfcn-eval has it without test-time
    augmentation. Images/s are of the network alone, for photos at the working size: the candidates
    run in turn on each photo, each first without being timed, and the median counts.
    """
    split = data.config.val_split or data.config.train_split
    ids = data.split_ids(split)
    preflight.check(data.source, ids)
    torch.set_num_threads(threads)
    classes = len(data.source.classes)
    counts = torch.zeros(len(candidates), 256, classes, dtype=torch.int64)
    seconds: list[list[float]] = [[] for _ in candidates]
    for index, name in enumerate(track(ids, description=f"scoring {split}")):
        photo, mask = data.source.pair(name)
        given = seen(photo, data.short_side, sized)
        for candidate, pairs in zip(candidates, counts, strict=True):
            labels = labels_at(candidate.run(given), tuple(mask.shape))
            pairs += count_pairs(mask[None], labels, classes)
        for _ in range(REPEATS if index < TIMED else 0):
            for candidate, spent in zip(candidates, seconds, strict=True):
                candidate.run(given)  # meanwhile the threads of the one before stop spinning
                spent.append(timed(candidate.run, given))
    words = f"{threads} {'thread' if threads == 1 else 'threads'}"
    table = Table(box=box.MARKDOWN)
    for column in ("", "MB", f"images/s, {words}", "× PyTorch", f"mean IU, {split}"):
        table.add_column(column, justify="right" if column else "left")
    rates = [1 / median(spent) for spent in seconds]
    for candidate, pairs, rate in zip(candidates, counts, rates, strict=True):
        miou = Scores.of(matrix_of(pairs, data.source.void)).miou
        figures = (f"{candidate.megabytes:.1f}", f"{rate:.1f}", f"{rate / rates[0]:.2f}")
        table.add_row(candidate.name, *figures, f"{miou:.4f}")
    Console(width=100).print(table)


def timed(run: Run, given: Inputs) -> float:
    """Return the seconds that a run takes."""
    start = time.perf_counter()
    run(given)
    return time.perf_counter() - start


def labels_at(found: NDArray[Any], size: tuple[int, ...]) -> Tensor:
    """Return labels, uint8 (1, H, W), of labels or of scores: enlarged first, as predict does."""
    output = torch.from_numpy(found)
    if output.dtype == torch.uint8:
        return output
    if tuple(output.shape[-2:]) != size:
        output = F.interpolate(output, size=size, mode="bilinear", align_corners=False)
    return argmax_labels(output)
