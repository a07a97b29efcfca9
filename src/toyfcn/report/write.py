"""The table, plots and page of a run, of a sweep, or of a folder of runs: toyfcn-report."""

from __future__ import annotations

from pathlib import Path

from toyfcn.report import page, plots, tables, theme
from toyfcn.report.results import collect


def write_report(folder: Path) -> None:
    """Print the ranked table of a folder's runs; write results.csv, results.md, plots, report.html.

    Raises:
        ValueError: there is no run in the folder.
    """
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
