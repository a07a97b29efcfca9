"""Results as plots: curves overlaid, IU by class, parameters against the score.

Drawn on figures of their own, without pyplot: no display, no state.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from toyfcn.report import errors
from toyfcn.report.claims import judge
from toyfcn.report.results import REPEATS, Results, clean, label
from toyfcn.report.theme import LIGHT, Theme, plain, run_colours

SHOWN = 5  # runs compared by class
NARROWEST = 0.02  # mean IU from bottom to top


def draw_all(results: Results, theme: Theme = LIGHT) -> dict[str, bytes]:
    """Return the plots that there is something to draw for, as PNG by name."""
    drawn = {}
    plots: dict[str, Callable[[Results, Theme], Figure | None]] = {
        "curves": curves,
        "parameters": parameters,
        "claim": claim,
        "iou_by_class": iou_by_class,
        "kinds": errors.kinds,
        "confusion": errors.confusion,
        "sizes": errors.sizes,
        "calibration": errors.calibration,
    }
    for name, plot in plots.items():
        content = rendered(partial(plot, results), theme)
        if content is not None:
            drawn[name] = content
    return drawn


def rendered(plot: Callable[[Theme], Figure | None], theme: Theme) -> bytes | None:
    """Return a plot as PNG; None where there is nothing to draw."""
    with mpl.rc_context(theme.settings()):
        figure = plot(theme)
        if figure is None:
            return None
        file = io.BytesIO()
        figure.savefig(file, dpi=150, format="png", metadata={"Software": None})
    return file.getvalue()


def legend(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    """Put a legend below the axes, in as many columns as its labels' lengths take."""
    longest = max(len(text) for text in labels)
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=max(1, min(len(labels), 110 // (longest + 6))),
        fontsize=9,
        handlelength=1.4,
        labelcolor="linecolor" if len(labels) == 1 else None,
    )


def curves(results: Results, theme: Theme) -> Figure | None:
    """Validation's mean IU and loss over the steps, all runs overlaid."""
    runs = [run for run in results.runs if len(run.history) > 1]
    if not runs:
        return None
    colours = run_colours(results, theme)
    figure = Figure(figsize=(9.6, 4.1), layout="constrained")
    axes = figure.subplots(1, 2)
    handles, labels = [], []
    for place, run in reversed(list(enumerate(runs))):
        own = colours[run.name] != theme.other
        steps = [row["step"] for row in run.history]
        for ax, column in zip(axes, ("val_miou", "val_loss"), strict=True):
            (line,) = ax.plot(
                steps,
                [row[column] for row in run.history],
                color=colours[run.name],
                linewidth=2.2 if place == 0 else 1.6 if own else 1,
                linestyle="-" if run.finished else (0, (3, 1.5)),
                marker="o" if len(steps) < 15 else None,
                markersize=3.5,
                zorder=3 if own else 2,
            )
        if own:
            handles.append(line)
            labels.append(plain(label(run, results.parameters)))
    if baseline := results.baseline("val"):
        name, score = baseline
        axes[0].axhline(score, color=theme.muted, linewidth=1, linestyle=(0, (1, 2)))
        axes[0].annotate(
            f"all {plain(name)}",
            (1, score),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=theme.muted,
        )
    axes[0].set_title("Mean IU on validation")
    low, high = axes[0].get_ylim()
    if high - low < NARROWEST:  # what hardly moves shall look so
        axes[0].set_ylim((low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2)
    axes[1].set_title("Loss on validation")
    for ax in axes:
        ax.set_xlabel("training step")
        ax.ticklabel_format(useOffset=False)
        ax.margins(x=0.03)
    if len(runs) > 1 and labels:  # the best, which have colors, may have one validation each
        legend(figure, handles[::-1], labels[::-1])
    return figure


def iou_by_class(results: Results, theme: Theme) -> Figure | None:
    """IU by class: bars of one run, or dots of the best few side by side."""
    runs = [run for run in results.runs if run.finished and run.iou()[1]][:SHOWN]
    if not runs:
        return None
    split, best = runs[0].iou()
    runs = [run for run in runs if run.iou()[0] == split]
    names = sorted(best, key=lambda name: -math.inf if best[name] is None else best[name] or 0)
    colours = run_colours(results, theme)
    figure = Figure(figsize=(9.6, 1.3 + 0.3 * len(names)), layout="constrained")
    ax = figure.subplots()
    rows = range(len(names))
    if len(runs) == 1:
        widths = [best[name] or 0 for name in names]
        ax.barh(rows, widths, height=0.62, color=colours[runs[0].name])
        for row, name in enumerate(names):
            value = best[name]
            text = "does not occur" if value is None else f"{value:.3f}"
            bounds = runs[0].interval(f"{split}.iou", name)
            if bounds:
                ax.plot(bounds, [row, row], color=theme.ink, linewidth=1.2)
            ax.text(
                max(value or 0, *bounds, 0) + 0.01,
                row,
                text,
                va="center",
                fontsize=9,
                color=theme.muted,
            )
    else:
        values = [[run.iou()[1].get(name) for run in runs] for name in names]
        for row, found in enumerate(values):
            known = [value for value in found if value is not None]
            if known:
                ax.plot([min(known), max(known)], [row, row], color=theme.other, linewidth=2)
        handles = []
        for i, run in reversed(list(enumerate(runs))):
            points = [(f[i], row) for row, f in enumerate(values) if f[i] is not None]
            x, y = zip(*points, strict=True) if points else ((), ())
            look: dict[str, Any] = {
                "color": colours[run.name],
                "edgecolor": theme.paper,
                "zorder": 9 - i,
                "clip_on": False,
            }
            handles.append(ax.scatter(x, y, s=62 if i == 0 else 40, **look))
        labels = [plain(label(run, results.parameters)) for run in runs]
        legend(figure, handles[::-1], labels)
    ax.set_yticks(rows, [plain(name) for name in names], color=theme.ink)
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.set_title(f"Intersection over union by class, {split}")
    return figure


def parameters(results: Results, theme: Theme) -> Figure | None:
    """Each swept parameter against the score, with the mean of each value where they repeat.

    Seeds and folds are shown where nothing else was swept, and never joined: their order has no
    meaning.
    Runs that one option of words tells apart have a color a word; beside one of numbers it has a
    line of means a word, as learning curves of two networks need.
    """
    runs = [r for r in results.runs if r.status in ("finished", "pruned")]
    runs = [run for run in runs if results.score(run) is not None]
    swept = [name for name in results.parameters if len({r.parameters.get(name) for r in runs}) > 1]
    swept = [name for name in swept if name not in REPEATS or len(swept) == 1][:6]
    if len(runs) < 2 or not swept:
        return None
    colours = run_colours(results, theme)
    columns = 2 if len(swept) in (2, 4) else min(3, len(swept))
    lines = -(-len(swept) // columns)
    spaced = ConstrainedLayoutEngine(hspace=0.08)
    figure = Figure(figsize=(9.6 if columns > 1 else 6.4, 3.3 * lines), layout=spaced)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    scores = [results.score(run) or 0.0 for run in runs]
    chosen = {name: [run.parameters.get(name, "") for run in runs] for name in swept}
    by_name = {name: _places(texts, scores) for name, texts in chosen.items()}
    for ax, name in zip(axes.flat, swept, strict=False):
        places, ticks = by_name[name]
        by_word = ticks is not None and len(swept) == 1 and len(ticks) < len(runs)
        by_place: dict[float, list[float]] = {}
        for run, x, y in zip(runs, places, scores, strict=True):
            if run.finished:
                by_place.setdefault(x, []).append(y)
            colour = theme.runs[int(x) % len(theme.runs)] if by_word else colours[run.name]
            face = colour if run.finished else theme.paper
            ax.scatter(x, y, s=44, facecolor=face, edgecolor=colour, linewidth=1.5, zorder=3)
        if len(by_place) < sum(run.finished for run in runs) and name not in REPEATS:
            means = sorted((x, sum(found) / len(found)) for x, found in by_place.items())
            told, other = "line", [n for n in swept if by_name[n][1] is not None]
            if ticks is None and len(swept) == 2 and other:
                _lines(ax, places, scores, chosen[other[0]], theme)
                told = f"lines by {other[0]}"
            elif ticks is None:
                ax.plot(*zip(*means, strict=True), color=theme.muted, linewidth=1.2, zorder=2)
            for x, mean in means if ticks else ():  # nothing lies between two words
                ax.hlines(mean, x - 0.25, x + 0.25, color=theme.muted, linewidth=1.2, zorder=2)
            ax.set_xlabel(plain(f"{told}: mean of the runs with a value"))
        _axis(ax, places, ticks)
        ax.set_title(plain(name))
    for ax in list(axes.flat)[len(swept) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(plain(results.metric))
    return figure


def claim(results: Results, theme: Theme) -> Figure | None:
    """The settings that a claim compares: a dot a seed, and mean ± std."""
    judgement = judge(results)
    if judgement is None or not any(judgement.scores.values()):
        return None
    figure = Figure(figsize=(6.4, 1.2 + 0.55 * len(judgement.scores)), layout="constrained")
    ax = figure.subplots()
    for row, by_seed in enumerate(reversed(judgement.scores.values())):
        scores = list(by_seed.values())
        if not scores:
            continue
        colour = theme.runs[(len(judgement.scores) - 1 - row) % len(theme.runs)]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0
        mean = statistics.fmean(scores)
        ax.errorbar(mean, row, xerr=spread, color=colour, linewidth=2, capsize=4, marker="|", ms=14)
        ax.scatter(scores, [row - 0.22] * len(scores), s=16, color=colour, alpha=0.7, linewidth=0)
        ax.annotate(
            f"{mean:.3f} ± {spread:.3f}",
            (mean, row),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=theme.muted,
        )
    names = [plain(setting) for setting in reversed(judgement.scores)]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.3)
    ax.margins(x=0.15)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(f"{results.metric}, mean ± std over seeds")
    ax.set_title(f"Verdict: {judgement.verdict}")
    return figure


def _lines(
    ax: Any, places: list[float], scores: list[float], words: list[str], theme: Theme
) -> None:
    """Draw the mean score of each place, a line a word, with the word above its last point."""
    for word in sorted(set(words)):
        found: dict[float, list[float]] = {}
        for x, y, own in zip(places, scores, words, strict=True):
            if own == word:
                found.setdefault(x, []).append(y)
        means = [(x, statistics.fmean(values)) for x, values in sorted(found.items())]
        ax.plot(*zip(*means, strict=True), color=theme.muted, linewidth=1.2, zorder=2)
        ax.annotate(
            plain(clean(word, 24)),
            means[-1],
            xytext=(0, 9),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=theme.ink,
        )


def _places(texts: list[str], scores: list[float]) -> tuple[list[float], list[str] | None]:
    """Return where values lie on the axis: numbers as they are, words by mean score, with names."""
    try:
        numbers = [float(text) for text in texts]
        if all(math.isfinite(value) for value in numbers):
            return numbers, None
    except ValueError:
        pass
    found = {
        name: statistics.fmean(y for text, y in zip(texts, scores, strict=True) if text == name)
        for name in sorted(set(texts))
    }
    names = sorted(found, key=lambda name: found[name])
    return [float(names.index(text)) for text in texts], names


def _axis(ax: Any, places: list[float], names: list[str] | None) -> None:
    if names is not None:
        shown = [plain(clean(name, 18)) for name in names]
        ax.set_xticks(range(len(names)), shown, rotation=0 if len(names) < 5 else 30)
        ax.set_xlim(-0.5, len(names) - 0.5)
        return
    distinct = sorted(set(places))
    if distinct[0] > 0 and distinct[-1] / distinct[0] >= 8:
        ax.set_xscale("log")
    if len(distinct) <= 6:
        ax.set_xticks(distinct, [f"{value:g}" for value in distinct])
        ax.minorticks_off()
    ax.margins(x=0.12)
