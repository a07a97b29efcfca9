"""Claims as experiments: what a sweep over seeds says about a sentence of the paper.

Two settings are compared by their differences at equal seeds: what a seed brings to both cancels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from toyfcn.config.sweep import ClaimConfig
from toyfcn.report.results import Results

# 95 % of Student's t lies below this, by degrees of freedom; 1.645 for very many
STUDENT = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


@dataclass(frozen=True)
class Comparison:
    """One setting against the next: mean ± std of the paired differences, and what they say."""

    first: str
    second: str
    differences: tuple[float, ...]
    verdict: str
    bound: float = field(default=math.nan)  # half the width of the 90 % interval of the mean

    @property
    def mean(self) -> float:
        """The mean difference in score."""
        return statistics.fmean(self.differences)


@dataclass(frozen=True)
class Judgement:
    """A claim, the scores behind it by setting and seed, and the verdict."""

    text: str
    scores: dict[str, dict[str, float]]
    comparisons: tuple[Comparison, ...]

    @property
    def verdict(self) -> str:
        """Say what all the comparisons together say."""
        found = [comparison.verdict for comparison in self.comparisons]
        if "does not hold" in found:
            return "does not hold"
        holds = bool(found) and all(verdict == "holds" for verdict in found)
        return "holds" if holds else "undecided at this scale"


def judge(results: Results) -> Judgement | None:
    """Compare the claim's settings, neighbour with neighbour; None where a sweep has no claim."""
    claim = results.claim
    if claim.text is None:
        return None
    scores = {setting: by_seed(results, setting) for setting in claim.settings}
    pairs = zip(claim.settings, claim.settings[1:], strict=False)
    lower = results.direction == "minimize"
    compared = [compare(a, b, scores[a], scores[b], claim, lower) for a, b in pairs]
    return Judgement(claim.text, scores, tuple(compared))


def by_seed(results: Results, setting: str) -> dict[str, float]:
    """Return the scores of the finished runs of a setting, by seed."""
    key, _, value = setting.partition("=")
    found: dict[str, float] = {}
    for run in results.runs:
        score = results.score(run)
        has = run.parameters.get(key, "").lower() == value.lower()  # true is told as True
        if run.finished and score is not None and has:
            found.setdefault(run.seed, score)
    return found


def compare(
    first: str,
    second: str,
    ours: dict[str, float],
    theirs: dict[str, float],
    claim: ClaimConfig,
    lower: bool = False,
) -> Comparison:
    """Judge one pair: by a one-sided 5 % test on the paired differences (two for ``same``).

    ``lower`` says that a lower score is better.
    """
    differences = tuple(ours[seed] - theirs[seed] for seed in ours if seed in theirs)
    if len(differences) < 2:
        return Comparison(first, second, differences or (math.nan,), "undecided")
    mean, bound = statistics.fmean(differences), half_width(differences)
    low, high = mean - bound, mean + bound
    if claim.kind == "better":
        worst, best = (-high, -low) if lower else (low, high)
        verdict = "holds" if worst > 0 else "does not hold" if best < 0 else "undecided"
    elif -claim.margin <= low and high <= claim.margin:
        verdict = "holds"
    else:
        verdict = "does not hold" if low > claim.margin or high < -claim.margin else "undecided"
    return Comparison(first, second, differences, verdict, bound)


def half_width(differences: Sequence[float]) -> float:
    """Return how far the mean may be off to either side, at 5 % each: Student's t interval."""
    freedom = len(differences) - 1
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.812
    return quantile * statistics.stdev(differences) / math.sqrt(len(differences))


def lines(judgement: Judgement) -> list[str]:
    """Say in sentences what was compared and what came of it."""
    said = []
    for setting, scores in judgement.scores.items():
        found = list(scores.values())
        spread = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
        score = f"{statistics.fmean(found):.4f}{spread}" if found else "–"
        said.append(f"{setting}: {score} over {len(found)} seeds")
    for pair in judgement.comparisons:
        between = f"{pair.mean:+.4f} (90 % interval ± {pair.bound:.4f})"
        if math.isnan(pair.bound):
            between = "fewer than two seeds in common"
        said.append(f"{pair.first} against {pair.second}: {between}: {pair.verdict}")
    return said
