"""toyfcn-report DIR: the table, plots and page of a run, of a sweep, or of a folder of runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toyfcn.cli import output
from toyfcn.runs import failures


def main() -> None:
    """Start the command."""
    output.keep_open()
    parser = argparse.ArgumentParser(
        "toyfcn-report",
        description="Rank the runs of a folder, finished or not: a table here, and in the folder "
        "results.csv, results.md, plots/*.png and report.html.",
        epilog="example: toyfcn-report outputs/sweeps/NAME",
    )
    parser.add_argument(
        "folder", metavar="DIR", help="folder of a run, of a sweep, or that holds runs"
    )
    try:
        report(Path(parser.parse_args().folder))
    except (ValueError, OSError) as error:
        print(f"toyfcn-report: {failures.told(error) or error}", file=sys.stderr)
        sys.exit(2)


def report(folder: Path) -> None:
    """Print the ranked table of a folder's runs; write results.csv, results.md, plots, report.html.

    Raises:
        ValueError: there is no run in the folder.
    """
    from toyfcn.report import page, plots, tables, theme
    from toyfcn.report.results import collect

    results = collect(folder)
    tables.print_results(results)
    tables.write_csv(results, folder / "results.csv")
    (folder / "results.md").write_text(tables.markdown(results), encoding="utf-8")
    light, dark = plots.draw_all(results), plots.draw_all(results, theme.DARK)
    if light:
        (folder / "plots").mkdir(exist_ok=True)
    for name, content in light.items():
        (folder / "plots" / f"{name}.png").write_bytes(content)
    (folder / "report.html").write_text(page.page(results, light, dark), encoding="utf-8")
    print(f"report:       {folder / 'report.html'}")


def plain(name: str) -> str:
    """Make a name from a file harmless to a terminal: no control characters, no rich markup."""
    return escape("".join(c if c.isprintable() else "�" for c in name))


def print_scores(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print IU by class for each scored split, and below it the totals beside the baseline.

    ``metrics`` is the content of metrics.json.
    """
    splits = {name: found for name, found in metrics.items() if found is not None}
    table = Table(title="intersection over union by class, %", title_justify="left")
    table.add_column("class")
    for name, found in splits.items():
        table.add_column(f"{name} ({found['images']} images)", justify="right")

    def row(label: str, values: list[float | None], **style: Any) -> None:
        cells = ["–" if value is None else f"{100 * value:.1f}" for value in values]
        table.add_row(label, *cells, **style)

    for name in next(iter(splits.values()))["iou"]:
        row(plain(name), [found["iou"].get(name) for found in splits.values()])
    table.add_section()
    for key, label in (
        ("miou", "mean IU"),
        ("baseline_miou", "  all-background mean IU"),
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
