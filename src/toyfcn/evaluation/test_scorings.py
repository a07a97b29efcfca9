"""outputs/test_scorings.csv: a line each time that a checkpoint is scored on a test split.

A split that is looked at often is no longer one that nothing was chosen by. So that everyone can
see how often it was, all runs and sweeps that start in a folder append to one file there.
"""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toyfcn.config.data_options import DataConfig
from toyfcn.files import lock

log = logging.getLogger(__name__)

LOG = Path("outputs/test_scorings.csv")  # in the working folder
COLUMNS = ("time", "command", "folder", "checkpoint", "data", "split", "photos", "miou")


def note_scoring(
    folder: Path,
    checkpoints: Sequence[str | Path],
    data: DataConfig,
    split: str,
    found: dict[str, Any],
) -> None:
    """Append a line if a split is a test split: the one of data.test_split, or one called test.

    ``folder`` is the run that scored, ``found`` one entry of metrics.json. A log that cannot be
    written is warned of, and ends no run.
    """
    if split not in ("test", data.test_split):
        return
    time, command = datetime.now(UTC).isoformat(timespec="seconds"), Path(sys.argv[0]).stem
    scored = ", ".join(map(near, checkpoints))
    facts = (time, command, near(folder), scored, data.name, split, found["images"])
    miou = "" if found["miou"] is None else f"{found['miou']:.6f}"
    try:
        append(LOG, (*facts, miou))
    except OSError as error:
        log.warning("%s could not be written: %s", LOG, error.strerror or error)


def append(path: Path, row: tuple[Any, ...]) -> None:
    """Append a row, below the heading if it is the first; one process after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_suffix(".lock"), seconds=10):
        rows = [row] if path.exists() else [COLUMNS, row]
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def near(path: str | Path) -> str:
    """Return a path as seen from the working folder, where it lies in there."""
    whole, here = Path(path).resolve(), Path.cwd().resolve()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)
