"""Tab completion of what Hydra does not know: an option's choices, and files in a group's folders.

Hydra itself offers an option's present value, and of a group the files in its own folder alone.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from toyfcn.cli.help import choices, groups_in
from toyfcn.config.data import KINDS
from toyfcn.config.data_options import DataConfig


def offered(schema: type, conf: Path) -> list[str]:
    """Return how the last word of COMP_LINE, bash's command line, may go on; [] is Hydra's part."""
    line = os.environ.get("COMP_LINE", "")
    word = line.rpartition(" ")[2]
    key, given, _ = word.partition("=")
    if not given:
        return []
    found: list[str] = []
    own = any(flag in line for flag in (" --config-", " -cd ", " -cp "))  # which Hydra reads
    if (conf / key).is_dir() and not own:
        found = choices(conf / key)
    for full, kind in {"": schema, **groups_in(schema)}.items():
        for part in [kind, *(KINDS.values() if kind is DataConfig else ())]:
            for item in dataclasses.fields(part):
                if item.metadata and key == f"{full}.{item.name}".lstrip("."):
                    of_type = ["true", "false"] if isinstance(item.default, bool) else []
                    found += map(str, item.metadata["choices"] or of_type)
    return [name for choice in dict.fromkeys(found) if (name := f"{key}={choice}").startswith(word)]
