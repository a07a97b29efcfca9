"""How an option is declared, and how a group of options checks its own bounds."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Choices = tuple[str | int, ...]


def option(
    default: Any,
    meaning: str,
    *,
    choices: Choices | None = None,
    low: float | None = None,
    high: float | None = None,
    length: int | None = None,
    path: bool = False,
    target: str | None = None,
) -> Any:
    """Declare an option: its default, its meaning (with unit), and what values it may have.

    ``choices``, ``low`` and ``high`` bound a value, or each of a list; ``length`` is that of a
    list. A ``path`` may begin with ~, the home folder. A ``target`` names code, as
    package.module:name (see ``target.py``); its text says what else it may name.
    """
    metadata = {
        "meaning": meaning,
        "choices": choices,
        "low": low,
        "high": high,
        "length": length,
        "path": path,
        "target": target,
    }
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Checked:
    """An options group that checks its own bounds when it is made."""

    GROUP = ""  # what stands before the options on the command line

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            rule, value = item.metadata, getattr(self, item.name)
            if not rule or value is None:
                continue
            if rule["path"]:
                value = expanded(value)
                setattr(self, item.name, value)
            name = item.name.rstrip("_")  # from_ is typed as from=
            key = f"{self.GROUP}.{name}" if self.GROUP else name
            if rule["length"] and len(value) != rule["length"]:
                raise ValueError(f"{key}={value} needs {rule['length']} values, not {len(value)}")
            for given in as_list(value):
                if rule["choices"] and given not in rule["choices"]:
                    allowed = ", ".join(str(choice) for choice in rule["choices"])
                    if rule["target"] is None or not (":" in given or given[:1].isupper()):
                        raise ValueError(
                            f"{key}={given} is none of {allowed}{rule['target'] or ''}"
                        )
                if isinstance(given, float) and not math.isfinite(given):
                    raise ValueError(f"{key}={given} is no finite number")
                if rule["low"] is not None and not given >= rule["low"]:
                    raise ValueError(f"{key}={given} is below {rule['low']}")
                if rule["high"] is not None and not given <= rule["high"]:
                    raise ValueError(f"{key}={given} is above {rule['high']}")


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, and anything else as the only one of a list."""
    return value if isinstance(value, list) else [value]


def expanded(path: Any) -> Any:
    """Put the home folder in the place of ~, in a path or in each of a list."""
    if isinstance(path, list):
        return [expanded(item) for item in path]
    if not isinstance(path, str) or path[:1] != "~":
        return path
    found = os.path.expanduser(path)  # noqa: PTH111  # which leaves a last slash, and ~nobody
    return str(Path(found).absolute()) if found == path else found
