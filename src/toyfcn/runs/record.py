"""run.json: what a run was made of, on what, and how it ended."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.files import write_json
from toyfcn.runs.interrupt import Interrupted
from toyfcn.runs.run import Pruned

log = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "pillow", "numpy")


class RunRecord:
    """Keeps run.json up to date: status running, then finished, pruned, failed or interrupted.

    ``before``: its content where a run goes on; the new session is then listed under ``resumed``.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, before: dict[str, Any] | None = None
    ) -> None:
        self.path, self.started = folder / "run.json", time.time()
        self.cpu_started = hardware.cpu_seconds()
        self.content: dict[str, Any] = {
            "status": "running",
            "seed": config.seed,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "git_commit": git_commit(),
            "versions": {"toyfcn": version("toyfcn"), "python": platform.python_version()}
            | {name: version(name) for name in PACKAGES},
            "hardware": hardware.describe() | {"tf32": config.trainer.tf32},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.seconds = self.cpu_seconds = 0.0  # of the sessions before this one
        if before:
            keys = ("command", "git_commit", "versions", "hardware", "started")
            session = {key: self.content[key] for key in keys}
            earlier = before.get("resumed")
            resumed = [*(earlier if isinstance(earlier, list) else []), session]
            first = {key: before[key] for key in keys if key in before}
            self.content |= first | {"resumed": resumed}
            self.seconds, self.cpu_seconds = (
                float(spent) if isinstance(spent := before.get(key), int | float) else 0.0
                for key in ("duration_s", "cpu_s")
            )
        write_json(self.path, self.content)

    def update(self, status: str, **facts: Any) -> None:
        """Set the status and whatever else is known now."""
        seconds = round(self.seconds + time.time() - self.started, 2)
        peak = hardware.peak_memory()
        cost = {
            "duration_s": seconds,
            "cpu_s": round(self.cpu_seconds + hardware.cpu_seconds() - self.cpu_started, 2),
            "peak_memory_mb": None if peak is None else round(peak / 1e6),  # of this process so far
        }
        self.content |= {"status": status, **cost, **facts}
        try:
            write_json(self.path, self.content)
        except OSError as error:  # a full disk must not hide how the run ended
            log.warning("%s could not be written: %s", self.path, error.strerror or error)

    def ended_by(self, error: BaseException) -> None:
        """Note what ended the run, and set the status that it means."""
        if isinstance(error, Interrupted):
            self.update("interrupted", error=str(error))
            return
        status = "pruned" if isinstance(error, Pruned) else "failed"
        self.update(status, error=f"{type(error).__name__}: {error}")


def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None for an installed wheel."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    inside = "site-packages" not in __file__
    return answer.stdout.strip() or None if answer.returncode == 0 and inside else None
