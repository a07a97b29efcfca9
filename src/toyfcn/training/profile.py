"""Where a training step's time goes: a table for people, and a trace for Chrome or Perfetto."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.profilers import Profiler
from rich.console import Console
from rich.table import Table
from torch import nn

log = logging.getLogger(__name__)

SKIPPED, TRACED = 3, 2  # steps: the first are slow, and the trace costs time of its own
PARTS = {
    "data": "waiting for the next batch",
    "copy": "batch to the device",
    "trunk": "photo to features",
    "scores, loss": "features to scores, upsampled, and the loss",
    "backward": "gradients of the trunk, and scaling those of the scores",
    "optimizer": "weights moved",
    "rest": "log, callbacks, Lightning",
}


class StepProfile(Profiler):
    """Adds up the seconds of each part of the training steps after the first few.

    Lightning says when its actions start and stop; the trunk is watched by hooks. On a GPU every
    boundary waits for the device, so that the parts are true and the whole is slower.
    """

    def __init__(self, folder: Path, trunk: nn.Module) -> None:
        super().__init__(dirpath=folder)
        self.folder, self.steps = folder, 0
        self.begun: dict[str, float] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.first = self.last = 0.0  # when the counted steps began and ended
        self.trace: torch.profiler.profile | None = None
        trunk.register_forward_pre_hook(lambda *_: self.start("trunk"))
        trunk.register_forward_hook(lambda *_: self.stop("trunk"))

    def now(self) -> float:
        """Return the time once the device has done what it was asked for."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def start(self, action_name: str) -> None:
        """Note when an action starts."""
        action = action_name.rpartition(".")[2]
        if action == "train_dataloader_next":
            self._next_step()
        self.begun[action] = self.now()

    def stop(self, action_name: str) -> None:
        """Add an action's time, if it is one of a counted step."""
        action = action_name.rpartition(".")[2]
        begun = self.begun.pop(action, None)
        if begun is None or self.steps <= SKIPPED + TRACED:
            return
        if action == "trunk" and "training_step" not in self.begun:
            return  # a validation's
        now = self.now()
        self.seconds[action] += now - begun
        if action in ("optimizer_step", "on_train_batch_end"):
            self.last = now

    def _next_step(self) -> None:
        self.steps += 1
        if self.steps == SKIPPED + 1:
            self.trace = torch.profiler.profile()
            self.trace.start()
        if self.steps == SKIPPED + TRACED + 1:
            assert self.trace is not None
            self.trace.stop()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.trace.export_chrome_trace(str(self.folder / "trace.json"))
            self.trace, self.first = None, self.now()

    def parts(self) -> dict[str, float]:
        """Return ms a step by part, over the counted steps; empty if there were none."""
        counted = self.steps - SKIPPED - TRACED
        if counted < 1:
            return {}
        seen = self.seconds
        parts = {
            "data": seen["train_dataloader_next"],
            "copy": seen["batch_to_device"],
            "trunk": seen["trunk"],
            "scores, loss": seen["training_step"] - seen["trunk"],
            "backward": seen["backward"],
            "optimizer": seen["optimizer_step"] - seen["training_step"] - seen["backward"],
        }
        parts["rest"] = max(0.0, self.last - self.first - sum(parts.values()))
        return {name: 1000 * seconds / counted for name, seconds in parts.items()}

    def summary(self) -> str:
        """Return the table as text."""
        parts = self.parts()
        table = Table(title=f"A training step, mean of {self.steps - SKIPPED - TRACED}")
        table.add_column("part")
        table.add_column("ms", justify="right")
        table.add_column("%", justify="right")
        table.add_column()
        whole = sum(parts.values())
        for name, ms in parts.items():
            table.add_row(name, f"{ms:.1f}", f"{100 * ms / whole:.0f}", PARTS[name])
        table.add_row("step", f"{whole:.1f}", "100", "")
        console = Console(width=90)
        with console.capture() as capture:
            console.print(table)
        return capture.get()

    def describe(self) -> None:
        """Print the table, keep it beside the trace, and say where."""
        if not self.parts():
            log.warning(
                "trainer.profile=true: %d steps are too few, it takes %d",
                self.steps,
                SKIPPED + TRACED + 1,
            )
            return
        text = self.summary()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "profile.txt").write_text(text)
        print(
            f"{text}trace:        {self.folder / 'trace.json'} (chrome://tracing, ui.perfetto.dev)"
        )

    def teardown(self, stage: str | None = None) -> None:
        """Leave a trace that never came to its end."""
        if self.trace is not None:
            self.trace.stop()
            self.trace = None
        super().teardown(stage)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"trace": None}
