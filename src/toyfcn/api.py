"""Training from Python: what ``toyfcn.train`` is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toyfcn.cli.compose import compose_train
from toyfcn.config.commands import TrainConfig
from toyfcn.runs.run import Run, new_folder
from toyfcn.training import run
from toyfcn.training.run import Metrics


def train(config: TrainConfig | Sequence[str], folder: str | Path | None = None) -> Metrics:
    """Train as toyfcn-train does, and return the content of metrics.json.

    ``config`` is a typed config, or overrides as on the command line. ``folder`` is where the run
    leaves its files; None: a new one under outputs/train.

    Raises:
        ValueError: an option, a file or the data does not fit; the message names it.

    >>> small = ["data=voc2007", "data.root=voc", "data.test_split=null", "data.crop=[32,32]"]
    >>> metrics = toyfcn.train(["debug=fast", *small], folder="run")  # doctest: +ELLIPSIS
    intersection over union by class...
    >>> metrics["val"]["images"]
    2
    """
    overrides = () if isinstance(config, TrainConfig) else tuple(config)
    typed = config if isinstance(config, TrainConfig) else compose_train(overrides)
    place = Path(folder) if folder is not None else new_folder(typed)
    return run.train(typed, Run(place.absolute(), overrides, named=folder is not None))
