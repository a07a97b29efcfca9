"""Mistakes in one line: what is wrong, in which file, and what was probably meant."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from toyfcn.cli import CONF
from toyfcn.config.data import KINDS
from toyfcn.runs import failures

MISSING = object()
MANY = 50  # names, more than a message takes
OURS = {"hydra/sweeper": "sweep", "hydra/launcher": "launcher"}  # which choose Hydra's
MISTAKES = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError)


@contextmanager
def one_line(command: str) -> Iterator[None]:
    """End the program with one line and exit code 2 where the block ends with a user's mistake.

    Anything else is a fault of ours and keeps its traceback.
    """
    try:
        yield
    except MISTAKES as error:
        stop(command, error)
    except OSError as error:
        told = failures.told(error)
        if told is None:
            raise
        stop(command, told)
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted", file=sys.stderr)
        sys.exit(130)


def stop(command: str, error: BaseException) -> NoReturn:
    """Print one line about a user's mistake and exit with code 2."""
    print(f"{command}: {explain(error)}", file=sys.stderr)
    sys.exit(2)


def hint(key: str, known: Sequence[str], prefix: str = "") -> str:
    """Suggest the valid keys closest to a misspelt one, or name them all if they are not many."""
    found = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    close = [prefix + name for name in found]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}" if len(known) < MANY else "--help lists what is known"


def explain(error: BaseException) -> str:
    """Say in one line what is wrong, in which file, and the closest valid keys for a misspelt one.

    What is wrong on the command line tells its argument, and no file.
    """
    text = str(error)
    file = text.split("'")[1] if isinstance(error, HydraException) and text[:4] == "In '" else ""
    place = f"in {file}.yaml: " if file else ""  # a file of conf/ or of --config-dir
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return no_choice(str(error.missing_cfg_file), list(error.options or []), file)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read: a value with more than letters, digits and "
            "-_./:%+@ needs quotes of its own, inside those of the shell: 'key=\"value\"'"
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException):
            if file and cause.full_key in ("experiment", "debug"):
                return f"{place}the first line must be # @package _global_"
            if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.key is not None:
                return place + unknown(cause)
            if file:
                return f"{place}{cause.full_key}: {str(cause).partition(chr(10))[0]}"
        cause = cause.__cause__ or (cause.__context__ if file else None)
    if isinstance(error, ConfigCompositionException) and (
        group := re.search("override '(.+)'", text)
    ):
        return no_choice(group[1], [], file)
    if text.startswith("Unable to configure handler") and isinstance(error.__cause__, OSError):
        text = str(failures.told(error.__cause__) or error.__cause__)
    if isinstance(error, HydraException) and error.__cause__ is not None:
        text += ": " + str(error.__cause__).partition("\n")[0]
    if single := re.match(r"Error merging override (\S+?)=(.*): .*: \w+ is not a ListConfig", text):
        return f"{single[1]} is a list, as in {single[1]}=[{single[2]}]"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def no_choice(found: str, options: list[str], file: str) -> str:
    """Say that a group has no such choice, or that there is no such group."""
    if ours := OURS.get(found.rpartition("/")[0]):
        choices = sorted(f"{ours}={path.stem}" for path in (CONF / ours).glob("*.yaml"))
        return f"there is no {found}: choose {' or '.join(choices)}"
    group, _, choice = found.partition("/") if "/" in found else ("", "", found)
    known = [name for name in options if not name.endswith("_schema")] if group else groups()
    keys = [word.lstrip("+").partition("=")[0] for word in sys.argv[1:] if "=" in word]
    typed = any(f"{found}/".startswith(f"{key}/") for key in keys)
    place = ""
    if group and not typed:
        place = f"in {next(naming(group, choice), file + '.yaml')}: "
    elif file and not typed:
        place = f"in {file}.yaml: "
    return f"{place}there is no {found} ({hint(choice, sorted(known))})"


def unknown(error: ConfigKeyError | ConfigAttributeError) -> str:
    """Say that a key was not found, and which one of its level, or of a group there, was meant."""
    key, full, level = str(error.key), str(error.full_key or error.key), error.parent_node
    level = level if isinstance(level, DictConfig) else OmegaConf.create()
    below: Any = OmegaConf.to_container(level, resolve=False)
    if not below and dataclasses.is_dataclass(error.object_type):
        below = {item.name: None for item in dataclasses.fields(error.object_type)}
    nodes = {name: node for name, node in below.items() if isinstance(node, dict)}
    deeper = [f"{name}.{key}" for name, group in nodes.items() if key in group]
    others = [name for name, kind in KINDS.items() if key in kind.__dataclass_fields__]
    if full == f"data.{key}" and others:
        return (
            f"{full} is an option of data of the kind {' and '.join(others)} alone (a file of your "
            f"own begins with defaults: [{others[0]}_schema, _self_])"
        )
    if deeper:
        return f"no option is called {full} (did you mean {' or '.join(deeper)}?)"
    leaves = {option: f"{name}.{option}" for name, group in nodes.items() for option in group}
    named = leaves | {name: name for name in below}
    close = difflib.get_close_matches(key, named, n=2, cutoff=0.65)
    prefix = full[: -len(key)]
    meant = f"did you mean {' or '.join(prefix + named[name] for name in close)}?"
    return f"no option is called {full} ({meant if close else hint(key, list(below), prefix)})"


def groups() -> list[str]:
    """Return the names of the config groups."""
    return sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


def naming(group: str, choice: str) -> Iterator[str]:
    """Find the config files whose defaults choose ``group: choice``."""
    words = sys.argv[1:]
    flags = ("--config-dir", "-cd", "--config-path", "-cp")
    pairs = [*pairwise(words), *(word.split("=", 1) for word in words if "=" in word)]
    own = [Path(value) for flag, value in pairs if flag in flags]
    for folder in (*own, CONF):
        for path in sorted(folder.rglob("*.yaml")):
            if re.search(rf"^ *- .*\b{group}: *{choice}\b", path.read_text(), re.M):
                yield str(path.relative_to(folder))


def written_in(key: str, known: Any) -> str | None:
    """Name the YAML file that gives an option its value; None: the command line or the schema.

    ``known`` is Hydra's own part of the config. Of several files the last one that Hydra merges
    counts.
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
