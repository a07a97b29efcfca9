"""The folder of a run: where its files are, how it stands, and which process has it."""

from __future__ import annotations

import logging
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml
from filelock import Timeout
from omegaconf import OmegaConf

from toyfcn.config.commands import TrainConfig
from toyfcn.files import is_locked, lock, read_json, write_text

log = logging.getLogger(__name__)

CONFIG = Path(".hydra", "config.yaml")  # in a run's folder, as Hydra calls them
OVERRIDES = Path(".hydra", "overrides.yaml")
LOCK = Path(".hydra", "lock")
BEST = Path("checkpoints", "best.ckpt")
LAST = Path("checkpoints", "last.ckpt")
ENDED = ("finished", "pruned")
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class Pruned(Exception):  # noqa: N818  # no error: the search goes on
    """The trial of a search is given up: the others were better at this step."""


class Pruner(Protocol):
    """What a search gives a run that is one of its trials."""

    def hopeless(self, step: int, value: float) -> bool:
        """Report a validation's figure; tell whether the trial is to be given up."""
        ...


@dataclass(frozen=True)
class Run:
    """One training: its folder, what its command line chose, and what it is part of.

    ``overrides`` are the options that the user or a sweep has chosen (``recipe.lr=0.1``);
    ``in_sweep`` says that it is a job of a sweep; ``named`` that the user named the folder;
    ``resumed`` that it goes on from what the folder holds. ``pruner`` hears of its validations.

    >>> Run(Path("outputs/mine"), ("seed=1",)).last_checkpoint
    PosixPath('outputs/mine/checkpoints/last.ckpt')
    """

    folder: Path
    overrides: tuple[str, ...] = ()
    in_sweep: bool = False
    named: bool = True
    resumed: bool = False
    pruner: Pruner | None = field(default=None, compare=False)

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the best validation."""
        return self.folder / BEST

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that the run goes on from."""
        return self.folder / LAST

    @property
    def metrics(self) -> Path:
        """The figures of the best checkpoint."""
        return self.folder / "metrics.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder while the block runs; the system lets go of it if the process ends.

        Raises:
            ValueError: another process has it.
        """
        path = self.folder / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lock(path, seconds=2)  # loader workers of a killed run may outlive it by a moment
        try:
            held.acquire()
        except Timeout:
            raise ValueError(in_use(self.folder)) from None
        except OSError as error:  # some network file systems
            log.warning("%s cannot be locked: %s", path, error.strerror or error)
        try:
            yield
        finally:
            held.release()

    def refuse_replacing(self) -> None:
        """Check that a run which does not go on has a folder without checkpoints.

        Raises:
            ValueError: it holds what another run has learned.
        """
        if self.resumed or not any(self.folder.glob("checkpoints/*.ckpt")):
            return
        other = "choose another hydra.run.dir, or delete it"
        ended = read_json(self.folder / "run.json").get("status") in ENDED
        advice = other if ended else f"continue with resume={self.folder}, or {other}"
        raise ValueError(f"{self.folder} holds another run's checkpoints: {advice}")

    def store(self, config: TrainConfig) -> None:
        """Write the config and the overrides down, as Hydra would."""
        (self.folder / CONFIG).parent.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / CONFIG, OmegaConf.to_yaml(OmegaConf.structured(config)))
        write_text(self.folder / OVERRIDES, OmegaConf.to_yaml(list(self.overrides)))

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Append what is logged while the block runs to train.log."""
        package, root = logging.getLogger("toyfcn"), logging.getLogger()
        handler = logging.FileHandler(self.folder / "train.log", encoding="utf-8", delay=True)
        handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
        before = package.level
        root.addHandler(handler)
        package.setLevel(logging.INFO)
        try:
            yield
        finally:
            package.setLevel(before)
            root.removeHandler(handler)
            handler.close()

    @property
    def resume_command(self) -> str:
        """What a user types to continue the run."""
        return f"toyfcn-train resume={shlex.quote(str(self.folder))}"


def in_use(folder: Path) -> str:
    """Return the message about a folder that another process trains in."""
    return f"{folder} is in use by another process: one run a folder"


def running(folder: Path) -> bool:
    """Tell whether another process trains in a folder."""
    return is_locked(folder / LOCK)


def read_run(folder: Path) -> dict[str, Any]:
    """Return the content of a run's run.json; nothing where there is none, or none to be read."""
    return read_json(folder / "run.json")


def read_status(folder: Path) -> str:
    """Return how a run stands: finished, pruned, failed, interrupted, running or waiting.

    A run whose process is gone (after SIGKILL, say) was interrupted, whatever it wrote last.
    """
    status = str(read_run(folder).get("status", "waiting"))
    return "interrupted" if status == "running" and not running(folder) else status


def read_overrides(folder: Path) -> tuple[str, ...]:
    """Return what the command line of a run has chosen; nothing where that cannot be read."""
    try:
        lines = yaml.safe_load((folder / OVERRIDES).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ()
    return tuple(str(line) for line in lines) if isinstance(lines, list) else ()


def new_folder(config: TrainConfig) -> Path:
    """Return the folder that a new run gets where none is named, as conf/train.yaml has it."""
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    kind = f"{config.data.name}-{config.model.name}"
    return Path("outputs", "train", kind, f"{now}_{secrets.token_hex(2)}")
