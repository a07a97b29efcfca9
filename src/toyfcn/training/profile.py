"""Where a training step's time goes: PyTorch's profiler with Lightning's parts of a step in it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import torch
from pytorch_lightning.profilers import Profiler

log = logging.getLogger(__name__)

FIRST, STEPS = 4, 5  # steps before the profile, which are slow, and in it
PARTS = {
    "train_dataloader_next": "waiting for the next batch",
    "batch_to_device": "batch to the device",
    "training_step": "forward pass and loss",
    "backward": "backward pass",
    "optimizer_step": "update of the weights",
    "ProfilerStep*": "the whole step, with logs and callbacks",
}


class StepProfile(Profiler):
    """Writes ``folder``/trace.json (chrome://tracing, ui.perfetto.dev) and prints a table.

    On a GPU the parts are what the CPU spends on them: the GPU's own time stands in the trace, and
    beside each operation in profile.txt.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(dirpath=folder)
        self.folder, self.steps, self.table = folder, 0, ""
        self.open: dict[str, torch.profiler.record_function] = {}
        self.profiler = torch.profiler.profile(
            schedule=torch.profiler.schedule(wait=FIRST - 1, warmup=1, active=STEPS, repeat=1),
            on_trace_ready=self.write,
        )

    def start(self, action_name: str) -> None:
        """Begin a part; a step begins where Lightning asks for its batch."""
        if action_name.endswith("train_dataloader_next"):
            (self.profiler.step if self.steps else self.profiler.start)()
            self.steps += 1
        part = torch.profiler.record_function(action_name)
        part.__enter__()  # type: ignore[no-untyped-call]  # torch has it without types
        self.open[action_name] = part

    def stop(self, action_name: str) -> None:
        """End a part."""
        if action_name in self.open:
            self.open.pop(action_name).__exit__(None, None, None)

    def write(self, profiler: torch.profiler.profile) -> None:
        """Keep what was found: the trace, and a table of parts and operations."""
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / "trace.json"))
        found = profiler.key_averages()
        # a part within one of the same name (a hook's, its strategy's) is counted once
        spent = dict.fromkeys(PARTS, 0.0)
        for part, event in itertools.product(PARTS, found):
            if event.key.endswith(part):
                spent[part] = max(spent[part], event.cpu_time_total / 1000)
        spent["optimizer_step"] -= spent["training_step"] + spent["backward"]  # both run within it
        steps = next(event.count for event in found if event.key == "ProfilerStep*")
        lines = [f"A training step, mean of {steps}:"]
        lines += [f"{spent[part] / steps:8.1f} ms  {PARTS[part]}" for part in PARTS]
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        self.table = "\n".join(lines)
        (self.folder / "profile.txt").write_text(f"{self.table}\n\n{found.table(sort_by=by)}\n")

    def describe(self) -> None:
        """Print the table, and where the rest is."""
        self.end()
        if not self.table:
            log.warning("trainer.profile=true: too few steps, it takes %d", FIRST + STEPS)
            return
        print(f"{self.table}\noperations:   {self.folder / 'profile.txt'}")
        print(f"trace:        {self.folder / 'trace.json'} (chrome://tracing, ui.perfetto.dev)")

    def end(self) -> None:
        """Stop, wherever the training has ended."""
        for action in list(self.open):
            self.stop(action)
        if self.steps:
            self.profiler.stop()
        self.steps = 0

    def teardown(self, stage: str | None = None) -> None:
        """Stop where a training has failed."""
        self.end()
        super().teardown(stage)
