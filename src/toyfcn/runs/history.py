"""history.csv: a line for each validation of a run, for reports. No torch in here."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from toyfcn.files import write_text

# and val_FIGURE, where another figure is the metric
COLUMNS = ("step", "epoch", "train_loss", "val_loss", "val_miou", "val_pixel_acc", "seconds")


def write_history(path: Path, rows: Sequence[Mapping[str, float | None]]) -> None:
    """Write history.csv, atomically; a figure that does not exist is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys((*COLUMNS, *(key for row in rows for key in row))))
    writer.writeheader()
    writer.writerows({k: None if v != v else v for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[dict[str, float]]:
    """Read history.csv: a dict of numbers for each validation, NaN where a cell is empty.

    A damaged line is left out; a missing file has no lines.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = {name: float(line[name] or "nan") for name in dict.fromkeys((*COLUMNS, *line))}
            rows.append(row | {name: int(row[name]) for name in ("step", "epoch")})
        except (KeyError, TypeError, ValueError):
            continue
    return rows
