"""Data options as they are typed, for the commands that are suggested next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping


def data_options(name: str, chosen: Mapping[str, object]) -> str:
    """Write data=``name`` and data.… options, quoted for Hydra and for the shell."""
    words = [f"data={name}"]
    for key, value in chosen.items():
        text = str(value)
        if isinstance(value, list):
            text = text.replace(" ", "")
        elif not re.fullmatch(r"[\w./~:@%+-]*", text):
            text = "'" + text.replace("'", "\\'") + "'"
        words.append(f"data.{key}={text}")
    return shlex.join(words)
