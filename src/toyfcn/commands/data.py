"""toyfcn-data: check a data set, draw one, download one."""

from __future__ import annotations

import sys

from toyfcn.cli.errors import hint, stop
from toyfcn.cli.launch import launch

NAME = "toyfcn-data"
USAGE = f"""usage: {NAME} WORD [option=value ...]

  check     read every file of a data set and list every fault; exit code 1 if there is any
  draw      draw a shapes world of any size
  download  fetch PASCAL VOC: data=voc2007, voc2011 or voc2012

`{NAME} WORD --help` lists the options."""
WORDS = ["check", "draw", "download"]


def main() -> None:
    """Start the command: the first word says what to do, the rest is for Hydra."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(USAGE)
        return
    if word not in WORDS:
        problem = f"{word!r} is not one" if word else "it is missing"
        stop(NAME, ValueError(f"the first word says what to do: {problem} ({hint(word, WORDS)})"))
    del sys.argv[1]
    launch(f"{NAME} {word}", "data", f"toyfcn.data.tools.run_{word}:run")
