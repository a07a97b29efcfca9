"""Stages of a sweep: runs that follow each other, each from the best weights of the one before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from toyfcn.runs.run import BEST
from toyfcn.sweep.jobs import Job, quoted

COLUMN = "stage"  # in the tables


@dataclass(frozen=True)
class Stage:
    """A stage: its overrides, and whether it starts from the weights of the one before."""

    label: str
    overrides: tuple[str, ...]
    follows: bool


def read_stages(texts: Sequence[str], given: Collection[str]) -> list[Stage]:
    """Return the stages that sweep.stages describes.

    ``given`` are the keys of the command line, which win over those of a stage.

    Raises:
        ValueError: a stage has several values for a key, or no key.
    """
    stages = []
    for number, text in enumerate(texts, 1):
        parsed = OverridesParser.create().parse_overrides(text.split())
        if not parsed or any(override.is_sweep_override() for override in parsed):
            raise ValueError(f"sweep.stages: a stage is key=value …, one value each, not {text!r}")
        words = {o.get_key_element().lstrip("+"): str(o.input_line) for o in parsed}
        follows = number > 1 and "ckpt" not in words
        kept = tuple(word for key, word in words.items() if key not in given)
        place = f"{number} from {number - 1}" if follows else str(number)
        said = " ".join(word for word in kept if word != "ckpt=null")
        stages.append(Stage(f"{place}: {said}".removesuffix(": "), kept, follows))
    return stages


def in_stages(jobs: Sequence[Job], stages: Sequence[Stage], folder: Path) -> list[list[Job]]:
    """Return the jobs of each stage: those given, once for each; their numbers are in a row."""
    rows: list[list[Job]] = []
    for stage in stages:
        row = []
        for place, job in enumerate(jobs):
            overrides, former = (*stage.overrides, *job.overrides), None
            if stage.follows:
                former = rows[-1][place].name
                weights = f"ckpt={quoted(folder / former / BEST)}"
                overrides += (weights, "model.weights=null", "recipe.pretrain_steps=0")
            name = str(len(rows) * len(jobs) + place)
            row.append(Job(name, overrides, job.parameters | {COLUMN: stage.label}, former))
        rows.append(row)
    return rows
