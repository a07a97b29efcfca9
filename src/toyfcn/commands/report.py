"""toyfcn-report DIR: the table, plots and page of a run, of a sweep, or of a folder of runs."""

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
        description="Rank the runs of a folder, finished or not: a table here, and in the folder "
        "results.csv, results.md, plots/*.png and report.html.",
        epilog="example: toyfcn-report outputs/sweeps/NAME",
    )
    parser.add_argument(
        "folder", metavar="DIR", help="folder of a run, of a sweep, or that holds runs"
    )
    folder = Path(parser.parse_args().folder)
    with one_line("toyfcn-report"):
        load("toyfcn.report.write:write_report")(folder)
