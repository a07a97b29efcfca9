"""Which run to continue, and whether it is one: what is settled before anything is built.

``resume=DIR`` is rewritten, before Hydra starts, into options that make Hydra work in that folder
and leave its .hydra/ alone; the config then comes from DIR/.hydra/config.yaml.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from toyfcn.cli.launch import CONF
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import KINDS

log = logging.getLogger(__name__)

# what may be chosen anew beside resume=, because no figure depends on it
FREE = (
    "data.workers",
    "data.root",
    "data.cache_folder",
    "trainer.progress",
    "trainer.save_every",
    "trainer.save_failed",
)
LOCK = Path(".hydra", "lock")  # in a run's folder
MAX_CONFIG = 1 << 20  # bytes of a config.yaml


def settle(arguments: list[str]) -> list[str]:
    """Rewrite the command line of toyfcn-train if it says resume=.

    Raises:
        ValueError: there is nothing to continue, it is in use, or another option speaks against it.
    """
    wanted = [item.partition("=")[2] for item in arguments if item.startswith("resume=")]
    others = [item for item in arguments if not item.startswith("resume=")]
    if any(item.startswith("-") for item in arguments):
        return arguments  # a sweep's jobs settle it themselves (see ``settled``)
    named = [item.partition("=")[2] for item in others if item.startswith("hydra.run.dir=")]
    placed = [Path(unquote(name)) for name in named]
    if not wanted or wanted[-1] in ("", "null"):
        for place in placed[-1:]:  # the last one counts
            refuse_running(place)
            refuse_replacing(place)
        return arguments
    folder: Path | None
    if unquote(wanted[-1]) == "auto":
        folder = newest_unfinished(others, placed[-1] if placed else None)
        if folder is None:
            return arguments
        others = [item for item in others if item.partition("=")[0] in FREE]
    else:
        folder = Path(unquote(wanted[-1]))
        refused = [item for item in others if item.partition("=")[0] not in FREE]
        if refused:
            raise ValueError(
                f"{refused[0]} cannot be set beside resume={folder}, which goes on as it began; "
                f"only {', '.join(FREE)} can"
            )
        stored_config(folder)  # so that a mistake is told before Hydra writes anything
        refuse_running(folder)
    quoted = quote(folder)
    inside = [f"hydra.run.dir={quoted}", "hydra.output_subdir=null"]
    return [f"resume={quoted}", *others, *inside]


def unquote(value: str) -> str:
    """Take the quotes off a value of the command line."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] in "'\"" else value


def quote(folder: Path) -> str:
    """Return a folder, absolute, as a value of the command line."""
    return "'" + str(folder.absolute()).replace("\\", "\\\\").replace("'", "\\'") + "'"


def newest_unfinished(overrides: list[str], placed: Path | None) -> Path | None:
    """Find the newest run with an equal config that has not finished and is not running.

    Looks beside the place where these overrides would put a new run; a folder that
    hydra.run.dir= names is the only one looked at.
    """
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", overrides=overrides, return_hydra_config=True)
        home = Path(composed.hydra.run.dir).parent
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        config = OmegaConf.to_object(composed)
    assert isinstance(config, TrainConfig)
    runs = [placed] if placed else [path.parent for path in home.glob("*/run.json")]
    found = []
    for run in runs:
        status = read_json(run / "run.json")
        if status.get("status", "finished") in ("finished", "pruned") or running(run):
            continue
        try:
            same = fingerprint(stored_config(run)) == fingerprint(config)
        except ValueError as error:
            log.warning("passed over: %s", error)
            continue
        if same:
            found.append((str(status.get("started")), run.stat().st_mtime, run))
    return max(found)[2] if found else None


def settled(config: TrainConfig, folder: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Return the config that a run has in the end, and what run.json said before.

    Raises:
        ValueError: resume= names another folder than the one that Hydra works in.
    """
    if config.resume is None:
        return config, {}
    if config.resume != "auto" and Path(config.resume).resolve() != folder.resolve():
        raise ValueError(f"resume={config.resume} is not the folder of this job, {folder}")
    if HydraConfig.get().output_subdir is None:
        chosen = [str(item) for item in HydraConfig.get().overrides.task]
        config = stored_config(folder, [c for c in chosen if c.partition("=")[0] in FREE])
        config.resume = str(folder)
    return config, read_json(folder / "run.json")


def command(folder: Path) -> str:
    """Return what a user types to continue a run."""
    return f"toyfcn-train resume={shlex.quote(str(folder))}"


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file of a run says, or nothing where there is none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def stored_config(
    folder: Path, overrides: list[str] | None = None, option: str = "resume"
) -> TrainConfig:
    """Read the config that a run was started with, through the typed schema.

    ``option`` is what named the folder.

    Raises:
        ValueError: the folder has none, or one that the schema does not know.
    """
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{option}={folder} is no folder of a run: it has no .hydra/config.yaml")
    try:
        text = path.read_bytes()
        if len(text) > MAX_CONFIG or b"&" in text:  # an anchor multiplies what it names
            raise ValueError("it is too long, or has anchors")
        return typed_config(OmegaConf.create(text.decode()), overrides)
    except (OmegaConfBaseException, OSError, RecursionError) as error:
        raise ValueError(f"{path} is no config of toyfcn-train: {first_line(error)}") from None
    except Exception as error:  # the YAML reader raises whatever the bytes provoke
        raise ValueError(f"{path} is no config of toyfcn-train: {first_line(error)}") from None


def typed_config(stored: Any, overrides: list[str] | None = None) -> TrainConfig:
    """Bring plain values through the typed schema.

    Raises:
        ValueError, OmegaConfBaseException: the schema does not know them.
    """
    kind = KINDS.get(str(OmegaConf.select(stored, "data.kind")))
    if kind is None:
        raise ValueError("data.kind is missing, or unknown")
    schema = OmegaConf.structured(TrainConfig(data=kind()))
    changed = OmegaConf.from_dotlist(overrides or [])
    config = OmegaConf.to_object(OmegaConf.merge(schema, stored, changed))
    assert isinstance(config, TrainConfig)
    return config


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says."""
    lines = str(error).splitlines() or [type(error).__name__]
    return printable(lines[0][:160])


def printable(text: str) -> str:
    """Return a text without what could speak to a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def fingerprint(config: TrainConfig) -> dict[str, Any]:
    """Return every option that a figure depends on, as {key: plain value}."""
    flat = flatten(dataclasses.asdict(config))
    free = (*FREE, "resume", "rerun")
    return {k: v for k, v in flat.items() if k not in free and not k.startswith("sweep.")}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested options into {"group.option": value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def refuse_other(was: Any, now: dict[str, Any], path: Path) -> None:
    """See that a checkpoint was saved under this config.

    Raises:
        ValueError: naming the first option that differs.
    """
    if not isinstance(was, dict):
        raise ValueError(f"{path} does not say with which config it was saved")
    for key in [*now, *was]:
        if key not in was or key not in now or was[key] != now[key]:
            old, new = str(was.get(key, "unset"))[:80], str(now.get(key, "unknown"))[:80]
            what = printable(f"was trained with {str(key)[:80]}={old}, but the config says {new}")
            raise ValueError(f"{path} {what}")


# ---- one process a folder ----
@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; the system lets go of it whenever the process ends.

    Raises:
        ValueError: another process has it.
    """
    path = folder / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not _take(file):
            raise ValueError(f"{folder} is in use by another process: one run a folder")
        yield


def refuse_running(folder: Path) -> None:
    """Raise ValueError if another process trains in a folder."""
    if running(folder):
        raise ValueError(f"{folder} is in use by another process: one run a folder")


def refuse_replacing(folder: Path) -> None:
    """Raise ValueError if a folder holds what another run has learned."""
    if any(folder.glob("checkpoints/*.ckpt")):
        ended = read_json(folder / "run.json").get("status") in ("finished", "pruned")
        other = "choose another hydra.run.dir, or delete it"
        advice = other if ended else f"go on with resume={folder}, or {other}"
        raise ValueError(f"{folder} holds another run's checkpoints: {advice}")


def running(folder: Path) -> bool:
    """Tell whether another process trains in a folder."""
    try:
        with (folder / LOCK).open("r+") as file:
            return not _take(file)
    except OSError:
        return False


def _take(file: Any) -> bool:
    """Lock a file for this process alone; loader workers do not inherit such a lock."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        log.warning("%s cannot be locked: %s", file.name, error)  # some network file systems
    return True
