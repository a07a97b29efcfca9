"""A search by Optuna whose study is in the sweep's folder: trial N is the job in folder N.

A trial that failed, or was ended half-done, stays open in the study: the next start runs it again,
with the same parameters in the same folder.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna import samplers
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from toyfcn.config.sweep import SweepConfig
from toyfcn.runs.resume import unquoted
from toyfcn.runs.run import ENDED, Pruner, read_status
from toyfcn.sweep.jobs import Job, save, start

log = logging.getLogger(__name__)
STUDY = "study.log"  # a journal: lines that are only appended outlive a SIGKILL, on NFS too


def run_search(
    folder: Path,
    definition: dict[str, Any],
    overrides: Sequence[Any],
    launcher: Any,
    settings: SweepConfig,
    validate: Callable[[list[str]], Any],
) -> None:
    """Run trials until there are ``n_trials`` in all, open ones first.

    ``validate`` composes a job's config: a misspelt key is told before anything runs.
    """
    space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
    fixed = [o.input_line for o in overrides if not o.is_sweep_override()]
    for settled in samples(space):
        validate([*fixed, *(f"{key}={value}" for key, value in settled.items())])
    study = open_study(folder, definition["direction"], new=not (folder / STUDY).exists())
    close_stumps(study, space)
    most = min(settings.n_trials, grid_size(space)) if settings.sampler == "grid" else None
    tried: set[int] = set()
    while True:
        trials = [trial for trial in study.trials if set(trial.params) == set(space)]
        for trial in trials:
            tell(study, trial, folder, definition["metric"])
        trials = [trial for trial in study.trials if set(trial.params) == set(space)]
        batch = [t.number for t in trials if not t.state.is_finished() and t.number not in tried]
        room = (most or settings.n_trials) - len(trials)
        for _ in range(min(room, settings.parallel - len(batch))):
            study.sampler = make_sampler(settings, len(study.trials), space)
            batch.append(study.ask(space).number)
        if not batch:
            return
        batch = batch[: settings.parallel]
        tried.update(batch)
        jobs = [make_job(t, fixed) for t in study.trials if set(t.params) == set(space)]
        save(folder, definition, jobs)
        start(folder, [job for job in jobs if int(job.name) in batch], launcher)


def open_study(folder: Path, direction: Any = "maximize", new: bool = False) -> Any:
    """Return the study in a sweep's folder."""

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, draw = journal(folder), samplers.RandomSampler()
    if new:
        return optuna.create_study(
            storage=storage, study_name="sweep", direction=direction, sampler=draw
        )
    return optuna.load_study(storage=storage, study_name="sweep", sampler=draw)


def journal(folder: Path) -> JournalStorage:
    """Return the file of a study, whose last line may have been cut off by a kill."""
    path = folder / STUDY
    if path.exists():
        mend(path)
    return JournalStorage(JournalFileBackend(str(path)))


def mend(path: Path) -> None:
    """Drop a last line that was cut off in the middle by a kill."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def close_stumps(study: Any, space: dict[str, Any]) -> None:
    """End trials that a kill caught before all their parameters were drawn: no job ever ran."""

    for trial in study.trials:
        if not trial.state.is_finished() and set(trial.params) != set(space):
            study.tell(trial.number, state=TrialState.FAIL)


def tell(study: Any, trial: Any, folder: Path, metric: str) -> None:
    """Tell the study how an open trial's run ended, if it has."""

    place = folder / str(trial.number)
    status = read_status(place)
    if trial.state.is_finished() or status not in ENDED:
        return
    study.sampler = (
        samplers.RandomSampler()
    )  # the grid sampler would end a loop that is not Optuna's own
    if status == "pruned":
        study.tell(trial.number, state=TrialState.PRUNED)
        return
    split, _, key = metric.partition(".")
    value = (json.loads((place / "metrics.json").read_text())[split] or {}).get(key)
    if value is None:
        study.tell(trial.number, state=TrialState.FAIL)
    else:
        study.tell(trial.number, value)


def make_job(trial: Any, fixed: Sequence[str]) -> Job:
    """Return the job that runs a trial."""
    swept = {key: str(value) for key, value in trial.params.items()}
    overrides = [*fixed, *(f"{key}={value}" for key, value in swept.items())]
    return Job(
        str(trial.number),
        (*overrides, f"sweep.trial={trial.number}"),
        {key.lstrip("+"): unquoted(value) for key, value in swept.items()},
    )


def distribution(override: Any) -> Any:
    """Translate Hydra's sweep syntax into Optuna's: choice, range and interval, tagged log or not.

    Raises:
        ValueError: a tag that means nothing here.
    """

    sweep: Any = override.value()
    text = override.input_line
    tags: set[str] = getattr(sweep, "tags", set())  # glob(…) takes none
    if unknown := sorted(tags - {"log"}):
        raise ValueError(f"{text}: the tag {unknown[0]} means nothing here; known: log")
    log_scale = "log" in tags
    if log_scale and override.is_choice_sweep():
        raise ValueError(f"{text}: listed values have no scale: leave the tag out, or use interval")
    try:
        if override.is_interval_sweep():
            whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
            kind: Any = IntDistribution if whole else FloatDistribution
            return kind(sweep.start, sweep.end, log=log_scale)
        if override.is_range_sweep():
            found = list(sweep.range())
            if all(isinstance(value, int) for value in found):
                return IntDistribution(min(found), max(found), log_scale, abs(sweep.step))
            return FloatDistribution(min(found), max(found), log_scale, abs(sweep.step))
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def samples(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Return so many points of a space that each value of a choice is in one of them."""
    listed = {
        k: kind.choices if hasattr(kind, "choices") else [kind.low] for k, kind in space.items()
    }
    most = max(map(len, listed.values()))
    return [{key: found[i % len(found)] for key, found in listed.items()} for i in range(most)]


def values(kind: Any) -> list[Any]:
    """Return all values of a distribution, for the grid sampler.

    Raises:
        ValueError: it has no end of them.
    """

    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    if kind.step is None:
        raise ValueError("sweep.sampler=grid needs values, not an interval: use choice or range")
    if isinstance(kind, FloatDistribution):
        count = round((kind.high - kind.low) / kind.step) + 1
        return [kind.low + i * kind.step for i in range(count)]
    return list(range(kind.low, kind.high + 1, kind.step))


def grid_size(space: dict[str, Any]) -> int:
    """Return how many combinations of values there are."""
    size = 1
    for kind in space.values():
        size *= len(values(kind))
    return size


def make_sampler(settings: SweepConfig, number: int, space: dict[str, Any]) -> Any:
    """Return the sampler for one trial, seeded by (seed, number), so that resuming changes nothing.

    Raises:
        ValueError: the sampler needs a package that is not installed.
    """

    if settings.sampler == "grid":  # its seed orders the grid, which is one for all trials
        lists = {key: values(kind) for key, kind in space.items()}
        return samplers.GridSampler(lists, seed=settings.seed)
    seed = zlib.crc32(f"{settings.seed}/{number}".encode())
    if settings.sampler == "cmaes" and find_spec("cmaes") is None:
        raise ValueError("sweep.sampler=cmaes needs one more package: pip install cmaes")
    kind = {
        "tpe": samplers.TPESampler,
        "random": samplers.RandomSampler,
        "cmaes": samplers.CmaEsSampler,
        "nsgaii": samplers.NSGAIISampler,
    }[settings.sampler]
    return kind(seed=seed)


class TrialPruner:
    """Reports a run's validations to its trial, and says when the trial is to be given up.

    Opens the study when the first validation is reported, so it can travel to another process.
    """

    def __init__(self, folder: Path, settings: SweepConfig) -> None:
        self.folder, self.settings = folder, settings

    def hopeless(self, step: int, value: float) -> bool:
        """Report a value after so many steps; return whether the others' median was better then."""
        number, settings = self.settings.trial, self.settings
        assert number is not None
        study, storage = open_study(self.folder), journal(self.folder)
        if not study.trials[number].state.is_finished():
            place = storage.get_study_id_from_name(study.study_name)
            trial = storage.get_trial_id_from_study_id_trial_number(place, number)
            storage.set_trial_intermediate_value(trial, step, value)
        pruner = MedianPruner(settings.prune_after_trials, settings.prune_after_steps)
        return pruner.prune(study, study.trials[number])


def pruner_of(run_folder: Path, settings: SweepConfig) -> Pruner | None:
    """Return the pruner of a run that is a trial of a search, else None."""
    if settings.trial is None or settings.pruner == "none":
        return None
    if not (run_folder.parent / STUDY).exists():  # the run is repeated outside its sweep
        log.warning("sweep.trial=%d is ignored: there is no study beside this run", settings.trial)
        return None
    return TrialPruner(run_folder.parent, settings)
