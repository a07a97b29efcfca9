"""run.json: what a run was made of, on what, and how it ended."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toyfcn import __version__

log = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "pillow", "numpy")


def write_json(path: Path, content: Any) -> None:
    """Write JSON aside and move it into place, so that no reader sees half of it."""
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def read_run(folder: Path) -> dict[str, Any]:
    """Return the content of a run's run.json; nothing where there is none, or none to be read."""
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_status(folder: Path) -> str:
    """Return how a run stands: finished, pruned, failed, interrupted, running or waiting.

    A run whose process is gone (after SIGKILL, say) was interrupted, whatever it wrote last.
    """
    from toyfcn.runs.resume import running

    status = str(read_run(folder).get("status", "waiting"))
    return "interrupted" if status == "running" and not running(folder) else status


class RunRecord:
    """Keeps run.json up to date: status running, then finished, pruned, failed or interrupted.

    ``before``: its content where a run goes on; the new session is then listed under ``resumed``.
    """

    def __init__(self, folder: Path, seed: int, before: dict[str, Any] | None = None) -> None:
        self.path, self.started = folder / "run.json", time.time()
        self.content: dict[str, Any] = {
            "status": "running",
            "seed": seed,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "git_commit": git_commit(),
            "versions": {"toyfcn": __version__, "python": platform.python_version()}
            | {name: version(name) for name in PACKAGES},
            "hardware": hardware(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self.seconds = 0.0  # of the sessions before this one
        if before:
            keys = ("command", "git_commit", "versions", "hardware", "started")
            session = {key: self.content[key] for key in keys}
            earlier = before.get("resumed")
            resumed = [*(earlier if isinstance(earlier, list) else []), session]
            first = {key: before[key] for key in keys if key in before}
            self.content |= first | {"resumed": resumed}
            seconds = before.get("duration_s")
            self.seconds = float(seconds) if isinstance(seconds, int | float) else 0.0
        write_json(self.path, self.content)

    def update(self, status: str, **facts: Any) -> None:
        """Set the status and whatever else is known now."""
        seconds = round(self.seconds + time.time() - self.started, 2)
        self.content |= {"status": status, "duration_s": seconds, **facts}
        try:
            write_json(self.path, self.content)
        except OSError as error:  # a full disk must not hide how the run ended
            log.warning("%s could not be written: %s", self.path, error.strerror or error)


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


def hardware() -> dict[str, Any]:
    """Return what the run runs on."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
    }


class Pruned(Exception):  # noqa: N818  # an outcome, no error
    """The trial of a search is given up: the others were better at this step."""
