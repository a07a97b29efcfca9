"""The table of figures that a run and toyfcn-eval print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toyfcn.config.trainer import FIGURES, KEYS
from toyfcn.text import printable


def print_scores(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print IU by class for each scored split, and below it the totals beside the baseline.

    ``metrics`` is the content of metrics.json. In brackets stand the bounds of 95 % intervals.
    """
    splits = {name: found for name, found in metrics.items() if found is not None}
    title = Text("intersection over union by class [95 % interval]")
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name, found in splits.items():
        table.add_column(Text(f"{name} ({found['images']} images)"), justify="right")

    def row(label: str, *keys: str, **style: Any) -> None:
        cells = [Text(cell(found, *keys)) for found in splits.values()]
        table.add_row(Text(label), *cells, **style)

    for name in next(iter(splits.values()))["iou"]:
        row(printable(name), "iou", name)
    table.add_section()
    # earlier versions took label 0, and did not name it
    most = dict.fromkeys(found.get("baseline_class", "background") for found in splits.values())
    constant = " / ".join(printable(name) for name in most if name is not None)
    for key, label in FIGURES.items():
        if key != "loss":
            row(label, key, style="bold" if key == "miou" else "")
        if key == "miou":
            row(f"  all-{constant or 'one-class'} mean IU", "baseline_miou")
    own = dict.fromkeys(key for found in splits.values() for key in found if key not in KEYS)
    for key in own:  # of trainer.metrics
        if not any(isinstance(found.get(key), dict) for found in splits.values()):
            row(printable(key), key)
    (console or Console()).print(table)


def cell(found: dict[str, Any], *keys: str) -> str:
    """Return a figure of one entry of metrics.json, with its interval if it has one."""
    value: Any = found
    interval: Any = found.get("intervals") or {}
    for key in keys:
        value, interval = value.get(key, {}), interval.get(key) or {}
    if not isinstance(value, float | int):
        return "–"
    return f"{value:.3f}" + between(interval)


def between(interval: Sequence[float], scale: float = 1, digits: int = 3) -> str:
    """Return an interval in brackets behind its figure; nothing where there is none."""
    texts = [f"{scale * value:.{digits}f}" for value in interval]
    return f" [{', '.join(texts)}]" if texts else ""
