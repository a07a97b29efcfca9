"""Calibration: whether a network is right as often as it is confident.

Guo et al., On Calibration of Modern Neural Networks (2017): expected calibration error over 15 bins
of equal width, and the temperature that the scores are best divided by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.config.trainer import COLDEST, HOTTEST
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation.scoring import scored

BINS = 15
PHOTOS, PIXELS = 64, 1 << 18  # looked at, spread evenly over a split and its labeled pixels


def calibration(
    net: nn.Module, data: SegmentationData, ids: tuple[str, ...]
) -> dict[str, Any] | None:
    """Return what metrics.json has under ``calibration``, of at most 64 photos of a split.

    ``ece`` is the expected calibration error; ``temperature`` the one with the lowest loss, and
    ``ece_at_temperature`` the error with it; ``bins`` have mean confidence, accuracy and share of
    the pixels of each bin, without it. None where no pixel is labeled.
    """
    scores, labels = sampled(net, data, ids[:: -(-len(ids) // PHOTOS)])
    if not len(labels):
        return None
    found, temperature = bins(scores, labels), fit_temperature(scores, labels)
    return {
        "ece": expected_error(found),
        "temperature": temperature,
        "ece_at_temperature": expected_error(bins(scores / temperature, labels)),
        "pixels": len(labels),
        "bins": found.tolist(),
    }


def sampled(net: nn.Module, data: SegmentationData, ids: Iterable[str]) -> tuple[Tensor, Tensor]:
    """Return scores float (N, C) and labels int64 (N,) of pixels of photos."""
    names, parts = list(ids), []
    for name in names:
        photo, mask = data.source.pair(name)
        scores = scored(net, photo, mask.shape, data.short_side)
        labels = mask.flatten()
        places = (labels != data.source.void).nonzero()[:, 0]
        places = places[:: max(1, -(-len(places) // (PIXELS // len(names))))]
        parts.append((scores[0].float().cpu().flatten(1)[:, places].T, labels[places].long()))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def bins(scores: Tensor, labels: Tensor) -> Tensor:
    """Return mean confidence, accuracy and share of all pixels of each bin, float64 (15, 3).

    Confidence is the highest probability. Where a bin is empty, all three are 0.
    """
    confidence, seen = scores.double().softmax(1).max(1)
    which = (confidence * BINS).long().clamp(max=BINS - 1)
    count = torch.bincount(which, minlength=BINS).double()
    sums = [
        torch.bincount(which, values, minlength=BINS)
        for values in (confidence, (seen == labels).double())
    ]
    return torch.stack([*(total / count.clamp(min=1) for total in sums), count / len(labels)], 1)


def expected_error(found: Tensor) -> float:
    """Return the expected calibration error of ``bins``."""
    confidence, accuracy, share = found.unbind(1)
    return float((share * (confidence - accuracy).abs()).sum())


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """Return the temperature, from 0.05 to 20, with the lowest mean cross-entropy."""
    with torch.inference_mode(False), torch.enable_grad():
        scores, labels = scores.clone(), labels.clone()
        exponent = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.LBFGS([exponent], max_iter=50, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            found = F.cross_entropy(scores / exponent.exp(), labels)
            found.backward()  # type: ignore[no-untyped-call]
            return found

        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(exponent.detach().exp().clamp(COLDEST, HOTTEST))
