"""resume=DIR and rerun=DIR on the command line: the config comes from that run's folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from toyfcn.cli.errors import one_line
from toyfcn.cli.job import load
from toyfcn.cli.launch import with_pruner
from toyfcn.cli.output import keep_open
from toyfcn.config.commands import TrainConfig
from toyfcn.runs.resume import FREE, stored_config, unquoted
from toyfcn.runs.run import FORMAT, Run, new_folder

HARMLESS = (
    "--config-dir",
    "-cd",
    "--config-path",
    "-cp",
    "hydra.searchpath",
)  # flags whose value changes nothing that is stored
Asked = tuple[str, Path]


def asked(words: Sequence[str]) -> Asked | None:
    """Return (resume or rerun, folder) if a command line names a run.

    Not for resume= of a sweep, whose jobs resume by themselves.
    """
    if {"-h", "--help"} & {*words}:
        return None
    found, sweep = None, {"-m", "--multirun"} & {*words}
    for word in words:
        key, _, value = word.partition("=")
        if key in ("resume", "rerun"):
            folder = unquoted(value)
            named = folder not in ("", "null", "auto") and not (sweep and key == "resume")
            found = (key, Path(folder).expanduser()) if named else None
    return found


def train_stored(name: str, folder: Path, words: Sequence[str]) -> None:
    """Continue (``name`` is resume) or repeat (rerun) the run in a folder."""
    keep_open()
    with one_line("toyfcn-train"):
        config, run = from_words(name, folder, words)
        logging.basicConfig(  # as Hydra does: instead of what was set up before
            format=FORMAT, datefmt="%H:%M:%S", stream=sys.stdout, level="INFO", force=True
        )
        load("toyfcn.training.run:train")(config, with_pruner(run, config))


def from_words(name: str, folder: Path, words: Sequence[str]) -> tuple[TrainConfig, Run]:
    """Return the config that asks for the run, and the run.

    Raises:
        ValueError: another option speaks against it, or the folder is not a run's.
    """
    allowed = FREE if name == "resume" else (*FREE, "hydra.run.dir")
    overrides, place = [], None
    skip = False
    for word in words:
        key, _, value = word.partition("=")
        if skip or key in HARMLESS:
            skip = word in HARMLESS
        elif key == "hydra.run.dir" and name == "rerun":
            place = Path(unquoted(value)).expanduser()
        elif key in FREE:
            overrides.append(word)
        elif key != name:
            does = "continues as it began" if name == "resume" else "repeats a run as it was"
            raise ValueError(
                f"{word} cannot be set beside {name}={folder}, which {does}; only "
                f"{', '.join(allowed)} can"
            )
    trust = [word for word in overrides if word.startswith("trust=")]
    config = stored_config(folder, trust, name)
    config.resume = str(folder) if name == "resume" else None
    config.rerun = str(folder.absolute()) if name == "rerun" else None
    place = folder if name == "resume" else place or new_folder(config)
    return config, Run(place.absolute(), tuple(overrides))
