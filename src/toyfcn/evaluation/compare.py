"""Which of two scores better on the same photos: a paired bootstrap over photos, and over seeds.

A difference is shown where its 95 % interval leaves 0 out and a permutation test agrees (p at most
0.05): of few photos, or of a class that few have, a bootstrap alone is too sure.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from toyfcn.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, bounds, draws, resampled, scores_of
from toyfcn.evaluation.per_image import ImageCounts, Numbers

# 97.5 % of Student's t lies below, by degrees of freedom; 1.96 is the normal distribution's
FREEDOM = np.array([1, 2, 3, 4, 5, 6, 8, 10, 15, 30, np.inf])
STUDENT = np.array([12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.306, 2.228, 2.131, 2.042, 1.96])
Side = Sequence[ImageCounts]  # of one network, or of one a seed


@dataclass(frozen=True)
class Difference:
    """A figure of two sides, means over their seeds, and the 95 % interval of second - first.

    ``p``: how often a difference as large comes of swapping the sides' predictions at random.
    """

    figure: str
    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def mean(self) -> float:
        """The difference seen."""
        return self.second - self.first

    @property
    def verdict(self) -> str:
        """Say whether a difference is significant, and which."""
        if not (self.p <= 1 - LEVEL and (self.low > 0 or self.high < 0)):
            return "not significant"
        return "better" if self.low > 0 else "worse"

    def text(self) -> str:
        """Write the difference with its interval."""
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def compare(
    first: Side, second: Side, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Difference]:
    """Compare two sides, on photos that ``refuse_unequal`` has checked.

    Each resample draws the photos, the same for all networks. Where both sides have several seeds,
    it draws K - 1 of each one's K seeds, which gives their mean the variance that it has; since
    that is estimated from few seeds, the interval is as much wider as Student's t distribution is
    than the normal one, with Welch and Satterthwaite's degrees of freedom.

    Returns mean IU, pixel accuracy and IU by class.
    """
    sides, photos = (first, second), len(first[0].ids)
    weights, once = draws(photos, resamples, seed), np.ones((1, photos))
    seen = [np.stack([resampled(c, once) for c in side]) for side in sides]  # (K, 1, figures)
    drawn = [np.stack([resampled(c, weights) for c in side]) for side in sides]
    times = [np.ones((len(side), resamples)) for side in sides]
    if seeds := min(map(len, sides)) > 1:
        random = np.random.default_rng(seed + 1)
        counts = [len(side) for side in sides]
        times = [random.multinomial(k - 1, [1 / k] * k, resamples).T.astype(float) for k in counts]
    a, b = (mean_over(values, of) for values, of in zip(drawn, times, strict=True))
    means = [mean_over(values, np.ones((len(values), 1)))[0] for values in seen]
    middle = means[1] - means[0]
    stretch = student(b - a, seen) if seeds else 1.0
    low, high = middle + stretch * (bounds(b - a) - middle)
    p = chance(first, second, resamples, seed)
    names = ("mean IU", "pixel accuracy", *first[0].classes)
    return [
        Difference(name, *map(float, row))
        for name, *row in zip(names, *means, low, high, p, strict=True)
    ]


def mean_over(values: Numbers, times: Numbers) -> Numbers:
    """Average values (K, R, figures) over K seeds, each ``times`` (K, R); NaN is left out."""
    weights = times[..., None] * np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Numbers = np.nansum(values * weights, 0) / weights.sum(0)
    return mean


def chance(first: Side, second: Side, resamples: int, seed: int) -> Numbers:
    """Return p of a permutation test, by figure: each photo's predictions are swapped, or not.

    With several seeds, a photo's are swapped in all of them at once: the first of one side with the
    first of the other and so on, or each with each where one side has more. Where a figure is not
    defined after a swap, that counts as a difference as large.
    """
    photos = len(first[0].ids)
    swap = np.random.default_rng(seed + 2).integers(0, 2, (resamples + 1, photos)).astype(float)
    swap[0] = 0  # as it was seen
    before, after = ([c.marginals() for c in side] for side in (first, second))
    given, taken = ([np.tensordot(swap, m, 1) for m in side] for side in (before, after))
    found = []
    together = zip if len(first) == len(second) else product
    for i, j in together(range(len(first)), range(len(second))):
        moved = taken[j] - given[i]
        found.append(scores_of(after[j].sum(0) - moved) - scores_of(before[i].sum(0) + moved))
    size = np.abs(np.mean(found, 0))
    as_large: Numbers = (~(size < size[0] - 1e-12)).mean(0)
    return as_large


def student(differences: Numbers, seen: Sequence[Numbers]) -> Numbers:
    """Return how much wider Student's t distribution is than the normal one, by figure.

    ``differences`` (R, figures) of resamples, whose variance has a part that was estimated from
    the seeds of each side, ``seen`` (K, 1, figures).
    """
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of figures that are NaN alone
        parts = [np.nanvar(side[:, 0], 0, ddof=1) / len(side) for side in seen]
        unsure = sum(part**2 / (len(side) - 1) for part, side in zip(parts, seen, strict=True))
        inverse = unsure / np.maximum(np.nanvar(differences, 0), sum(parts)) ** 2
    wide: Numbers = (
        np.interp(np.nan_to_num(inverse), 1 / FREEDOM[::-1], STUDENT[::-1]) / STUDENT[-1]
    )
    return wide


def verdict(name: str, base: str, found: Difference, sizes: tuple[int, int]) -> str:
    """Say in a sentence what was found of the mean IU; ``sizes`` are the numbers of seeds."""
    change = f"{name} against {base}: mean IU {found.text()}"
    if found.verdict == "not significant":
        return f"{change}: no significant difference"
    if min(sizes) > 1:
        return f"{change}: {name} is {found.verdict}, over {sizes[1]} and {sizes[0]} seeds"
    return f"{change}: {name} is {found.verdict} on photos like these; other seeds may differ"


def refuse_unequal(sides: Mapping[str, Side]) -> None:
    """Check that all were scored on the same photos, classes and ground truth, which has labels.

    Raises:
        ValueError: naming the first difference.
    """
    (base, (first, *_)), *_ = sides.items()
    if not first.matrices.any():
        raise ValueError(f"no photo that {base} was scored on has a labeled pixel")
    for name, side in sides.items():
        for other in side:
            if other.classes != first.classes:
                odd = sorted(set(other.classes) ^ set(first.classes)) or ["their order"]
                raise ValueError(f"{base} and {name} have other classes: {odd[0]}")
            if odd := sorted(set(first.ids) ^ set(other.ids)):
                has = base if odd[0] in first.ids else name
                more = f" (and {len(odd) - 1} more differ)" if len(odd) > 1 else ""
                raise ValueError(
                    f"{base} and {name} were scored on different photos: {odd[0]!r} is in {has} "
                    f"alone{more}; split= chooses what to compare on"
                )
            if other.views != first.views:
                raise ValueError(
                    f"{base} was scored with trainer.test_views={first.views}, {name} with "
                    f"{other.views}: name the checkpoints of both, to score them in one way"
                )
            truth = (first.matrices.sum(2) != other.matrices.sum(2)).any(1)
            if truth.any():
                photo = first.ids[int(truth.argmax())]
                raise ValueError(f"{base} and {name} have another ground truth of {photo!r}")


def most_different(sides: Mapping[str, Side], photos: int) -> list[tuple[str, list[float]]]:
    """Return the ids of the photos whose mean IU differs most, and that of each side there."""
    found = np.stack(
        [np.mean([counts.figures()["miou"] for counts in side], 0) for side in sides.values()]
    )
    apart = np.nan_to_num(found.max(0) - found.min(0))
    (first, *_), *_ = sides.values()
    largest = np.argsort(-apart, kind="stable")[:photos]
    return [(first.ids[i], found[:, i].tolist()) for i in largest]
