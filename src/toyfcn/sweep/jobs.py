"""One job of a sweep: its folder, how it stands, and how a batch of jobs is started."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus

from toyfcn.files import write_json
from toyfcn.runs.run import ENDED, LAST, read_status

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A run of a sweep: its folder's name, all its overrides, and the swept ones among them.

    ``former`` is the job whose weights it starts from, if there is one.
    """

    name: str
    overrides: tuple[str, ...]
    parameters: dict[str, str]
    former: str | None = None


def save(folder: Path, definition: dict[str, Any], jobs: Sequence[Job]) -> None:
    """Write sweep.json: the definition and all jobs known so far."""
    listed = [{"name": job.name, "parameters": job.parameters} for job in jobs]
    write_json(folder / "sweep.json", definition | {"jobs": listed})


def make_launcher(context: Any, task_function: Any, config: Any) -> Any:
    """Return the launcher that hydra/launcher= names.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task_function, config=config
        )
    except (ImportError, RuntimeError) as error:
        choice = config.hydra.runtime.choices["hydra/launcher"]
        extra = "ray" if choice == "ray" else "launchers"
        raise ValueError(
            f"hydra/launcher={choice} is not installed: pip install 'toyfcn[{extra}]' ({error})"
        ) from None


def start(folder: Path, jobs: Sequence[Job], launcher: Any) -> None:
    """Run those of the jobs that have not ended; what becomes of them is told by their folders.

    A half-done job continues from its last checkpoint. One that failed, or was ended before its
    first checkpoint, starts anew, after what it left was moved to ``folder/earlier``.
    """
    batch = []
    for job in jobs:
        place = folder / job.name
        status = read_status(place)
        if status in ENDED:
            continue
        if status == "running":
            log.warning("job %s is still being run by another process: left alone", job.name)
            continue
        if job.former is not None and read_status(folder / job.former) not in ENDED:
            log.warning("job %s has to wait for job %s, which has not ended", job.name, job.former)
            continue
        where = [f"hydra.sweep.dir={quoted(folder)}", f"hydra.sweep.subdir={quoted(job.name)}"]
        if status == "interrupted" and (place / LAST).is_file():
            log.info("job %s continues from its last checkpoint", job.name)
            where.append(f"resume={quoted(place)}")
        elif place.exists():
            move_aside(place)
        batch.append((job, [*job.overrides, *where]))
    if not batch:
        return
    try:
        first = int(batch[0][0].name)
        returned = launcher.launch([overrides for _, overrides in batch], initial_job_idx=first)
    except Exception as error:  # a launcher gives up when one of its processes is killed
        log.error("the launcher gave up: %s: %s", type(error).__name__, error)
        return
    for (job, _), answer in zip(batch, returned, strict=True):
        note_failure(folder / job.name, answer)


def note_failure(place: Path, answer: Any) -> None:
    """Write run.json for a job that failed before it could write its own."""
    if answer.status != JobStatus.FAILED or read_status(place) in (*ENDED, "failed"):
        return
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the job has told it already
            _ = answer.return_value
    except Exception as error:
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "run.json", {"status": "failed", "error": str(error)})


def move_aside(place: Path) -> None:
    """Keep what an earlier try has left, out of the way of the next one."""
    number = 1
    while (kept := place.parent / "earlier" / f"{place.name}.{number}").exists():
        number += 1
    kept.parent.mkdir(exist_ok=True)
    place.rename(kept)


def quoted(value: object) -> str:
    """Write a value as Hydra's grammar takes it, whatever characters it has."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"
