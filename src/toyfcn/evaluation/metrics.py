"""One confusion matrix and everything read off it (FCN paper, section 5: metrics).

Rows are the ground truth, columns the prediction; pixels whose target is void are dropped. One
matrix counts a whole data set, as integers, so the figures do not depend on batches or processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from toyfcn.config.trainer import FIGURES


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
    return _matrix(_count_pairs(target, prediction, classes), void)


def _count_pairs(target: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Return int64 (256, classes): a row for each value of a target, void included."""
    # one code a pixel: the target picks the row and the prediction the column
    small = torch.int16 if 256 * classes < 2**15 else torch.int32
    codes = target.to(small, copy=True).mul_(classes).add_(prediction)
    return torch.bincount(codes.flatten(), minlength=256 * classes).view(256, classes)


def _matrix(counts: Tensor, void: int) -> Tensor:
    """Return the rows of the classes; ValueError where others than void are not empty."""
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


class ConfusionMatrix(Metric):
    """The running matrix of a data set; torchmetrics keeps it, sums over processes and resets."""

    full_state_update = False

    def __init__(self, classes: int, void: int = 255) -> None:
        super().__init__()
        self.classes, self.void = classes, void
        empty = torch.zeros(256, classes, dtype=torch.int64)
        self.add_state("counts", default=empty, dist_reduce_fx="sum")
        self.counts: Tensor

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Count a batch: see ``confusion``. What it holds is looked at once, in ``compute``."""
        self.counts += _count_pairs(target, prediction, self.classes)

    def compute(self) -> Tensor:
        """Return int64 (classes, classes).

        Raises:
            ValueError: a target held a label outside the classes.
        """
        return _matrix(self.counts, self.void)


def boundary(labels: Tensor, distance: int, ends: bool = True) -> Tensor:
    """Tell which pixels lie within ``distance`` of another label, or with ``ends`` the image's end.

    ``labels`` integers (B, H, W); returns bool (B, H, W). Distances count diagonal steps as one: a
    class's boundary is the class without what a 3x3 erosion leaves after so many turns.
    """
    mode = "constant" if ends else "replicate"
    value = -1 if ends else None
    around = F.pad(labels.float()[:, None], (distance,) * 4, mode, value)
    highest = F.max_pool2d(around, 2 * distance + 1, 1)
    lowest = -F.max_pool2d(-around, 2 * distance + 1, 1)
    return (highest != lowest)[:, 0]


class BoundaryIU(Metric):
    """Mean boundary IU of a data set (Cheng et al. 2021), at 2 pixels from the boundaries.

    For each class, the intersection over union of two bands: the target's and the prediction's
    pixels of the class that lie at most that far from the class's boundary, inside it. Summed over
    the data set, then the mean over the classes that occur. Where the target is void, the
    prediction counts as void too, so that both have a boundary there and neither counts.
    """

    full_state_update = False

    def __init__(self, classes: int, void: int = 255, distance: int = 2) -> None:
        super().__init__()
        self.classes, self.void, self.distance = classes, void, distance
        # of each class: band of the target, band of the prediction, and their intersection
        empty = torch.zeros(3, classes, dtype=torch.int64)
        self.add_state("counts", default=empty, dist_reduce_fx="sum")
        self.counts: Tensor

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Count a batch: uint8 (B, H, W), void included, and integers (B, H, W)."""
        labeled = target != self.void
        prediction = prediction.masked_fill(~labeled, self.void)
        band = labeled & boundary(target, self.distance)
        predicted = labeled & boundary(prediction, self.distance)
        both = band & predicted & (target == prediction)
        for row, labels in enumerate((target[band], prediction[predicted], target[both])):
            self.counts[row] += torch.bincount(labels.long(), minlength=self.classes)

    def compute(self) -> float | None:
        """Return the mean, None where nothing is labeled."""
        target, predicted, both = self.counts.double().cpu()
        mean = (both / (target + predicted - both)).nanmean().item()
        return None if mean != mean else mean
