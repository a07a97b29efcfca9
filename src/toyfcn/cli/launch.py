"""How every command starts: Hydra composes, the schema checks, mistakes are told in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from toyfcn.cli import output, resolvers
from toyfcn.cli.allowlist import guard
from toyfcn.cli.help import describe
from toyfcn.config import commands as schema
from toyfcn.runs import failures
from toyfcn.runs.record import Pruned

CONF = Path(__file__).parents[1] / "conf"
MISSING = object()
log = logging.getLogger(__name__)
resolvers.register()


def launch(
    command: str,
    config_name: str,
    job: Callable[[Any], Any],
    settle: Callable[[list[str]], list[str]] | None = None,
) -> None:
    """Run ``job`` on the typed config that Hydra composes from conf/ and the command line.

    A mistake in the config, or a ValueError of the job, ends with one line and exit code 2; in a
    sweep only that job fails. Anything else is a fault of ours and keeps its traceback.

    ``settle`` rewrites the command line before Hydra reads it.
    """
    output.keep_open()
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(describe(command, schema.COMMANDS[config_name], CONF))
        return
    if "--experimental-rerun" in sys.argv[1:]:  # it unpickles, and so runs, whatever is in a file
        stop(command, ValueError("--experimental-rerun is switched off"))
    schema.register()
    guard()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to us
    logging.raiseExceptions = False  # a log that cannot be written is no matter of a traceback

    def run(composed: DictConfig) -> Any:
        output.keep_open()  # a launcher's job may have a process of its own
        # Lightning's advertisements, and its use of what PyTorch has since renamed
        logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=Warning)
        # points are logged every so many steps of the run, whatever the length of an epoch
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval")
        try:
            return job(typed(composed))
        except Exception as error:
            mistake = isinstance(error, ValueError | OmegaConfBaseException)
            if in_sweep():
                raise failed_job(error, mistake) from error
            told = failures.told(error) if isinstance(error, OSError) else None
            if not mistake and told is None:
                raise
            leave_no_trace(run_folder())
            stop(command, told or error)

    try:
        sys.argv[1:] = flags_first([quoted(word) for word in sys.argv[1:]])
        if settle is not None:
            sys.argv[1:] = settle(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()
    except (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError) as error:
        if "-sc" in sys.argv[1:] or "--shell_completion" in sys.argv[1:]:
            sys.exit(1)  # a half-typed word is no mistake yet
        stop(command, error)
    except OSError as error:
        told = failures.told(error)
        if told is None:
            raise
        stop(command, told)
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted", file=sys.stderr)
        sys.exit(130)


def flags_first(words: list[str]) -> list[str]:
    """Move overrides behind flags such as -m: Hydra takes no flag between two of them."""
    values = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--package")
    before = ["", *words]
    late = [
        word[:1] not in "-" and before[i] not in values and ("=" in word or word[:1] == "~")
        for i, word in enumerate(words)
    ]
    return [w for w, last in zip(words, late, strict=True) if not last] + [
        w for w, last in zip(words, late, strict=True) if last
    ]


def quoted(word: str) -> str:
    """Quote a value with letters that Hydra's grammar does not know, such as a path with an é."""
    key, given, value = word.partition("=")
    known = value.isascii() or word.startswith("-") or set(value) & set("'\"\\,()[]{}$")
    return word if known or not given else f"{key}='{value}'"


def typed(composed: Any, known: Any = None) -> Any:
    """Turn a composed config, or a group of one, into the schema's dataclass.

    ``known`` is Hydra's own part of the config, where Hydra does not say it itself.

    Raises:
        ValueError: an option is unknown, out of bounds, or contradicts another; where its value
            stands in a file, the message names that.
    """
    try:
        config = OmegaConf.to_object(composed)
        refuse_unknown(composed, config)
        return config
    except ValueError as error:
        keys = re.findall(r"([a-z_]+(?:\.[a-z_]+)+|[a-z_]+(?==))", str(error))
        path = written_in(keys[0], known or HydraConfig.get()) if keys else None
        if path is None:
            raise
        raise ValueError(f"in {path}: {error}") from None


def written_in(key: str, known: Any) -> str | None:
    """Name the YAML file that gives an option its value; None: the command line or the schema.

    Of several files the last one that Hydra merges counts.
    """
    if not GlobalHydra.instance().is_initialized():
        return None
    loader = GlobalHydra.instance().config_loader()
    words = [*known.overrides.hydra, *known.overrides.task]
    if any(word.lstrip("+").partition("=")[0] == key for word in words):
        return None
    listed = loader.compute_defaults_list(known.job.config_name, words, RunMode(known.mode))
    for item in reversed(listed.defaults):
        sources = (s for s in loader.get_sources() if s.is_config(item.config_path))
        source, package = next(sources, None), f"{item.package}." if item.package else ""
        if source is None or source.scheme() == "structured" or not key.startswith(package):
            continue
        found: Any = OmegaConf.to_container(source.load_config(item.config_path).config)
        for part in key.removeprefix(package).split("."):
            found = found.get(part, MISSING) if isinstance(found, dict) else MISSING
        if found is not MISSING:
            return f"{item.config_path.removesuffix('.yaml')}.yaml"
    return None


def refuse_unknown(composed: Any, config: Any, prefix: str = "") -> None:
    """See that +key=value has not brought in what the schema does not know.

    Raises:
        ValueError: naming the key.
    """
    known = [item.name for item in dataclasses.fields(config)]
    for key in composed:
        if key not in known:
            raise ValueError(f"no option is called {prefix}{key} ({hint(str(key), known, prefix)})")
        if dataclasses.is_dataclass(value := getattr(config, key)):
            refuse_unknown(composed[key], value, f"{prefix}{key}.")


def hint(key: str, known: list[str], prefix: str = "") -> str:
    """Suggest the valid keys closest to a misspelt one, or tell them all."""
    found = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    close = [prefix + name for name in found]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"


def in_sweep() -> bool:
    """Tell whether this is a job of a sweep, which must not end the others."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def failed_job(error: Exception, mistake: bool) -> Exception:
    """Log why a job of a sweep ends; return what tells it, also from another process."""
    reason = explain(error) if mistake else f"{type(error).__name__}: {error}"
    if isinstance(error, Pruned):
        log.info("pruned: %s", error)
    else:
        log.error("the job failed: %s", reason, exc_info=None if mistake else error)
    return RuntimeError(reason)  # one that can be pickled, whatever it comes from


def stop(command: str, error: Exception) -> None:
    """Print one line about a user's mistake and exit with code 2."""
    print(f"{command}: {explain(error)}", file=sys.stderr)
    sys.exit(2)


def explain(error: BaseException) -> str:
    """Say in one line what is wrong, in which file, and the closest valid keys for a misspelt one.

    What is wrong on the command line tells its argument, and no file.
    """
    text = str(error)
    inside = re.match(r"In '([^']+)': (?:\w+ raised while composing config:\s*)?", text)
    place = f"in {inside[1]}.yaml: " if inside else ""  # a file of conf/ or of --config-dir
    if inside and (key := re.search(r"full_key: (\S+)", text)):
        reason = text[inside.end() :].partition("\n")[0]
        if key[1] in ("experiment", "debug"):
            return f"{place}the first line must be # @package _global_"
        owner = re.match(r"Key '(.+)' not in '(\w+)'", reason)
        if owner and (options := schema.options_of(owner[2])):
            return f"{place}no option is called {key[1]} ({hint(owner[1], options)})"
        return f"{place}{key[1]}: {reason}"
    if inside and (found := re.search(r"Could not (?:override|find) '([^']+)'", text)):
        group, _, choice = found[1].rpartition("/")
        known = [f.stem for f in (CONF / group).glob("*.yaml")] if group else groups()
        if any(word.lstrip("+").startswith(f"{group or choice}=") for word in sys.argv[1:]):
            place = ""
        elif group:
            place = f"in {next(naming(group, choice), inside[1] + '.yaml')}: "
        return f"{place}there is no {found[1]} ({hint(choice, sorted(known))})"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.key is not None:
            return unknown(cause)
        cause = cause.__cause__
    if text.startswith("Unable to configure handler") and isinstance(error.__cause__, OSError):
        text = str(failures.told(error.__cause__) or error.__cause__)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read: a value with more than letters, digits and "
            "-_./:%+@ needs quotes of its own, inside those of the shell: 'key=\"value\"'"
        )
    if isinstance(error, HydraException) and error.__cause__ is not None:
        text += ": " + str(error.__cause__).partition("\n")[0]
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def unknown(error: ConfigKeyError | ConfigAttributeError) -> str:
    """Say that a key was not found, and which one of its level, or of a group there, was meant."""
    key, full, level = str(error.key), str(error.full_key or error.key), error.parent_node
    level = level if isinstance(level, DictConfig) else OmegaConf.create()
    below = {str(name): level._get_node(name) for name in level}
    groups = {name: node for name, node in below.items() if isinstance(node, DictConfig)}
    deeper = [f"{name}.{key}" for name, group in groups.items() if group and key in group]
    if deeper:
        return f"no option is called {full} (did you mean {' or '.join(deeper)}?)"
    return f"no option is called {full} ({hint(key, list(below), full[: -len(key)])})"


def groups() -> list[str]:
    """Return the names of the config groups."""
    return sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


def naming(group: str, choice: str) -> Iterator[str]:
    """Find the config files whose defaults choose ``group: choice``."""
    words = sys.argv[1:]
    own = [Path(b) for a, b in itertools.pairwise(words) if a in ("--config-dir", "-cd")]
    for folder in (*own, CONF):
        for path in sorted(folder.rglob("*.yaml")):
            if re.search(rf"^ *- .*\b{group}: *{choice}\b", path.read_text(), re.M):
                yield str(path.relative_to(folder))


def run_folder() -> Path:
    """Return the folder that Hydra made for this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def leave_no_trace(folder: Path) -> None:
    """Remove the folder of a run that was refused, if Hydra alone has written into it.

    A run that has begun holds a lock in it, maybe in another process that this one was to join.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    refused = sorted(names) in ([".hydra"], [".hydra", "train.log"])
    refused = refused and not (folder / ".hydra" / "lock").exists()
    if refused and HydraConfig.get().output_subdir is not None:  # None: resume= names a run
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds other runs
            folder.parent.rmdir()


def overrides() -> list[str]:
    """Return what the command line, or the sweep, has chosen for this run."""
    return [str(item) for item in HydraConfig.get().overrides.task]
