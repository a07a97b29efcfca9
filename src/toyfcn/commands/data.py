"""toyfcn-data: check a data set, plan a training on it, convert, draw or download one."""

from __future__ import annotations

import re
import sys

from toyfcn.cli.errors import hint, stop
from toyfcn.cli.launch import launch

NAME = "toyfcn-data"
USAGE = f"""usage: {NAME} WORD [option=value ...]

  check     read every file of a data set and list every fault; exit code 1 if there is any
  plan      propose a training on a data set: an experiment file with a reason for each choice
  convert   turn annotations of labelme, COCO, CVAT, Label Studio or YOLO into a data set
  draw      draw a shapes world of any size
  download  fetch PASCAL VOC: data=voc2007, voc2011 or voc2012

`{NAME} WORD --help` lists the options."""
JOBS = {
    "check": "toyfcn.data.tools.run_check:run",
    "plan": "toyfcn.training.plan:run",
    "convert": "toyfcn.data.tools.run_convert:run",
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
    # what is typed as from= is a keyword of Python, so the option is called from_
    sys.argv[1:] = [re.sub(r"^from=", "from_=", argument) for argument in sys.argv[2:]]
    launch(f"{NAME} {word}", "convert" if word == "convert" else "data", JOBS[word])
