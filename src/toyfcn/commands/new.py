"""toyfcn-new: write a small project with a network, a data set and an experiment of its own."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from toyfcn.cli.errors import one_line
from toyfcn.files import write_errors

PROJECT = Path(__file__).parents[1] / "new_project"


def main() -> None:
    """Start the command."""
    parser = argparse.ArgumentParser(
        "toyfcn-new",
        description="Write a small project: a network, a data set, an experiment and tests of "
        "your own, which train at once. Change what you like.",
        epilog="example: toyfcn-new myproject",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder that does not exist yet")
    folder = parser.parse_args().folder
    with one_line("toyfcn-new"):
        write_project(folder)
    print(f"wrote {folder}; train with:\n  cd {folder}")
    print("  toyfcn-train --config-dir conf experiment=first")


def write_project(folder: Path) -> None:
    """Write the project's files.

    Raises:
        ValueError: the folder is there already, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: name a new folder")
    with write_errors(f"write {folder}"):
        shutil.copytree(
            PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
        )
