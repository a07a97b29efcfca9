"""toyfcn-data check: read a whole data set, print what it holds and every fault."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.datasets import open_source
from toyfcn.data.folder import FolderSource
from toyfcn.data.source import FileSource
from toyfcn.data.tools.check import Report, check_source
from toyfcn.files import write_errors, write_json

SHOWN = 5  # missing files of a folder


def run(config: DataCommandConfig) -> int:
    """Read everything, print what is there and what is wrong; return 1 if there is any fault.

    Raises:
        ValueError: the data set is not there, or the report cannot be written.
    """
    data = config.data
    source = open_source(data)
    if not isinstance(source, FileSource):
        raise ValueError(f"toyfcn-data check reads files, which data={data.name} hides")
    report = check_source(
        source,
        train_split=data.train_split,
        scoring_splits=[split for split in (data.val_split, data.test_split) if split is not None],
        allow_overlap=data.allow_overlap,
        splits=config.splits,
        workers=config.workers,
    )
    print_report(report)
    if isinstance(source, FolderSource) and (advice := source.better_layout()):
        print(advice.removeprefix("; "))
    if config.report is not None:
        path = Path(config.report)
        with write_errors(f"write the report {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, report)
        print(f"report: {path}")
    return 1 if report["faults"] else 0


def print_report(report: Report) -> None:
    """Print what the data set holds, then every bad file with its reason, one line each.

    Of files that are missing in a folder, the first are printed; the JSON report has all.
    """
    print(f"{report['data']}: {report['images']} images, read in {report['seconds']:.1f} s")
    print(f"layout: {report['layout']}")
    print("lists:  " + ", ".join(f"{name} {n}" for name, n in report["splits"].items()))
    for side, found in (("width", report["width"]), ("height", report["height"])):
        if found:
            low, middle, high = found["min"], found["median"], found["max"]
            print(f"{side + ':':<8}{low} to {high} pixels, median {middle:g}")
    print(f"sizes:  {report['distinct_sizes']} different")
    kinds = (f"{name} channel{'s' * (name != '1')} {n}" for name, n in report["channels"].items())
    print("photos: " + ", ".join(kinds))
    print("masks:  " + ", ".join(f"mode {mode} {n}" for mode, n in report["mask_modes"].items()))
    table = Table(box=None)
    table.add_column("class")
    table.add_column("labeled pixels, %", justify="right")
    table.add_column("images", justify="right")
    for name, of_class in report["classes"].items():
        table.add_row(Text(name), f"{100 * of_class['share']:.2f}", str(of_class["images"]))
    Console().print(table)
    print(f"void:   {100 * report['void_share']:.2f} % of all pixels")
    missing = Counter[Path]()
    for wrong in report["faults"]:
        folder = Path(wrong["file"]).parent
        missing[folder] += wrong["reason"] == "is missing"
        if wrong["reason"] != "is missing" or missing[folder] <= SHOWN:
            print(f"{wrong['file']}: {wrong['reason']}")
    for folder, count in missing.items():
        if count > SHOWN:
            print(f"{folder}: {count - SHOWN} more files are missing")
    total = len(report["faults"])
    print(f"{total} fault{'s' * (total > 1)}" if total else "every file is sound")
