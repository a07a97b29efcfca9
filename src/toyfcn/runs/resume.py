"""Which run a config means: a new one, one that continues (resume=) or one repeated (rerun=).

All of it is settled from the config that the run's folder holds; Hydra has no part in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import KINDS, REMOVED
from toyfcn.config.data_options import DataConfig
from toyfcn.config.sweep import SweepConfig
from toyfcn.config.target import package_of, refuse_untrusted, targets
from toyfcn.runs.run import BEST, CONFIG, ENDED, Run, in_use, read_overrides, read_run, running
from toyfcn.text import first_line, printable

log = logging.getLogger(__name__)

FREE = (  # what may be chosen anew beside resume= and rerun=, because no figure depends on it
    "data.workers",
    "data.root",
    "data.cache_folder",
    "trainer.progress",
    "trainer.save_every",
    "trainer.save_failed",
    "trust",
)
REDUCTIONS = ("mean", "sum")  # of recipe.reduction; earlier versions said recipe.loss
MAX_CONFIG = 1 << 20  # bytes of a config.yaml


def resolve(config: TrainConfig, run: Run) -> tuple[TrainConfig, Run]:
    """Return the config and the run that resume= or rerun= mean; without them, those given.

    Raises:
        ValueError: there is nothing to continue or to repeat, or another process has the folder.
    """
    if config.resume == "auto":
        folder = newest_unfinished(config, run)
        if folder is None:
            return dataclasses.replace(config, resume=None), run
        return continued(folder, run, trusted_packages(config))
    if config.resume is not None:
        folder = Path(config.resume)
        if run.in_sweep and folder.resolve() != run.folder.resolve():
            raise ValueError(f"resume={folder} is not the folder of this job, {run.folder}")
        return continued(folder, run, trusted_packages(config))
    if config.rerun is not None:
        return repeated(Path(config.rerun), run, trusted_packages(config)), run
    return config, run


def continued(folder: Path, run: Run, trust: Sequence[str] = ()) -> tuple[TrainConfig, Run]:
    """Return the stored config of a run, with what is free to be chosen anew, and the run."""
    config = stored_config(folder, free(run.overrides), trust=trust)
    if running(folder):
        raise ValueError(in_use(folder))
    if folder.resolve() != run.folder.resolve():
        remove_empty(run.folder)  # which Hydra made for a new run
        run = dataclasses.replace(run, folder=folder.absolute())
    return config, dataclasses.replace(run, resumed=True, overrides=read_overrides(folder))


def repeated(folder: Path, run: Run, trust: Sequence[str] = ()) -> TrainConfig:
    """Return the config with which a finished run is done once more, in a folder of its own."""
    config = stored_config(folder, free(run.overrides), "rerun", trust)
    for needed in ("metrics.json", BEST):
        if not (folder / needed).is_file():
            raise ValueError(f"rerun={folder} has not finished: there is no {needed} to compare")
    if config.logger.uri is not None:  # of whoever wrote the file
        log.warning(
            "logger.uri=%s is not repeated: MLflow's part goes into the run's folder",
            printable(config.logger.uri, 80),
        )
        config.logger.uri = None
    return dataclasses.replace(config, rerun=str(folder), resume=None, sweep=SweepConfig())


def newest_unfinished(config: TrainConfig, run: Run) -> Path | None:
    """Find the newest run with an equal config that has not finished and is not running.

    It is looked for in the run's own folder, and beside it unless the user named that folder.
    """
    places = [run.folder] if run.named else [p.parent for p in run.folder.parent.glob("*/run.json")]
    found = []
    for place in places:
        record = read_run(place)
        if record.get("status", ENDED[0]) in ENDED or running(place):
            continue
        try:
            same = fingerprint(stored_config(place, trust=trusted_packages(config))) == fingerprint(
                config
            )
        except ValueError as error:
            log.warning("passed over: %s", error)
            continue
        if same:
            found.append((str(record.get("started")), place.stat().st_mtime, place))
    return max(found)[2] if found else None


def remove_empty(folder: Path) -> None:
    """Remove a folder in which nothing was written, and the one above if it was its only one."""
    for path in (folder, folder.parent):
        try:
            path.rmdir()
        except OSError:
            return


# ---- the config that a run's folder holds ----
def stored_config(
    folder: Path,
    overrides: Sequence[str] = (),
    option: str = "resume",
    trust: Sequence[str] = (),
) -> TrainConfig:
    """Read the config that a run was started with, through the typed schema.

    ``overrides`` are ``key=value``; ``option`` is what named the folder; ``trust`` are packages
    whose code the config may name, beside those of trust= among the overrides.

    Raises:
        ValueError: the folder has none, or one that the schema does not know or that names code.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{option}={folder} is not the folder of a run: it has no {CONFIG}")
    try:
        text = path.read_bytes()
        if len(text) > MAX_CONFIG or b"&" in text:  # an anchor multiplies what it names
            raise ValueError("it is too long, or has anchors")
        config = typed_config(OmegaConf.create(text.decode()), overrides)
    except Exception as error:  # the YAML reader raises whatever the bytes provoke
        raise ValueError(f"{path} is not a config of toyfcn-train: {first_line(error)}") from None
    refuse_untrusted(config, (*trust, *config.trust), f"{option}={folder}")
    return config


def trusted_packages(config: TrainConfig) -> list[str]:
    """Return the packages whose code a config names or trusts: its own checkpoints may name it."""
    return [*config.trust, *map(package_of, targets(config))]


def typed_config(stored: Any, overrides: Sequence[str] = ()) -> TrainConfig:
    """Bring plain values through the typed schema.

    Raises:
        ValueError, OmegaConfBaseException: the schema does not know them.
    """
    kind = KINDS.get(str(OmegaConf.select(stored, "data.kind")))
    if kind is None:
        raise ValueError("data.kind is missing, or unknown")
    schema = OmegaConf.structured(TrainConfig(data=kind()))
    OmegaConf.update(stored, "trust", [])  # which no file says of itself
    for key in REMOVED:  # of a version before
        stored.data.pop(key, None)
    if OmegaConf.select(stored, "recipe.loss") in REDUCTIONS:
        stored.recipe.update(loss="cross_entropy", reduction=stored.recipe.loss)
    if str(OmegaConf.select(stored, "optimized_metric")).endswith(".loss"):
        stored.sweep.direction = "minimize"  # version 0.1 said maximize where nobody chose
    merged = OmegaConf.merge(schema, stored)
    for key, _, value in (item.partition("=") for item in overrides):
        texts = [unquoted(text.strip()) for text in value.strip("[]").split(",") if text.strip()]
        OmegaConf.update(
            merged, key, texts if key == "trust" else None if value == "null" else value
        )
    config = OmegaConf.to_object(merged)
    assert isinstance(config, TrainConfig)
    return config


def free(overrides: Iterable[str]) -> list[str]:
    """Return those overrides that may be chosen anew, without their quotes."""
    pairs = (item.partition("=") for item in overrides)
    return [f"{key}={unquoted(value)}" for key, _, value in pairs if key in FREE]


def unquoted(value: str) -> str:
    """Take the quotes off a value of the command line."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    return value[1:-1].replace(f"\\{value[0]}", value[0])


def fingerprint(config: TrainConfig) -> dict[str, Any]:
    """Return every option that a figure depends on, as {key: plain value}."""
    flat = flatten(dataclasses.asdict(config))
    ignored = (*FREE, "resume", "rerun")
    return {k: v for k, v in flat.items() if k not in ignored and not k.startswith("sweep.")}


def digest(names: Iterable[str]) -> str:
    """Return a short hash of a list of ids."""
    return hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested options into {"group.option": value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            flatten(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": value}
        )
    return flat


def refuse_other(was: Any, now: dict[str, Any], path: Path) -> None:
    """Check that a checkpoint was saved under this config.

    Raises:
        ValueError: naming the first option that differs.
    """
    if not isinstance(was, dict):
        raise ValueError(f"{path} does not say with which config it was saved")
    was = {key: value for key, value in was.items() if key not in {f"data.{k}" for k in REMOVED}}
    if was.get("recipe.loss") in REDUCTIONS:
        was |= {"recipe.loss": "cross_entropy", "recipe.reduction": was["recipe.loss"]}
    kind = KINDS.get(now["data.kind"], DataConfig)
    newer = fingerprint(TrainConfig(data=kind()))  # options that the checkpoint does not know yet
    was = {key: newer[key] for key in now if key in newer} | was
    for key in [*now, *was]:
        if key not in was or key not in now or was[key] != now[key]:
            old, new = str(was.get(key, "unset"))[:80], str(now.get(key, "unknown"))[:80]
            what = printable(f"was trained with {str(key)[:80]}={old}, but the config says {new}")
            raise ValueError(f"{path} {what}")
