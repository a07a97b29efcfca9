"""How results look on light and dark paper: a run has one colour in all plots and in the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toyfcn.report.results import Result, Results, clean


@dataclass(frozen=True)
class Theme:
    """Colours of paper, ink and runs: the best runs have one each, the others stay grey."""

    paper: str
    ink: str
    muted: str
    grid: str
    other: str
    runs: tuple[str, ...]

    def settings(self) -> dict[Any, Any]:
        """Return matplotlib's settings by name."""
        return STYLE | {
            "figure.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "axes.edgecolor": self.other,
            "axes.labelcolor": self.muted,
            "axes.titlecolor": self.ink,
            "text.color": self.ink,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "grid.color": self.grid,
        }


LIGHT = Theme(
    *("#ffffff", "#1c2430", "#667085", "#e6e9ee", "#c9ced6"),  # paper, ink, muted, grid, other
    runs=("#2563c9", "#d9622b", "#1a9a7a", "#a13d9c", "#c79a12", "#3aa0d8", "#b3364a", "#5b6b2f"),
)
DARK = Theme(
    *("#171c24", "#e8ebf0", "#98a2b3", "#2b323d", "#4a5361"),
    runs=("#6ea0f5", "#f08f5a", "#4fc9a5", "#d27fcd", "#e3bf52", "#7cc8ee", "#e87c8c", "#a5b872"),
)
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}


def run_colours(results: Results, theme: Theme) -> dict[str, str]:
    """Return the colour of each run: the best have one of their own."""
    ranked = [run.name for run in results.runs if run.history or run.metrics]
    own = dict(zip(ranked, theme.runs, strict=False))
    return {run.name: own.get(run.name, theme.other) for run in results.runs}


def colour_of(results: Results, run: Result) -> tuple[str, str]:
    """Return a run's colour on light and on dark paper."""
    return run_colours(results, LIGHT)[run.name], run_colours(results, DARK)[run.name]


def plain(text: object) -> str:
    """Keep matplotlib from reading a text as mathematics."""
    return clean(text, 48).replace("$", r"\$")
