"""Comparisons as a table in the terminal, CSV, Markdown and one HTML page."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from toyfcn.evaluation.compare import Difference
from toyfcn.report import page, plots, tables
from toyfcn.report.results import clean
from toyfcn.report.theme import DARK, LIGHT, Theme, plain
from toyfcn.text import no_formula


@dataclass(frozen=True)
class Pair:
    """One side against the first: figures, and what they say in a sentence."""

    first: str
    second: str
    differences: list[Difference]
    verdict: str

    @property
    def title(self) -> str:
        """What is compared."""
        return f"{self.second} against {self.first}"

    @property
    def headings(self) -> list[str]:
        """Names of the columns of its table."""
        change = ("change", "95 % interval", "p", "verdict")
        return ["figure", self.first, self.second, *change]


def cells(item: Difference) -> list[str]:
    """Return the texts of a row, in the order of ``Pair.headings``; – where not defined."""
    scores = [tables.number(None if v != v else v) for v in (item.first, item.second)]
    if item.mean != item.mean:
        return [clean(item.figure), *scores, *"––––"]
    interval = f"{item.low:+.3f}, {item.high:+.3f}"
    p = "<0.001" if item.p < 0.001 else f"{item.p:.3f}"
    return [clean(item.figure), *scores, f"{item.mean:+.4f}", interval, p, item.verdict]


def show(pairs: list[Pair], split: str | None) -> None:
    """Print the differences and the verdicts; nothing in it is taken for markup."""
    console = Console()
    for pair in pairs:
        title = pair.title + (f", {split}" if split else "")
        table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
        # so that names fit into 80 columns
        table.show_edge, table.pad_edge, table.collapse_padding = False, False, True
        for place, name in enumerate(pair.headings):
            table.add_column(Text(name), no_wrap=place > 2, min_width=6, overflow="fold")
        for item in pair.differences:
            table.add_row(*map(Text, cells(item)))
        console.print(table, Text())
    for pair in pairs:
        console.print(Text(pair.verdict, style="bold"), soft_wrap=True)


def write(folder: Path, pairs: list[Pair], photos: str, split: str | None) -> None:
    """Write compare.csv, compare.md and compare.html, which has photos.png in it if it is there."""
    where = photos + (f" of {split}" if split else "")
    with (folder / "compare.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = ["figure", "first_score", "second_score", "difference", "low", "high", "p"]
        writer.writerow(["first", "second", *names, "verdict"])
        for pair in pairs:
            for item in pair.differences:
                values = (item.first, item.second, item.mean, item.low, item.high, item.p)
                texts = [no_formula(text) for text in (pair.first, pair.second, item.figure)]
                numbers = ["" if value != value else f"{value:.6f}" for value in values]
                writer.writerow([*texts, *numbers, item.verdict])
    parts = [f"# Comparison on {tables.escaped(where)}", ""]
    for pair in pairs:
        rows = tables.rows_of(pair.headings, [cells(item) for item in pair.differences])
        parts += [tables.escaped(pair.verdict) + ".", "", *rows, ""]
    (folder / "compare.md").write_text("\n".join(parts), encoding="utf-8")
    content = as_page(pairs, where, folder / "photos.png")
    (folder / "compare.html").write_text(content, encoding="utf-8")


def as_page(pairs: list[Pair], where: str, sheet: Path) -> str:
    """Return the page, which needs nothing beside it."""
    sections, tiles = [], []
    for pair in pairs:
        found = pair.differences[0]
        tiles.append(page.tile_of(f"{found.mean:+.4f}", f"mean IU, {pair.title}: {found.verdict}"))
        light, dark = (plots.rendered(partial(intervals, pair), t) or b"" for t in (LIGHT, DARK))
        rows = [[page.safe(cell) for cell in cells(item)] for item in pair.differences]
        said = f"<p>{page.safe(pair.verdict, 400)}.</p>{page.plot(light, dark, pair.title)}"
        sections.append(page.section(pair.title, said + page.rows_of(pair.headings, rows)))
    if sheet.is_file():
        pictures = page.photo(sheet, "photo, ground truth and predictions")
        sections.append(page.section("The photos that differ most", pictures))
    return page.filled("comparison", "Comparison", f"on {where}", tiles, sections)


def intervals(pair: Pair, theme: Theme) -> Figure:
    """Draw each figure's difference with its interval, in color where it is shown."""
    found = [item for item in pair.differences if item.mean == item.mean][::-1]
    figure = Figure(figsize=(9.6, 1.2 + 0.3 * len(found)), layout="constrained")
    ax = figure.subplots()
    ax.axvline(0, color=theme.muted, linewidth=1)
    colors = {"better": theme.runs[2], "worse": theme.runs[6]}
    for row, item in enumerate(found):
        color = colors.get(item.verdict, theme.muted)
        ax.plot([item.low, item.high], [row, row], color=color, linewidth=2)
        ax.scatter([item.mean], [row], color=color, s=40, zorder=3)
    ax.set_yticks(range(len(found)), [plain(item.figure) for item in found], color=theme.ink)
    ax.grid(visible=False, axis="y")
    ax.set_title(plain(f"{pair.second} minus {pair.first}, 95 % intervals"))
    return figure
