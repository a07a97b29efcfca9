"""The table, plots and page of a run, of a sweep, or of a folder of runs: toyfcn-report."""

from __future__ import annotations

from pathlib import Path

from toyfcn.report import errors, page, plots, tables, theme
from toyfcn.report.results import collect
from toyfcn.runs.failures import optional

SEVERAL = Path("outputs/report")  # for runs of several folders


def write_report(*folders: Path, out: Path | None = None) -> None:
    """Print the ranked table of folders' runs; write results.csv, results.md, plots, report.html.

    These come into ``out``, or else into the folder, where there is one.

    Raises:
        ValueError: there is no run in a folder.
    """
    results = collect(*folders)
    tables.print_results(results)
    folder = out or (folders[0] if len(folders) == 1 else SEVERAL)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_csv(results, folder / "results.csv")
    (folder / "results.md").write_text(tables.markdown(results), encoding="utf-8")
    light, dark = plots.draw_all(results), plots.draw_all(results, theme.DARK)
    if light:
        (folder / "plots").mkdir(exist_ok=True)
    for name, content in light.items():
        (folder / "plots" / f"{name}.png").write_bytes(content)
    if len(results.runs) == 1:
        with optional("the pictures of the worst and best photos"):
            errors.draw_photos(results, folder / "plots" / "photos.jpg")
    (folder / "report.html").write_text(page.page(results, light, dark), encoding="utf-8")
    print(f"report:       {folder / 'report.html'}")
