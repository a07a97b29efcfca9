"""Comparisons, against a plain loop, scipy, and pairs of which the difference is known."""

import dataclasses
import itertools
import statistics

import numpy as np
import pytest
from scipy import stats
from test_bootstrap import counts_of, some_photos

from toyfcn.evaluation.compare import (
    FREEDOM,
    STUDENT,
    compare,
    most_different,
    refuse_unequal,
    verdict,
)
from toyfcn.evaluation.per_image import ImageCounts


def networks(
    rng: np.random.Generator, photos: int, skills: list[float], classes: int = 4
) -> list[ImageCounts]:
    """Networks of some skills, on the same photos; a photo has about half of the classes."""
    size = rng.integers(50, 2000, (photos, classes)) * (rng.random((photos, classes)) < 0.5)
    easy, found = rng.normal(0.6, 0.15, (photos, 1)), []
    for skill in skills:
        share = np.clip(easy + skill + rng.normal(0, 0.1, (photos, classes)), 0.02, 0.98)
        hits, label = rng.binomial(size, share), np.arange(classes)
        matrices = np.zeros((photos, classes, classes), np.int64)
        matrices[:, label, label] = hits
        matrices[:, label, (label + 1) % classes] = size - hits
        found.append(counts_of(matrices))
    return found


def test_one_network_each_equals_scipys_paired_bootstrap() -> None:
    a, b = networks(np.random.default_rng(0), 30, [0, 0.05])

    def change(chosen: np.ndarray) -> float:
        found = []
        for counts in (a, b):
            m = counts.matrices[chosen.astype(int)].sum(0)
            found.append(np.nanmean(m.diagonal() / (m.sum(0) + m.sum(1) - m.diagonal())))
        return float(found[1] - found[0])

    oracle = stats.bootstrap(
        (np.arange(30),),
        change,
        n_resamples=400,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = compare([a], [b], 400)[0]
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert found.mean == pytest.approx(change(np.arange(30)))


def test_p_equals_all_the_swaps() -> None:
    """Of eight photos there are 256 ways to swap, which are all tried here."""
    a, b = networks(np.random.default_rng(3), 8, [0, 0.1])

    def accuracy(matrices: list[np.ndarray]) -> float:
        return float(sum(np.trace(m) for m in matrices) / sum(m.sum() for m in matrices))

    changes = []
    for swaps in itertools.product([False, True], repeat=8):
        pairs = list(zip(a.matrices, b.matrices, swaps, strict=True))
        first = [y if swapped else x for x, y, swapped in pairs]
        second = [x if swapped else y for x, y, swapped in pairs]
        changes.append(accuracy(second) - accuracy(first))
    exact = statistics.fmean(abs(c) >= abs(changes[0]) - 1e-12 for c in changes)
    assert compare([a], [b], 5000)[1].p == pytest.approx(exact, abs=0.02)


def test_all_seeds_of_one_side_alone_count_in_p() -> None:
    """The first of three seeds is the other side's network itself, the others are better."""
    a, b, c = networks(np.random.default_rng(6), 60, [0, 0.1, 0.12])
    for one, other in (([a], [a, b, c]), ([a, b, c], [a]), ([a, a], [a, b, c])):
        found = compare(one, other, 500)[0]
        assert found.p < 0.05
        if min(len(one), len(other)) == 1:
            assert found.verdict == ("better" if len(other) == 3 else "worse")


def test_a_clear_difference_is_shown_and_a_network_equals_itself() -> None:
    a, b = networks(np.random.default_rng(1), 100, [0, 0.08])
    better, worse, same = (compare(*pair)[0] for pair in (([a], [b]), ([b], [a]), ([a], [a])))
    assert (better.verdict, worse.verdict, same.verdict) == ("better", "worse", "not significant")
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert better.low == pytest.approx(-worse.high, abs=1e-12)
    assert verdict("B", "A", better, (1, 1)).endswith(
        "B is better on photos like these; other seeds may differ"
    )
    assert verdict("B", "A", better, (3, 2)).endswith("B is better, over 2 and 3 seeds")
    assert verdict("A", "A", same, (1, 1)).endswith("no significant difference")


def test_a_class_of_two_photos_shows_nothing() -> None:
    """Both are better, and so is every resample; yet one swap in two would be as good."""
    a = some_photos(40)
    matrices = a.matrices.copy()
    matrices[:, 3, 3] += matrices[:, 3, :3].sum(1)
    matrices[:, 3, :3] = 0
    rare = compare([a], [counts_of(matrices)])[-1]
    assert rare.low > 0 and rare.p > 0.2 and rare.verdict == "not significant"


def test_over_seeds_the_interval_has_the_seeds_in_it() -> None:
    rng = np.random.default_rng(2)
    nets = networks(rng, 300, [0, 0.1, 0.05, 0.15])
    alone, several = compare(nets[:1], nets[2:3])[0], compare(nets[:2], nets[2:])[0]
    assert alone.verdict == "better" and several.verdict == "not significant"
    assert several.mean == pytest.approx(
        statistics.fmean(compare([a], [b])[0].mean for a, b in zip(nets[:2], nets[2:], strict=True))
    )
    for freedom, quantile in zip(FREEDOM, STUDENT, strict=True):
        assert stats.t.ppf(0.975, freedom) == pytest.approx(quantile, abs=1e-3)


def test_false_alarms_are_rare_under_no_difference() -> None:
    """Of 200 pairs at most 5 %, of one network each and of three seeds each."""
    for seeds, photos in ((1, 100), (3, 40)):
        rng, alarms = np.random.default_rng(4), 0
        for _ in range(200):
            nets = networks(rng, photos, rng.normal(0, 0.02, 2 * seeds).tolist())
            if seeds == 1:
                nets = networks(rng, photos, [0, 0])
            alarms += compare(nets[:seeds], nets[seeds:], 400)[0].verdict != "not significant"
        assert alarms <= 10, (seeds, alarms)


def test_what_is_not_the_same_is_named() -> None:
    a = some_photos(4)
    renamed = dataclasses.replace(a, ids=("p0000", "p0001", "p0002", "q"))
    with pytest.raises(ValueError, match="different photos: 'p0003' is in A alone"):
        refuse_unequal({"A": [a], "B": [renamed]})
    fewer = dataclasses.replace(a, ids=a.ids[:3])
    with pytest.raises(ValueError, match=r"A and B were .* 'p0003' is in A alone; split= chooses"):
        refuse_unequal({"A": [a], "B": [fewer]})
    with pytest.raises(ValueError, match="other classes: c3"):
        refuse_unequal({"A": [a], "B": [dataclasses.replace(a, classes=("c0", "c1", "c2", "x"))]})
    with pytest.raises(ValueError, match=r"A was scored with trainer\.test_views=1, B with 2"):
        refuse_unequal({"A": [a], "B": [dataclasses.replace(a, views=2)]})
    matrices = a.matrices.copy()
    matrices[2, 0, 0] += 1
    with pytest.raises(ValueError, match="another ground truth of 'p0002'"):
        refuse_unequal({"A": [a], "B": [counts_of(matrices)]})
    refuse_unequal({"A": [a], "B": [a, a]})


def test_the_photos_that_differ_most() -> None:
    a = np.tile([[30, 10], [10, 30]], (4, 1, 1))
    b = a.copy()
    b[3] = [[40, 0], [0, 40]]
    b[1] = [[20, 20], [20, 20]]
    (first, best), (second, worst) = most_different({"A": [counts_of(a)], "B": [counts_of(b)]}, 2)
    assert (first, best) == ("p0003", [pytest.approx(0.6), 1.0])
    assert (second, worst) == ("p0001", [pytest.approx(0.6), pytest.approx(1 / 3)])
