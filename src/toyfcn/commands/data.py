"""toyfcn-data: check a data set, draw one, download one."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from toyfcn.cli.launch import hint, launch, stop

NAME = "toyfcn-data"
USAGE = f"""usage: {NAME} WORD [option=value ...]

  check     read every file of a data set and list every fault; exit code 1 if there is any
  draw      draw a shapes world of any size
  download  fetch PASCAL VOC: data=voc2007, voc2011 or voc2012

`{NAME} WORD --help` lists the options."""
# imported once the options are known to be right; each returns the exit code
JOBS = {word: f"toyfcn.data.tools.run_{word}" for word in ("check", "draw", "download")}


def main() -> None:
    """Start the command: the first word says what to do, the rest is for Hydra."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(USAGE)
        return
    if word not in JOBS:
        problem = f"{word!r} is not one" if word else "it is missing"
        stop(NAME, ValueError(f"the first word says what to do: {problem} ({hint(word, [*JOBS])})"))
    del sys.argv[1]
    codes = []

    def job(config: Any) -> None:
        codes.append(importlib.import_module(JOBS[word]).run(config))

    launch(f"{NAME} {word}", "data", job)
    sys.exit(max(codes, default=0))
