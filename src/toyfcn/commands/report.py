"""toyfcn-report: rank the runs of one folder or several in a table, plots and an HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from toyfcn.cli.errors import one_line
from toyfcn.cli.job import load
from toyfcn.cli.output import keep_open


def main() -> None:
    """Start the command."""
    keep_open()
    parser = argparse.ArgumentParser(
        "toyfcn-report",
        description="Rank the runs of one folder or several, finished or not: a table here, and "
        "results.csv, results.md, plots/*.png and report.html in the folder.",
        epilog="example: toyfcn-report outputs/sweeps/NAME",
    )
    what = "folder of a run, of a sweep, or that holds runs"
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help=what)
    where = "folder to write into: DIR, or outputs/report where several are named"
    parser.add_argument("--out", metavar="DIR", type=Path, help=where)
    given = parser.parse_args()
    with one_line("toyfcn-report"):
        load("toyfcn.report.write:write_report")(*given.folders, out=given.out)
