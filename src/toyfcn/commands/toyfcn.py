"""toyfcn: list the commands."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points

from toyfcn import __version__
from toyfcn.cli.errors import hint, stop


def main() -> None:
    """List the commands, or start one: ``toyfcn train …`` is ``toyfcn-train …``."""
    words = sys.argv[1:]
    found = {point.name: point for point in entry_points(group="console_scripts")}
    commands = sorted(name for name in found if name.startswith("toyfcn-"))
    if "--version" in words[:1]:
        print(f"toyfcn {__version__}")
    elif not words or words[0] in ("help", "-h", "--help"):
        print("toyfcn: an experiment framework for semantic segmentation\n\ncommands")
        for name in commands:
            about = (importlib.import_module(found[name].module).__doc__ or "").split("\n")[0]
            print(f"  {name:15} {about.partition(': ')[2]}")
        print("\nCOMMAND --help: its options; start with: toyfcn-train experiment=shapes_lenet")
    elif (name := f"toyfcn-{words[0]}") in commands:
        del sys.argv[1]
        sys.argv[0] = name
        found[name].load()()
    else:
        stop("toyfcn", ValueError(f"there is no {name} ({hint(name, commands)})"))
