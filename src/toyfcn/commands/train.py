"""toyfcn-train: train a network, score its best checkpoint, and write both into a folder."""

from __future__ import annotations

import sys

from toyfcn.cli.launch import launch
from toyfcn.cli.stored import asked, train_stored


def main() -> None:
    """Start the command; resume=DIR and rerun=DIR take that run's own config, without Hydra."""
    words = sys.argv[1:]
    if found := asked(words):
        train_stored(*found, words)
    else:
        launch("toyfcn-train", "train", "toyfcn.training.run:train", with_run=True)
