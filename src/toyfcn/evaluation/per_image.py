"""Figures of each photo: images.npz (a confusion matrix a photo) and images.csv (what it says).

The figures of a data set follow from the sums of what is counted here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from toyfcn.evaluation.metrics import DISTANCE, boundary, confusion, count_labels
from toyfcn.files import atomic_write, write_text
from toyfcn.text import first_line, no_formula

FILE = "images.npz"
KINDS = ("missed", "false", "confused", "boundary")
Numbers = NDArray[np.float64]


class ImageRow(NamedTuple):
    """What was counted on one photo: see ``ImageCounts``."""

    name: str
    size: tuple[int, ...]
    matrix: Tensor
    boundary: Tensor
    loss: float


def count_image(
    name: str, target: Tensor, prediction: Tensor, loss: float, classes: int, void: int
) -> ImageRow:
    """Count a photo: target uint8 (H, W), void included, and the labels predicted (H, W)."""
    wrong = (target != prediction) & (target != void)
    near = wrong & boundary(target[None], DISTANCE, ends=False)[0]
    matrix = confusion(target, prediction, classes, void).cpu().int()
    counts = count_labels(target, near, classes).cpu().int()
    return ImageRow(name, tuple(target.shape), matrix, counts, loss)


@dataclass(frozen=True)
class ImageCounts:
    """What was counted on each of N photos.

    ``sizes`` (N, 2): height and width in pixels; ``matrices`` (N, C, C): confusion matrices, rows
    the ground truth; ``boundary`` (N, C): wrong pixels within 2 pixels of a true boundary, by true
    class; ``losses`` (N,): cross-entropy summed over the labeled pixels. ``views``: how many
    versions of a photo were averaged (trainer.test_views).
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    sizes: NDArray[np.int64]
    matrices: NDArray[np.int64]
    boundary: NDArray[np.int64]
    losses: Numbers
    views: int = 1

    @classmethod
    def of(cls, classes: Sequence[str], rows: Sequence[ImageRow], views: int) -> ImageCounts:
        """Return the counts of photos, by id: batches of other sizes bring another order."""
        ids, sizes, *counted, losses = zip(*sorted(rows, key=lambda row: row.name), strict=True)
        size, matrix, near = (np.stack(c).astype(np.int64) for c in (sizes, *counted))
        return cls(tuple(classes), ids, size, matrix, near, np.array(losses, float), views)

    def marginals(self) -> Numbers:
        """Return hits, pixels of the target and of the prediction by class, (N, 3, C)."""
        hits = self.matrices.diagonal(axis1=1, axis2=2)
        return np.stack([hits, self.matrices.sum(2), self.matrices.sum(1)], 1).astype(float)

    def kinds(self) -> NDArray[np.int64]:
        """Return the wrong pixels by kind and class, (N, 4, C): see ``KINDS``.

        Those missed and confused count to their true class, those that are false to the predicted
        one. These three are all errors; boundary is the part of them that lies near one. Label 0
        is the background.
        """
        missed, false = self.matrices[:, :, 0].copy(), self.matrices[:, 0].copy()
        missed[:, 0] = false[:, 0] = 0
        wrong = self.matrices.sum(2) - self.matrices.diagonal(axis1=1, axis2=2)
        wrong[:, 0] = 0
        return np.stack([missed, false, wrong - missed, self.boundary], 1)

    def figures(self) -> dict[str, Numbers]:
        """Return the figures of each photo by name, (N,), and ``iou`` (N, C); NaN: not defined."""
        pixels = self.matrices.sum((1, 2)).astype(float)
        iou, miou, pixel_acc = figures_of(self.marginals())
        with np.errstate(invalid="ignore"):
            shares = self.kinds().sum(2) / pixels[:, None]
            loss = self.losses / pixels
        named = dict(zip(KINDS, shares.T, strict=True))
        return {"pixel_acc": pixel_acc, "miou": miou, "loss": loss, **named, "iou": iou}

    def ranked(self, values: Numbers) -> list[int]:
        """Return the numbers of the photos by a figure (N,) of theirs, worst first, without NaN."""
        order: list[int] = np.argsort(values, kind="stable").tolist()
        return order[: int(np.isfinite(values).sum())]


def figures_of(marginals: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return IU by class (…, C), its mean over those that occur, and pixel accuracy (…).

    ``marginals`` (…, 3, C) are those of ``ImageCounts.marginals``, of photos or of sums over them.
    What is not defined is NaN.
    """
    hits, target, predicted = np.moveaxis(marginals, -2, 0)
    with np.errstate(invalid="ignore"):
        iou = hits / (target + predicted - hits)
        mean = np.nansum(iou, -1) / np.isfinite(iou).sum(-1)
        return iou, mean, hits.sum(-1) / target.sum(-1)


def write_images(
    folder: Path, scored: Mapping[str, ImageCounts], checkpoints: Sequence[str] = ()
) -> None:
    """Write images.npz and images.csv, of one or several splits by name.

    ``checkpoints`` are the paths of the network's, as seen from the folder: several of an ensemble.
    """
    parts = list(scored.values())
    counts: dict[str, Any] = {
        item.name: np.concatenate([np.array(getattr(part, item.name)) for part in parts])
        for item in fields(ImageCounts)
        if item.name not in ("classes", "views")
    }
    for name, whole in counts.items():
        if whole.dtype == np.int64:
            counts[name] = whole.astype(np.min_scalar_type(int(whole.max(initial=0))))
    splits = np.repeat(list(scored), [len(part.ids) for part in parts])
    told = {"classes": np.array(parts[0].classes), "checkpoint": np.array("\n".join(checkpoints))}
    told["views"] = np.array(parts[0].views)
    with atomic_write(folder / FILE) as file:
        np.savez_compressed(file, allow_pickle=False, splits=splits, **counts, **told)
    write_text(folder / "images.csv", as_csv(scored))


def read_images(folder: Path) -> tuple[dict[str, ImageCounts], list[Path]]:
    """Read images.npz: the counts by split, and the paths of the network's checkpoints.

    Raises:
        ValueError: there is no such file, or it was not written by ``write_images``.
    """
    path = folder / FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        classes, splits = tuple(found.pop("classes").tolist()), found.pop("splits")
        checkpoints, views = str(found.pop("checkpoint")), int(found.pop("views", 1))
        scored = {}
        for split in dict.fromkeys(splits.tolist()):
            part = {name: values[splits == split] for name, values in found.items()}
            ids = tuple(part.pop("ids").tolist())
            losses = part.pop("losses")
            whole = {name: values.astype(np.int64) for name, values in part.items()}
            count = len(classes)
            shapes = whole["matrices"].shape[1:], whole["boundary"].shape[1:]
            if shapes != ((count, count), (count,)):
                raise ValueError(f"its counts are not of {count} classes")
            scored[split] = ImageCounts(classes, ids, **whole, losses=losses, views=views)
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {FILE}: toyfcn-train and toyfcn-eval write it") from None
    except Exception as error:  # whatever a damaged file may provoke
        raise ValueError(f"{path} is damaged: {first_line(error)}") from None
    return scored, [folder / path for path in checkpoints.splitlines()]


def as_csv(scored: Mapping[str, ImageCounts]) -> str:
    """Return a line a photo: its size in pixels and its figures, empty where not defined."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for number, (split, counts) in enumerate(scored.items()):
        figures = counts.figures()
        iou = figures.pop("iou")
        names = [f"iou_{name}" for name in counts.classes]
        if number == 0:
            writer.writerow(["split", "id", "width", "height", *figures, *names])
        for i, (name, (height, width)) in enumerate(zip(counts.ids, counts.sizes, strict=True)):
            values = [*(column[i] for column in figures.values()), *iou[i]]
            cells = ["" if np.isnan(value) else f"{value:.6f}" for value in values]
            writer.writerow([split, no_formula(name), width, height, *cells])
    return file.getvalue()
