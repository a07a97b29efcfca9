"""toyfcn-data: check a data set, plan a training on it, draw one, download one."""

from __future__ import annotations

import sys

from toyfcn.cli.errors import hint, stop
from toyfcn.cli.launch import launch

NAME = "toyfcn-data"
USAGE = f"""usage: {NAME} WORD [option=value ...]

  check     read every file of a data set and list every fault; exit code 1 if there is any
  plan      propose a training on a data set: an experiment file with a reason for each choice
  draw      draw a shapes world of any size
  download  fetch PASCAL VOC: data=voc2007, voc2011 or voc2012

`{NAME} WORD --help` lists the options."""
JOBS = {
    "check": "toyfcn.data.tools.run_check:run",
    "plan": "toyfcn.training.plan:run",
    "draw": "toyfcn.data.tools.run_draw:run",
    "download": "toyfcn.data.tools.run_download:run",
}


def main() -> None:
    """Start the command: the first word says what to do, the rest is for Hydra."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(USAGE)
        return
    if word not in JOBS:
        problem = f"{word!r} is not one" if word else "it is missing"
        stop(
            NAME,
            ValueError(f"the first word says what to do: {problem} ({hint(word, list(JOBS))})"),
        )
    del sys.argv[1]
    launch(f"{NAME} {word}", "data", JOBS[word])
