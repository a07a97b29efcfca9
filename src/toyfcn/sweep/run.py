"""A sweep from its beginning, or from wherever it was ended, to its table."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from filelock import Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from toyfcn.config.sweep import SweepConfig
from toyfcn.files import lock
from toyfcn.runs.resume import unquoted
from toyfcn.runs.run import ENDED, read_run, read_status
from toyfcn.sweep.jobs import Job, save, start
from toyfcn.sweep.stages import COLUMN, Stage, in_stages, read_stages

log = logging.getLogger(__name__)

SUBDIR = "${hydra.job.num}"  # as conf/train.yaml has it


def run_sweep(
    config: Any, settings: SweepConfig, loader: Any, launcher: Any, arguments: Sequence[str]
) -> None:
    """Run every job that has not ended yet, then write the report.

    ``config`` is composed by Hydra, ``settings`` its typed group ``sweep``; ``arguments`` are the
    overrides from the command line. Exits with code 1 if a job failed.

    Raises:
        ValueError: the folder holds another sweep, or another process runs this one.
    """
    refuse_places(config)
    settings.refuse_of_other_method()
    folder = Path(config.hydra.sweep.dir).absolute()
    overrides = parse(loader, settings, arguments)
    stages = read_stages(settings.stages, {key_of(override) for override in overrides})
    definition = define(settings, config.optimized_metric, overrides, stages)
    with alone_in(folder):
        agree(folder, definition)
        log.info("sweep in %s", folder)
        validate = partial(refuse_other_sweep, loader, config)
        try:
            if settings.method == "grid":
                run_grid(folder, definition, overrides, stages, launcher, validate)
            else:
                from toyfcn.sweep.search import run_search  # Optuna is heavy

                run_search(folder, definition, overrides, launcher, settings, validate)
        except (KeyboardInterrupt, SystemExit):
            again = f"the same command with {placed(folder)} goes on"
            print(f"toyfcn-train: the sweep was stopped; {again}", file=sys.stderr)
            raise
        finally:
            report(folder)
    tell_failures(folder)


def refuse_places(config: Any) -> None:
    """Check that nothing but hydra.sweep.dir says where the jobs go: each into its number.

    Raises:
        ValueError: naming the option that would have no effect.
    """
    chosen = [word.partition("=")[0].lstrip("+") for word in config.hydra.overrides.hydra]
    subdir: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    if "hydra.run.dir" in chosen:
        raise ValueError("hydra.run.dir is of a single run: hydra.sweep.dir= places a sweep")
    if "hydra.sweep.subdir" in chosen or subdir["subdir"] != SUBDIR:
        raise ValueError("hydra.sweep.subdir cannot be chosen: a job's folder is its number")


def refuse_other_sweep(loader: Any, config: Any, overrides: list[str]) -> None:
    """Compose a job, and check that it means the same sweep: one of experiment=a,b may not.

    Raises:
        ValueError: naming the option of the sweep that the job would have otherwise.
    """
    job = loader.load_sweep_config(config, overrides)
    search, pruned = job.sweep.method == "optuna", job.sweep.pruner != "none"
    if search and pruned and job.data.get("val_split") is None:
        raise ValueError("sweep.pruner needs a data.val_split: set sweep.pruner=none without one")
    for key in ("optimized_metric", *(f"sweep.{name}" for name in job.sweep)):
        here, there = (OmegaConf.select(each, key) for each in (config, job))
        if here != there:
            raise ValueError(
                f"{key} is of the whole sweep, where it is {here}; the job {' '.join(overrides)} "
                f"would have {there}: start a sweep for each"
            )


def placed(folder: Path) -> str:
    """Return the word that names a sweep's folder, as a shell takes it."""
    return shlex.quote(f"hydra.sweep.dir={folder}")


def parse(loader: Any, settings: SweepConfig, arguments: Sequence[str]) -> list[Any]:
    """Return Hydra's overrides of sweep.space and the command line; the latter win."""
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides([*settings.space, *arguments])
    return list({override.get_key_element(): override for override in parsed}.values())


def key_of(override: Any) -> str:
    """Return the key of one of Hydra's overrides."""
    return str(override.get_key_element()).lstrip("+")


def define(
    settings: SweepConfig, metric: str, overrides: Sequence[Any], stages: Sequence[Stage]
) -> dict[str, Any]:
    """Return what makes a sweep this one and no other: it must be equal for it to be resumed."""
    parameters, fixed = {}, {}
    for override in overrides:
        key, value = override.get_key_element(), override.input_line.partition("=")[2]
        if override.is_sweep_override() and key in ("launcher", "sweep", "resume"):
            raise ValueError(f"{override.input_line}: a sweep has one {key}")
        if override.is_sweep_override():
            parameters[key_of(override)] = value
        elif not key.startswith("sweep") and key not in ("launcher", "resume"):
            fixed[key] = value
    if settings.method == "optuna" and not parameters:
        raise ValueError(
            "sweep=optuna has nothing to search: give a key several values or an interval, such as "
            "'recipe.lr=tag(log, interval(0.001, 0.1))'"
        )
    if stages:
        parameters[COLUMN] = "; ".join(stage.label for stage in stages)
    search = {"sampler": settings.sampler, "seed": settings.seed}
    return {
        "method": settings.method,
        "metric": metric,
        "direction": settings.better(metric),
        "claim": dataclasses.asdict(settings.claim),
        "parameters": parameters,
        "fixed": fixed,
    } | (search if settings.method == "optuna" else {})


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no second process run this sweep meanwhile; the lock goes when the process does."""
    folder.mkdir(parents=True, exist_ok=True)
    held = lock(folder / ".lock")
    try:
        held.acquire()
    except Timeout:
        raise ValueError(f"another process is running the sweep in {folder}") from None
    try:
        yield
    finally:
        held.release()
        if {path.name for path in folder.iterdir()} <= {".lock"}:  # it was refused
            shutil.rmtree(folder)


def agree(folder: Path, definition: dict[str, Any]) -> None:
    """See that the folder is new, or holds this very sweep.

    Raises:
        ValueError: it holds another one; the message names the first difference.
    """
    path, advice = folder / "sweep.json", "choose another sweep.name"
    if not path.exists():
        if any(child.is_dir() for child in folder.iterdir()):
            raise ValueError(f"{folder} holds no sweep that could be resumed: {advice}")
        return
    before, now = (_flat(content) for content in (json.loads(path.read_text()), definition))
    for key in [*now, *before]:
        if before.get(key) != now.get(key):
            was, is_ = before.get(key, "not given"), now.get(key, "not given")
            raise ValueError(
                f"{folder} holds another sweep: {key} was {was} there and is {is_} now; {advice}"
            )


def _flat(definition: Any) -> dict[str, Any]:
    """Put parameters and fixed overrides beside the rest; leave the jobs out."""
    plain = {key: f"sweep.{key}" for key in ("method", "direction", "sampler", "seed")}
    flat = {plain.get(k, k): v for k, v in definition.items() if isinstance(v, str | int)}
    return flat | dict(definition["parameters"]) | dict(definition["fixed"])


def run_grid(
    folder: Path,
    definition: dict[str, Any],
    overrides: Sequence[Any],
    stages: Sequence[Stage],
    launcher: Any,
    validate: Callable[[list[str]], Any],
) -> None:
    """Run every combination, stage by stage; a job's number is its place in the grid.

    ``validate`` composes a job's config: a misspelt key is told before anything runs.

    Raises:
        ValueError: a parameter is an interval.
    """
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ValueError(f"{override.input_line} has no end of values: add sweep=optuna")
        if override.is_sweep_override() and getattr(override.value(), "tags", None):
            raise ValueError(f"{override.input_line}: a grid has no use for tags: add sweep=optuna")
    combinations = itertools.product(*map(words, in_order(folder, overrides)))
    jobs = []
    for number, combination in enumerate(combinations):
        swept = dict(text.lstrip("+").split("=", 1) for text in combination)
        known = definition["parameters"]
        parameters = {key: unquoted(swept[key]) for key in known if key in swept}
        jobs.append(Job(str(number), combination, parameters))
    rows = in_stages(jobs, stages, folder) if stages else [jobs]
    jobs = [job for row in rows for job in row]
    seen: set[str] = set()
    for job in jobs:
        if not seen.issuperset(job.overrides):  # each value once is enough, and quicker
            validate(list(job.overrides))
            seen.update(job.overrides)
    save(folder, definition, jobs)
    for row in rows:
        start(folder, row, launcher)


def words(override: Any) -> list[str]:
    """Return an override once for each of its values."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def in_order(folder: Path, overrides: Sequence[Any]) -> list[Any]:
    """Sort the parameters as they were when the sweep began: the order makes the numbers."""
    path = folder / "sweep.json"
    known = list(json.loads(path.read_text())["parameters"]) if path.exists() else []

    def place(override: Any) -> int:
        key = key_of(override)
        return known.index(key) if key in known else -1

    return sorted(overrides, key=place)


def report(folder: Path) -> None:
    """Print the table and write the report; a fault in it must not hide how the jobs ended."""
    if not (folder / "sweep.json").exists():
        return
    try:
        from toyfcn.report.write import write_report  # so is matplotlib

        write_report(folder)
    except Exception:
        log.exception("the report failed; the jobs' folders are as they should be")


def tell_failures(folder: Path) -> None:
    """Exit with code 1, naming the jobs that have not ended well, if there are any."""
    jobs = json.loads((folder / "sweep.json").read_text())["jobs"]
    failed = [job["name"] for job in jobs if read_status(folder / job["name"]) not in ENDED]
    if not failed:
        return
    reason = str(read_run(folder / failed[0]).get("error", "it was interrupted"))
    print(
        f"toyfcn-train: {len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)} "
        f"(job {failed[0]}: {reason[:200]}); the same command with {placed(folder)} runs "
        f"{'it' if len(failed) == 1 else 'them'} again, and nothing else",
        file=sys.stderr,
    )
    sys.exit(1)
