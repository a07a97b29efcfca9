"""Reads the results of a run, of a sweep, or of any folder of runs, whatever state they are in."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toyfcn.config.sweep import ClaimConfig
from toyfcn.files import read_json
from toyfcn.runs.history import read_history
from toyfcn.runs.resume import FREE, unquoted
from toyfcn.runs.run import read_overrides, read_run, read_status
from toyfcn.text import printable

HISTORY = {"val.miou": "val_miou", "val.loss": "val_loss", "val.pixel_acc": "val_pixel_acc"}
DEPTH = 3  # folders below the named one in which runs are looked for


@dataclass(frozen=True)
class Result:
    """One run: what was asked of it, how it stands, and its figures so far."""

    name: str
    folder: Path
    status: str
    parameters: dict[str, str]
    metrics: dict[str, Any]
    history: list[dict[str, float]] = field(repr=False)
    run: dict[str, Any] = field(repr=False)

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.status == "finished"

    @property
    def seconds(self) -> float | None:
        """How long it took, seconds."""
        value = self.run.get("duration_s")
        return float(value) if isinstance(value, int | float) else None

    @property
    def seed(self) -> str:
        """Its seed, written in one way."""
        text = str(self.run.get("seed", self.parameters.get("seed") or "0"))
        return str(int(text)) if text.isdecimal() else text

    def figure(self, name: str, best: Any = max) -> float | None:
        """Return a figure such as val.miou; of a run without metrics.json its best one so far."""
        split, _, key = name.partition(".")
        found = self.metrics.get(split)
        if isinstance(found, dict):
            value = found.get(key)
            return float(value) if isinstance(value, int | float) else None
        column = HISTORY.get(name)
        values = [row[column] for row in self.history if column and not math.isnan(row[column])]
        return best(values) if values else None

    def interval(self, name: str, of_class: str | None = None) -> list[float]:
        """Return the bounds of a figure such as val.miou, or of a class's IU; [] without any."""
        split, _, key = name.partition(".")
        found = (self.metrics.get(split) or {}).get("intervals") or {}
        found = found.get(key) or {}
        return list(found.get(of_class) or [] if of_class else found)

    def iou(self) -> tuple[str, dict[str, float | None]]:
        """Return the split that was scored last, and IU by class on it."""
        for split in ("test", "val"):
            found = self.metrics.get(split)
            if isinstance(found, dict) and isinstance(found.get("iou"), dict):
                return split, found["iou"]
        return "", {}


@dataclass(frozen=True)
class Results:
    """The runs of a folder, best first, and what they are compared by."""

    title: str
    folder: Path
    metric: str
    direction: str
    parameters: tuple[str, ...]
    runs: tuple[Result, ...]
    sweep: bool
    claim: ClaimConfig = field(default_factory=ClaimConfig)

    def score(self, run: Result) -> float | None:
        """Return the figure that runs are ranked by."""
        return run.figure(self.metric, max if self.direction == "maximize" else min)

    def baseline(self, split: str) -> tuple[str, float] | None:
        """Return a split's most frequent class, and the mean IU of that class everywhere.

        None where runs differ in these, or do not tell.
        """
        figures = (run.metrics.get(split) for run in self.runs)
        found = {
            (clean(scores.get("baseline_class", "background")), scores["baseline_miou"])
            for scores in figures
            if isinstance(scores, dict) and scores.get("baseline_miou")
        }
        return found.pop() if len(found) == 1 else None

    @property
    def staged(self) -> bool:
        """Whether runs follow each other, each from the weights of the one before."""
        return self.sweep and "stage" in self.parameters

    @property
    def best(self) -> Result | None:
        """The best finished run."""
        return next((r for r in self.runs if r.finished and self.score(r) is not None), None)


REPEATS = {"seed": "seeds", "data.fold": "folds"}


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed or fold alone: mean and standard deviation of their scores."""

    parameters: dict[str, str]
    count: int
    mean: float
    std: float | None  # of the sample (n - 1); None for one run
    boundary: float | None  # mean boundary IU on the same split


def collect(folder: Path, *others: Path) -> Results:
    """Read whatever a folder holds, or several, whose runs are then ranked together.

    Raises:
        ValueError: there is no run in one, or they are ranked by different figures.
    """
    if others:
        return together([folder, *others])
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    plan = read_json(folder / "sweep.json")
    metric, direction = str(plan.get("metric", "val.miou")), str(plan.get("direction", "maximize"))
    if plan:
        jobs = [(str(j["name"]), dict(j["parameters"])) for j in plan.get("jobs", [])]
        names = tuple(plan["parameters"])
    elif (folder / "run.json").is_file():
        jobs, names = [(".", {})], ()
    else:
        found, names = differing(runs_below(folder))
        jobs = [(str(place.relative_to(folder)), parameters) for place, parameters in found]
    if not jobs:
        raise ValueError(f"{folder} holds no run: no run.json in it or {DEPTH} folders below")
    runs = [read(folder, name, parameters) for name, parameters in jobs]
    claim = ClaimConfig(**plan.get("claim", {}))
    results = Results(folder.name, folder, metric, direction, names, (), bool(plan), claim)
    return ranked(results, runs)


def together(folders: Sequence[Path]) -> Results:
    """Read several folders as if their runs lay in one."""
    each = [collect(folder) for folder in folders]
    aims = {f"{found.metric} ({found.direction})" for found in each}
    if len(aims) > 1:
        raise ValueError(f"these folders have no common rank: {' and '.join(sorted(aims))}")
    places = {str(run.folder): run for found in each for run in found.runs}
    jobs, names = differing([run.folder for run in places.values()])
    runs = [
        dataclasses.replace(run, name=os.path.relpath(run.folder), parameters=parameters)
        for run, (_, parameters) in zip(places.values(), jobs, strict=True)
    ]
    title = ", ".join(dict.fromkeys(found.title for found in each))
    return ranked(Results(title, Path(), each[0].metric, each[0].direction, names, (), False), runs)


def ranked(results: Results, runs: Sequence[Result]) -> Results:
    """Put runs into results, best first: finished ones, others with a figure so far, the rest."""

    def rank(run: Result) -> tuple[int, float]:
        score = results.score(run)
        if score is None or math.isnan(score):
            return 2, 0.0
        return 0 if run.finished else 1, -score if results.direction == "maximize" else score

    return dataclasses.replace(results, runs=tuple(sorted(runs, key=rank)))


def read(folder: Path, name: str, parameters: dict[str, str]) -> Result:
    """Read one run's folder."""
    place = (folder / name).absolute()
    return Result(
        name=place.name if name == "." else name,
        folder=place,
        status=read_status(place),
        parameters={clean(key): clean(value) for key, value in parameters.items()},
        metrics=read_json(place / "metrics.json"),
        history=read_history(place / "history.csv"),
        run=read_run(place),
    )


def runs_below(folder: Path) -> list[Path]:
    """Find the folders of runs below a folder."""
    paths = [
        path.parent
        for depth in range(1, DEPTH + 1)
        for path in sorted(folder.glob("*/" * depth + "run.json"))
    ]
    return [path for path in paths if "earlier" not in path.relative_to(folder).parts]


def differing(runs: Sequence[Path]) -> tuple[list[tuple[Path, dict[str, str]]], tuple[str, ...]]:
    """Return runs with those of their overrides in which they differ, and these options."""
    found: list[dict[str, str]] = []
    for path in runs:
        pairs = (line.partition("=") for line in read_overrides(path))
        found.append({k: unquoted(value) for k, _, value in pairs if tells_apart(k)})
    keys = dict.fromkeys(key for overrides in found for key in overrides)
    names = tuple(k for k in keys if len({o.get(k, "") for o in found}) > 1)
    chosen = [{clean(k): clean(o.get(k, "")) for k in names} for o in found]
    return list(zip(runs, chosen, strict=True)), tuple(clean(name) for name in names)


def tells_apart(key: str) -> bool:
    """Whether an override says what a run is, rather than where it runs or how it goes on."""
    return key not in (*FREE, "resume", "rerun", "launcher") and not key.startswith("sweep.")


def repeats(results: Results) -> str:
    """Return what runs are repeated over: seeds, folds, seeds and folds, or nothing."""
    return " and ".join(name for key, name in REPEATS.items() if key in results.parameters)


def over_repeats(results: Results) -> list[Group]:
    """Group the finished runs that differ in seed or fold alone, best mean first; else [].

    A seed, and a fold of it, counts once, however many runs have it.
    """
    if not repeats(results):
        return []
    split = results.metric.partition(".")[0]
    scores: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    boundaries: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for run in results.runs:
        score = results.score(run)
        if run.finished and score is not None:
            others = tuple((k, v) for k, v in run.parameters.items() if k not in REPEATS)
            repeat = f"{run.seed} {run.parameters.get('data.fold', '')}"
            scores.setdefault(others, {}).setdefault(repeat, score)
            if (boundary := run.figure(f"{split}.boundary_miou")) is not None:
                boundaries.setdefault(others, {}).setdefault(repeat, boundary)
    groups = [
        Group(
            dict(others),
            len(found),
            statistics.fmean(found.values()),
            statistics.stdev(found.values()) if len(found) > 1 else None,
            statistics.fmean(boundaries[others].values()) if others in boundaries else None,
        )
        for others, found in scores.items()
    ]
    return sorted(groups, key=lambda group: group.mean, reverse=results.direction == "maximize")


def clean(text: object, longest: int = 120) -> str:
    """Return a text in one line, safe to show, and not too long."""
    return printable(text, longest)


def label(run: Result, names: Sequence[str]) -> str:
    """Name a run by its folder and parameters, for legends: «3: lr 0.01, stride 2»."""
    said = [f"{name.rpartition('.')[2]} {run.parameters.get(name, '')}" for name in names]
    return clean(f"{run.name}: {', '.join(said)}" if said else run.name, 60)
