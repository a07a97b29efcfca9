"""Intervals of scores: the percentile bootstrap over photos.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: photos are drawn with
replacement, as many as there are, the score is computed of each such draw, and the interval lies
between the 2.5 and 97.5 percent quantiles of these scores.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from toyfcn.evaluation.per_image import ImageCounts, Numbers, figures_of

RESAMPLES, LEVEL, SEED = 2000, 0.95, 0
BLOCK = 1 << 23  # photos drawn at once


def draws(photos: int, resamples: int, seed: int = SEED) -> Numbers:
    """Return how often each photo is in each resample, (resamples, photos)."""
    random, found = np.random.default_rng(seed), np.empty((resamples, photos))
    step = max(1, BLOCK // photos)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        chosen = random.integers(0, photos, (count, photos))
        chosen += photos * np.arange(count)[:, None]
        counted = np.bincount(chosen.ravel(), minlength=count * photos)
        found[start : start + count] = counted.reshape(count, photos)
    return found


def resampled(counts: ImageCounts, weights: Numbers) -> Numbers:
    """Return mean IU, pixel accuracy and IU by class of each resample, (resamples, 2 + C).

    A class that a resample lacks is NaN there, and left out of the mean.
    """
    marginals = counts.marginals()
    return scores_of(np.tensordot(weights, marginals, 1))  # integers below 2^53: exact


def scores_of(marginals: Numbers) -> Numbers:
    """Return mean IU, pixel accuracy and IU by class, (N, 2 + C), of marginals (N, 3, C)."""
    iou, miou, pixel_acc = figures_of(marginals)
    return np.concatenate([miou[:, None], pixel_acc[:, None], iou], 1)


def bounds(values: Numbers, level: float = LEVEL) -> Numbers:
    """Return the quantiles of each column that ``level`` of its values lie between, (2, columns).

    NaN is left out; a column of nothing else has NaN.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns of NaN alone
        found: Numbers = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return found


def intervals(counts: ImageCounts, resamples: int = RESAMPLES) -> dict[str, Any] | None:
    """Return what metrics.json has under ``intervals``: [low, high] by figure, at 95 percent.

    None where a figure is not defined, and in the place of all where no pixel is labeled.
    """
    if not counts.matrices.any():
        return None
    found = bounds(resampled(counts, draws(len(counts.ids), resamples))).T.tolist()
    miou, pixel_acc, *iou = (None if pair[0] != pair[0] else pair for pair in found)
    named = dict(zip(counts.classes, iou, strict=True))
    told = {"level": LEVEL, "resamples": resamples, "seed": SEED}
    return told | {"miou": miou, "pixel_acc": pixel_acc, "iou": named}
