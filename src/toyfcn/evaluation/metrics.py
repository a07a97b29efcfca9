"""One confusion matrix and everything read off it (FCN paper, section 5: metrics).

Rows are the ground truth, columns the prediction; pixels whose target is void are dropped. One
matrix counts a whole data set, as integers, so the figures do not depend on batches or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toyfcn.config.trainer import FIGURES

DISTANCE = 2  # pixels from a boundary


def confusion(target: Tensor, prediction: Tensor, classes: int, void: int = 255) -> Tensor:
    """Count (target, prediction) pairs of pixels.

    ``target`` is uint8 with labels below ``classes`` or ``void``; ``prediction`` has integers below
    ``classes``; both of the same shape. Returns int64 (classes, classes).

    Raises:
        ValueError: a label or a prediction outside the classes, or two shapes.
    """
    if target.shape != prediction.shape:
        raise ValueError(
            f"the target is {tuple(target.shape)}, the prediction {tuple(prediction.shape)}"
        )
    lowest, highest = prediction.aminmax()
    if int(highest) >= classes or int(lowest) < 0:
        raise ValueError(f"a prediction lies outside the {classes} classes")
    return matrix_of(count_pairs(target, prediction, classes), void)


def count_pairs(target: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Count as ``confusion`` does, but look at nothing: int64 (256, classes), a row for each value
    of a target, void included.
    """
    # one code a pixel: the target picks the row and the prediction the column
    small = torch.int16 if 256 * classes < 2**15 else torch.int32
    codes = target.to(small, copy=True).mul_(classes).add_(prediction)
    return count_codes(codes, 256 * classes).view(256, classes)


def count_codes(codes: Tensor, count: int) -> Tensor:
    """Count how often each of the codes 0 … ``count`` - 1 occurs in an integer tensor: int64."""
    # bincount waits for a GPU, for the highest code; histc takes no integers of a CPU
    if codes.is_cuda:
        return torch.histc(codes.long(), count, min=0, max=count)
    return torch.bincount(codes.flatten(), minlength=count)


def matrix_of(counts: Tensor, void: int) -> Tensor:
    """Return the confusion matrix, int64 (C, C), of what ``count_pairs`` counts.

    Raises:
        ValueError: a target held a label outside the classes.
    """
    classes = counts.shape[1]
    stray = counts[classes:].sum() - (counts[void].sum() if void >= classes else 0)
    if int(stray) > 0:
        labels = [v for v in counts.sum(1).nonzero()[:, 0].tolist() if v >= classes and v != void]
        raise ValueError(f"the target holds the labels {labels}, outside the {classes} classes")
    matrix = counts[:classes].clone()
    if void < classes:
        matrix[void] = 0
    return matrix


@dataclass(frozen=True)
class Scores:
    """The figures of a confusion matrix; NaN where a class occurs on neither side."""

    pixel_acc: float
    mean_acc: float
    miou: float
    fwiou: float
    iou: tuple[float, ...]
    baseline_miou: float
    baseline_class: int | None

    @classmethod
    def of(cls, matrix: Tensor) -> Scores:
        """Read the figures off int64 (C, C), in double precision.

        ``mean_acc`` and ``miou`` are means over the classes for which they are defined; fwIU
        weighs IU by the target's frequency; ``baseline_miou`` is that of the target's most frequent
        class everywhere, which is ``baseline_class`` (None where nothing is labeled).
        """
        counts = matrix.double().cpu()
        hits, target, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        total = target.sum()
        iou = hits / (target + predicted - hits)
        # one class everywhere hits all of it, and nothing of the other classes that occur
        largest = int(target.argmax())
        baseline = (target[largest] / total).item() / max(1, int((target > 0).sum()))
        return cls(
            pixel_acc=(hits.sum() / total).item(),
            mean_acc=(hits / target).nanmean().item(),
            miou=iou.nanmean().item(),
            fwiou=((target / total) * iou.nan_to_num()).sum().item(),
            iou=tuple(iou.tolist()),
            baseline_miou=baseline,
            baseline_class=largest if total > 0 else None,
        )

    def as_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return plain numbers for ``metrics.json``: IU by class name, None for NaN."""

        def plain(value: float) -> float | None:
            return None if value != value else value

        scalars = [*(key for key in FIGURES if hasattr(self, key)), "baseline_miou"]
        most = self.baseline_class
        return {key: plain(getattr(self, key)) for key in scalars} | {
            "baseline_class": None if most is None else names[most],
            "iou": {name: plain(v) for name, v in zip(names, self.iou, strict=True)},
        }


def boundary(labels: Tensor, distance: int, ends: bool = True) -> Tensor:
    """Tell which pixels lie within ``distance`` of another label, or with ``ends`` the image's end.

    ``labels`` integers (B, H, W) from 0 to 255; returns bool (B, H, W). Distances count diagonal
    steps as one: a class's boundary is the class without what a 3x3 erosion leaves after so many
    turns.
    """
    highest = lowest = labels.byte()
    for dim in (-2, -1):
        highest = windows(torch.maximum, highest, dim, distance)
        lowest = windows(torch.minimum, lowest, dim, distance)
    near = highest != lowest
    if ends:
        for dim in (-2, -1):
            size = near.shape[dim]
            near.narrow(dim, 0, min(distance, size)).fill_(True)
            near.narrow(dim, max(0, size - distance), min(distance, size)).fill_(True)
    return near


def windows(of_two: Callable[..., Tensor], values: Tensor, dim: int, distance: int) -> Tensor:
    """Combine each value with those at most ``distance`` before and after it along a dimension."""
    found, size = values.clone(), values.shape[dim]
    for shift in range(1, min(distance, size - 1) + 1):
        length = size - shift
        for here, there in ((0, shift), (shift, 0)):
            part = found.narrow(dim, here, length)
            of_two(part, values.narrow(dim, there, length), out=part)
    return found


def boundary_counts(
    target: Tensor, prediction: Tensor, classes: int, void: int = 255, distance: int = DISTANCE
) -> Tensor:
    """Count what the mean boundary IU is made of (Cheng et al. 2021).

    For each class there are two bands: the target's and the prediction's pixels of the class that
    lie at most ``distance`` from the class's boundary, inside it. Where the target is void, the
    prediction counts as void too, so that both have a boundary there and neither counts.

    ``target`` is uint8 (B, H, W), void included, ``prediction`` has integers (B, H, W). Returns
    int64 (3, classes): pixels in the target's band, in the prediction's, and in both.
    """
    labeled = target != void
    prediction = prediction.masked_fill(~labeled, void)
    band = labeled & boundary(target, distance)
    predicted = labeled & boundary(prediction, distance)
    both = band & predicted & (target == prediction)
    seen = (target, band), (prediction.byte(), predicted), (target, both)
    return torch.stack([count_labels(labels, where, classes) for labels, where in seen])


def count_labels(labels: Tensor, where: Tensor, classes: int) -> Tensor:
    """Count the labels, uint8, of those pixels where a bool map is true: int64 (classes,)."""
    codes = labels.short() * 2 + where
    return count_codes(codes, 512).view(256, 2)[:classes, 1]


def boundary_iu(counts: Tensor) -> float | None:
    """Return the mean boundary IU over the classes that occur, of the sum of ``boundary_counts``
    over a data set; None where nothing is labeled.
    """
    target, predicted, both = counts.double().cpu()
    mean = (both / (target + predicted - both)).nanmean().item()
    return None if mean != mean else mean
