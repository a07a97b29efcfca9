"""Where a run fails: kinds of error by class, confusion, object sizes, worst and best photos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from toyfcn.evaluation import pictures
from toyfcn.evaluation.per_image import FILE, ImageCounts, Numbers, read_images
from toyfcn.report.results import Results
from toyfcn.report.theme import Theme, plain

log = logging.getLogger(__name__)

SHOWN = 24  # classes whose photos are drawn, those with the lowest IU first
BOX = (330, 250)  # width and height of a photo in the sheet, pixels
Row = tuple[str, int | None, Sequence[int], Sequence[float]]


def images_of(results: Results) -> tuple[str, ImageCounts] | None:
    """Return what a single finished run counted on each photo, on the split that was scored last.

    None where there are several runs, or no images.npz.
    """
    run = results.best
    if len(results.runs) > 1 or run is None or not (run.folder / FILE).is_file():
        return None
    try:
        found, split = read_images(run.folder)[0], run.iou()[0]
        return split, found[split]
    except (ValueError, KeyError) as error:
        log.warning("%s", error)
        return None


def kinds(results: Results, theme: Theme) -> Figure | None:
    """Of what each class's union of truth and prediction consists: its IU, and kinds of error."""
    if (found := images_of(results)) is None:
        return None
    split, counts = found
    matrix = counts.matrices.sum(0)
    hits, union = matrix.diagonal(), matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    missed, false = matrix[:, 0].copy(), matrix[0].copy()  # of each class, called background
    missed[0], false[0] = matrix[1:, 0].sum(), matrix[0, 1:].sum()
    present = np.flatnonzero(union)
    order = present[np.argsort(hits[present] / union[present], kind="stable")]
    parts = {"correct": hits, "missed": missed, "confused": union - hits - missed - false}
    colors = (theme.runs[0], theme.runs[6], theme.runs[3], theme.runs[4])
    figure = Figure(figsize=(9.6, 1.5 + 0.3 * len(order)), layout="constrained")
    ax, left = figure.subplots(), np.zeros(len(order))
    for (name, pixels), color in zip((parts | {"false": false}).items(), colors, strict=True):
        share = pixels[order] / union[order]
        ax.barh(range(len(order)), share, left=left, height=0.62, color=color, label=name)
        left += share
    start, near = hits[order] / union[order], counts.boundary.sum(0)[order] / union[order]
    rows = np.arange(len(order)) - 0.36
    ax.hlines(rows, start, start + near, color=theme.ink, linewidth=2, label="at a boundary")
    ax.set_yticks(range(len(order)), [plain(counts.classes[c]) for c in order], color=theme.ink)
    ax.set_xlim(0, 1)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("share of the union; line: the class's own errors within 2 pixels of a boundary")
    ax.set_title(f"Kinds of error by class, {split}")
    figure.legend(loc="outside lower left", ncols=5, fontsize=9)
    return figure


def confusion(results: Results, theme: Theme) -> Figure | None:
    """The confusion matrix, each row the shares of a true class in percent."""
    if (found := images_of(results)) is None:
        return None
    split, counts = found
    matrix, names = counts.matrices.sum(0), [plain(name) for name in counts.classes]
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(9.6, 2.2 + 0.33 * len(names)), layout="constrained")
    ax = figure.subplots()
    ax.imshow(shares, LinearSegmentedColormap.from_list("", [theme.paper, theme.runs[0]]), vmin=0)
    for row, column in np.argwhere(shares >= 0.005):
        ink = theme.paper if shares[row, column] > 0.5 else theme.ink
        text = f"{100 * shares[row, column]:.0f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    ax.set_xticks(range(len(names)), names, rotation=90, color=theme.ink)
    ax.set_yticks(range(len(names)), names, color=theme.ink)
    ax.grid(visible=False)
    ax.set_xlabel("predicted class")
    ax.set_title(f"Confusion matrix, {split}: % of each true class")
    return figure


def sizes(results: Results, theme: Theme) -> Figure | None:
    """IU of each class in each photo against its size there, and the mean of each doubling."""
    if (found := images_of(results)) is None:
        return None
    split, counts = found
    pixels, iou = counts.matrices.sum(2)[:, 1:], counts.figures()["iou"][:, 1:]
    seen = pixels > 0
    if not seen.any():
        return None
    x, y = np.sqrt(pixels[seen]), iou[seen]
    figure = Figure(figsize=(9.6, 4.1), layout="constrained")
    ax = figure.subplots()
    ax.scatter(x, y, s=14, color=theme.runs[0], alpha=0.45, linewidth=0)
    steps = np.floor(np.log2(x))
    means = [(2 ** (step + 0.5), y[steps == step].mean()) for step in np.unique(steps)]
    ax.plot(*zip(*means, strict=True), color=theme.runs[1], linewidth=2.2, marker="o")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("square root of the class's pixels in a photo; line: mean of each doubling")
    ax.set_title(f"IU of a class in a photo against its size there, {split}")
    return figure


def calibration(results: Results, theme: Theme) -> Figure | None:
    """Reliability: how often pixels are right against how confident the network is of them."""
    run = results.best
    if len(results.runs) > 1 or run is None:
        return None
    split, _ = run.iou()
    found = (run.metrics.get(split) or {}).get("calibration")
    if not found:
        return None
    confidence, accuracy, share = np.array(found["bins"]).T
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (1, 2)))
    seen = share > 0
    ax.plot(confidence[seen], accuracy[seen], color=theme.runs[0], linewidth=1.6, zorder=3)
    size = 12 + 400 * share[seen]
    ax.scatter(confidence[seen], accuracy[seen], s=size, color=theme.runs[0], alpha=0.6, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("confidence (highest probability); area of a dot: share of the pixels")
    ax.set_ylabel("accuracy")
    errors = f"{found['ece']:.3f}, {found['ece_at_temperature']:.3f}"
    ax.set_title(f"Calibration error {errors} at temperature {found['temperature']:.2f}, {split}")
    return figure


def draw_photos(results: Results, path: Path) -> None:
    """Draw the worst, median and best photo, of all classes and of each, with the errors on it.

    Nothing is drawn where ``images_of`` finds nothing.

    Raises:
        ValueError: the data or the checkpoint is not there.
    """
    # here, because they import torch, and the rest of a report takes one second
    from toyfcn.data.datamodule import SegmentationData
    from toyfcn.evaluation.scoring import predictions
    from toyfcn.runs import checkpoint
    from toyfcn.runs.checkpoint import as_trained

    found, run = images_of(results), results.best
    if found is None or run is None:
        return
    split, counts = found
    loaded = checkpoint.load(read_images(run.folder)[1])
    data = SegmentationData.open(as_trained({}, loaded.data), loaded.model.short_side)
    columns = chosen(counts)
    ids = dict.fromkeys(counts.ids[i] for _, _, three, _ in columns for i in three)
    seen = {name: rest for name, *rest in predictions(loaded.net, data, ids)}
    rows = []
    for title, label, three, scores in columns:
        parts, said = [], []
        for i, score in zip(three, scores, strict=True):
            photo, target, labels = seen[counts.ids[i]]
            marked = pictures.marked(photo, target, labels, data.source.void, label)
            parts.append(pictures.boxed(marked, BOX))
            said.append(f"{counts.ids[i]} {score:.3f}")
        rows.append((f"{title}:  {'  |  '.join(said)}", pictures.side_by_side(parts)))
    key = [channel for color in pictures.MARKS.values() for channel in color]
    headings, about = ("worst", "median", "best"), f"{split}: IU of a photo, or of a class in it"
    pictures.sheet(rows, list(pictures.MARKS), key, about, headings=headings).save(path, quality=85)


def chosen(counts: ImageCounts) -> list[Row]:
    """Return a row for all classes and one for each: name, label, three photos, their IU.

    A class's photos are those that have it in their ground truth.
    """
    rows: list[Row] = []
    figures = counts.figures()
    iou = np.where(counts.matrices.sum(2) > 0, figures["iou"], np.nan)

    def row(name: str, label: int | None, values: Numbers) -> None:
        ranked = counts.ranked(values)
        if ranked:
            three = [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
            rows.append((name, label, three, values[three].tolist()))

    row("all classes", None, figures["miou"])
    matrix = counts.matrices.sum(0)
    with np.errstate(invalid="ignore"):
        whole = matrix.diagonal() / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())
    for label in np.argsort(whole, kind="stable")[:SHOWN].tolist():
        row(counts.classes[label], label, iou[:, label])
    return rows
