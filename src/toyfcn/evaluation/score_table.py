"""The table of figures that a run and toyfcn-eval print."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toyfcn.text import printable


def print_scores(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print IU by class for each scored split, and below it the totals beside the baseline.

    ``metrics`` is the content of metrics.json.
    """
    splits = {name: found for name, found in metrics.items() if found is not None}
    table = Table(title="intersection over union by class", title_justify="left")
    table.add_column("class")
    for name, found in splits.items():
        table.add_column(Text(f"{name} ({found['images']} images)"), justify="right")

    def row(label: str, values: list[float | None], **style: Any) -> None:
        cells = ["–" if value is None else f"{value:.3f}" for value in values]
        table.add_row(Text(label), *cells, **style)

    for name in next(iter(splits.values()))["iou"]:
        row(printable(name), [found["iou"].get(name) for found in splits.values()])
    table.add_section()
    # earlier versions took label 0, and did not name it
    most = dict.fromkeys(found.get("baseline_class", "background") for found in splits.values())
    constant = " / ".join(printable(name) for name in most if name is not None)
    for key, label in (
        ("miou", "mean IU"),
        ("baseline_miou", f"  all-{constant or 'one-class'} mean IU"),
        ("boundary_miou", "boundary IU, 2 pixels"),
        ("pixel_acc", "pixel accuracy"),
        ("mean_acc", "mean accuracy"),
        ("fwiou", "frequency-weighted IU"),
    ):
        row(
            label,
            [found.get(key) for found in splits.values()],
            style="bold" if key == "miou" else "",
        )
    (console or Console()).print(table)
