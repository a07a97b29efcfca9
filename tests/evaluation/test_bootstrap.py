"""Intervals, against scipy's bootstrap, a loop in plain Python, and a simulated data set."""

import math
import random
import statistics
import time

import numpy as np
import pytest
import torch
from scipy import stats

from toyfcn.evaluation.bootstrap import bounds, draws, intervals, resampled
from toyfcn.evaluation.metrics import Scores
from toyfcn.evaluation.per_image import ImageCounts


def counts_of(matrices: np.ndarray) -> ImageCounts:
    photos, classes = matrices.shape[:2]
    return ImageCounts(
        tuple(f"c{i}" for i in range(classes)),
        tuple(f"p{i:04}" for i in range(photos)),
        np.full((photos, 2), 10),
        matrices,
        np.zeros((photos, classes), np.int64),
        np.zeros(photos),
    )


def some_photos(photos: int, classes: int = 4, seed: int = 0) -> ImageCounts:
    """Photos of which each lacks some classes, the last class being in two alone."""
    rng = np.random.default_rng(seed)
    matrices = rng.integers(0, 50, (photos, classes, classes)) + 80 * np.eye(classes, dtype=int)
    absent = rng.random((photos, classes)) < 0.4
    absent[:, 0] = False
    absent[:, -1] = np.arange(photos) > 1
    matrices[absent] = 0
    matrices.transpose(0, 2, 1)[absent] = 0
    return counts_of(matrices)


def test_equals_scipy_on_the_same_draws() -> None:
    counts = some_photos(40)

    def miou(chosen: np.ndarray) -> float:
        matrix = counts.matrices[chosen.astype(int)].sum(0)
        return Scores.of(torch.from_numpy(matrix)).miou

    oracle = stats.bootstrap(
        (np.arange(40),),
        miou,
        n_resamples=500,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = intervals(counts, 500)
    assert found["miou"] == pytest.approx([oracle.low, oracle.high], abs=1e-12)
    assert found["resamples"] == 500 and found["level"] == 0.95


def test_equals_a_plain_loop_on_other_draws() -> None:
    """To within the Monte Carlo error of 2,000 draws; absent classes are left out of a mean."""
    counts, rng = some_photos(25), random.Random(1)
    found: dict[str, list[float]] = {"miou": [], "pixel_acc": [], "c3": []}
    for _ in range(2000):
        matrix = [[0] * 4 for _ in range(4)]
        for photo in rng.choices(counts.matrices.tolist(), k=25):
            matrix = [
                [a + b for a, b in zip(*rows, strict=True)]
                for rows in zip(matrix, photo, strict=True)
            ]
        iou = []
        for c in range(4):
            union = sum(matrix[c]) + sum(row[c] for row in matrix) - matrix[c][c]
            iou.append(matrix[c][c] / union if union else math.nan)
        found["miou"].append(statistics.fmean(v for v in iou if v == v))
        right = sum(matrix[c][c] for c in range(4))
        found["pixel_acc"].append(right / sum(map(sum, matrix)))
        found["c3"].append(iou[3])
    ours = intervals(counts)
    ours["c3"] = ours["iou"]["c3"]
    for name, values in found.items():
        known = sorted(v for v in values if v == v)
        assert (len(known) < 2000) == (name == "c3")
        low, high = (known[round(q * (len(known) - 1))] for q in (0.025, 0.975))
        assert ours[name] == pytest.approx([low, high], abs=0.15 * (high - low)), name


def test_a_class_that_never_occurs_has_no_interval() -> None:
    matrices = np.zeros((3, 3, 3), np.int64)
    matrices[:, :2, :2] = 5
    found = intervals(counts_of(matrices), 100)
    assert found["iou"]["c2"] is None
    assert found["miou"] == pytest.approx([1 / 3, 1 / 3])
    assert intervals(counts_of(np.zeros((3, 3, 3), np.int64)), 100) is None


def test_blocks_of_draws_are_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draws(7, 50)
    assert (whole.sum(1) == 7).all()
    monkeypatch.setattr("toyfcn.evaluation.bootstrap.BLOCK", 21)
    assert np.array_equal(draws(7, 50), whole)


def test_a_large_data_set_takes_no_two_seconds() -> None:
    counts, start = some_photos(1449, 21), time.perf_counter()
    intervals(counts)
    assert time.perf_counter() - start < 2


@pytest.mark.slow
def test_the_truth_lies_within_at_its_rate() -> None:
    """Of 1,000 data sets of 100 photos, in 93 to 97 % the interval covers the population's IU."""
    population = some_photos(20_000, seed=1)
    population.matrices[:, -1] = population.matrices[:, :, -1] = 0  # too rare for any data set
    truth = Scores.of(torch.from_numpy(population.matrices.sum(0))).miou
    rng, hits, weights = np.random.default_rng(2), 0, draws(100, 2000)
    for _ in range(1000):
        chosen = population.matrices[rng.integers(0, 20_000, 100)]
        low, high = bounds(resampled(counts_of(chosen), weights)[:, :1])[:, 0]
        hits += int(low <= truth <= high)
    assert 930 <= hits <= 970, hits
