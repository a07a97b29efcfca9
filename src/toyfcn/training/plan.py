"""toyfcn-data plan: look at a data set, measure a few steps, write the experiment file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import statistics
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import VOCConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.data.source import FileSource
from toyfcn.data.tools.survey import Survey, survey
from toyfcn.evaluation.scoring import score
from toyfcn.files import write_errors, write_text
from toyfcn.training import device
from toyfcn.training.lr_range import plain_steps
from toyfcn.training.proposal import ENOUGH, Proposal, fitted, propose, usable
from toyfcn.training.run import build

FEW = 16  # photos that time is measured with
WARM, MEASURED = 1, 3  # steps before the clock starts, and on it
STARTING = 20  # seconds for imports, the first save, pictures
TRAINER = ("max_steps", "val_every", "test_views", "reuse_memory", "threads")  # written down
VOC_FILES = (2007, 2011, 2012)  # data=voc… that there are


@dataclass(frozen=True)
class Cost:
    """What was measured, and what follows: times in seconds, memory in bytes."""

    step: float
    peak: int | None
    scoring: float  # of the whole run
    steps: int
    threads: int | None  # None: PyTorch's choice


def run(config: DataCommandConfig) -> int:
    """Look at the data set, measure, and write the experiment file; return 0.

    Raises:
        ValueError: the file exists, the data cannot be used, or the time is too short.
    """
    out, command = Path(config.out), command_of(Path(config.out))
    if out.exists():
        raise ValueError(f"out={out} exists: name another file, or delete it")
    source = open_source(config.data)
    seen = survey(source, SegmentationData(source, config.data).split_ids(config.data.train_split))
    print(f"{source.name}: " + "\n  ".join(seen.lines()), flush=True)
    for backbone in usable(config.data):
        proposal = propose(seen, backbone, files=isinstance(source, FileSource))
        proposal = fitted(proposal, config.data, seen, len(source.classes))
        cost = measure(proposal.config(config.data, WARM + MEASURED), config.minutes)
        print(f"measured {backbone or 'fcn_lenet'}: {cost.step:.3g} s a step", flush=True)
        if cost.steps >= ENOUGH:
            break
    if cost.steps < 1:
        raise ValueError(
            f"minutes={config.minutes:g} leaves no time to train: starting and scoring take "
            f"{cost.scoring + STARTING:.0f} s, a step {cost.step:.2g} s"
        )
    full = proposal.config(config.data, cost.steps, cost.threads)
    text = experiment(full, proposal, header(proposal, config, seen, cost, command))
    with write_errors(f"write out={out}"):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    print(f"{text}\nwritten into {out}\ntrain: {command}")
    return 0


def command_of(out: Path) -> str:
    """Return the command that runs an experiment file.

    Raises:
        ValueError: the file lies where no command looks for it.
    """
    folders = [parent for parent in out.parents if parent.name == "experiment"]
    if out.suffix != ".yaml" or not folders:
        raise ValueError(
            f"out={out} must be a .yaml file in a folder called experiment, such as "
            "conf/experiment/planned.yaml: there toyfcn-train looks for it"
        )
    name = out.relative_to(folders[0]).with_suffix("").as_posix()
    return shlex.join(
        ["toyfcn-train", "--config-dir", str(folders[0].parent), f"experiment={name}"]
    )


def measure(config: TrainConfig, minutes: float) -> Cost:
    """Train for a few steps, score a few photos, and share the time out."""
    few = dataclasses.replace(config.data, limit=FEW, cache="none")
    plain = dataclasses.replace(config.recipe, class_weights="none")  # which count all masks
    small = dataclasses.replace(config, data=few, recipe=plain)
    device.prepare(config.trainer)
    parts = build(small)
    every = torch.get_num_threads()
    alone = hardware.use_gpu("auto") or every == 1
    found = {}
    for count in (every,) if alone else (1, every):
        torch.set_num_threads(count)
        steps = plain_steps(small, parts.task, parts.data, lambda _: small.recipe.lr or 0)
        timed = itertools.islice(seconds(steps), WARM, WARM + MEASURED)
        found[statistics.median(timed)] = count
    step = min(found)
    torch.set_num_threads(found[step])
    peak = hardware.peak_memory()
    split = config.data.val_split or config.data.train_split
    start = time.perf_counter()
    source, loader = parts.data.source, parts.data.scoring_loader(split)
    score(parts.net, source.classes, source.void, loader)
    photo = (time.perf_counter() - start) / len(parts.data.split_ids(split))
    torch.set_num_threads(every)
    data = SegmentationData(source, config.data)
    # a validation; photos, their mirror images and calibration at the end
    passes = {config.data.val_split: 4, config.data.test_split: 3}
    scoring = sum(photo * n * len(data.split_ids(name)) for name, n in passes.items() if name)
    steps_left = int((60 * minutes - STARTING - scoring) / step)
    threads = None if found[step] == every else 1
    return Cost(step, peak, scoring, steps_left, threads)


def seconds(steps: Iterator[Any]) -> Iterator[float]:
    """Yield how long each step takes."""
    while True:
        start = time.perf_counter()
        next(steps)
        yield time.perf_counter() - start


def header(
    proposal: Proposal, config: DataCommandConfig, seen: Survey, cost: Cost, command: str
) -> list[str]:
    """Return the comment lines of the experiment file: the command, the time, the reasons."""
    total = (STARTING + cost.scoring + cost.steps * cost.step) / 60
    peak = "" if cost.peak is None else f", at a measured peak of {cost.peak / 2**30:.2g} GB"
    last = {
        "steps": f"{cost.steps}, which {config.minutes:g} minutes leave at {cost.step:.3g} s a "
        f"step, after {cost.scoring + STARTING:.0f} s for start and scoring{peak}",
        "validations": "one at the end: under one cycle the last weights are the best",
        "threads": f"{cost.threads or 'as many as PyTorch chooses'}, with which a step was quicker",
    }
    machine = hardware.describe()
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    told = [
        f"Proposed by toyfcn-data plan for {config.data.name}, on {machine['cpu_cores']} CPU cores "
        f"and {gpus}.",
        command,
        f"Expected: about {total:.0f} minutes, if this machine is as busy as when it was measured. "
        "Score: not measured.",
        *(f"{line}." for line in seen.lines()),
        "Why:",
        *(f"- {what}: {why}" for what, why in (proposal.reasons | last).items()),
    ]
    return [
        f"#   {line}" if line == command else f"# {part}"
        for line in told
        for part in (
            [line] if line == command else textwrap.wrap(line, 110, subsequent_indent="  ")
        )
    ]


def experiment(full: TrainConfig, proposal: Proposal, comments: list[str]) -> str:
    """Return the text of an experiment file that means the config ``full``."""
    data, default = full.data, type(full.data)()
    own = {item.name: getattr(data, item.name) for item in dataclasses.fields(data)}
    base = "voc2007" if data.kind == "voc" else data.kind
    if isinstance(data, VOCConfig) and data.year in VOC_FILES:
        base = f"voc{data.year}"
    values = {
        "data": {key: value for key, value in own.items() if value != getattr(default, key)},
        "model": {key: value for key, value in proposal.model.items() if key != "name"},
        "recipe": {key: value for key, value in proposal.recipe.items() if key != "name"},
        "trainer": {key: getattr(full.trainer, key) for key in TRAINER},
    }
    chosen = {"data": base, "model": full.model.name, "recipe": full.recipe.name}
    lines = ["# @package _global_", *comments, "defaults:"]
    lines += [f"  - override /{group}: {name}" for group, name in chosen.items()]
    lines.append("  - _self_")
    for group, options in values.items():  # JSON is YAML, and keeps texts such as "no"
        lines.append(f"{group}:")
        lines += [f"  {k}: {json.dumps(v, ensure_ascii=False)}" for k, v in options.items()]
    return "\n".join(lines) + "\n"
