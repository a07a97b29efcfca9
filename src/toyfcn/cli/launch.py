"""How every command starts: Hydra composes, the schema checks, the job is imported and run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from toyfcn import __version__
from toyfcn.cli import CONF, config_store, loader, output, resolvers
from toyfcn.cli.arguments import complete
from toyfcn.cli.completion import offered
from toyfcn.cli.errors import explain, hint, one_line, stop, written_in
from toyfcn.cli.help import describe, help_topic, option_names
from toyfcn.cli.job import load
from toyfcn.cli.missing_inputs import refuse_missing_inputs
from toyfcn.cli.typed_text import as_typed
from toyfcn.config.commands import COMMANDS, TrainConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.config.data_options import DataConfig
from toyfcn.config.inference import AsTrainedConfig
from toyfcn.config.no_effect import refuse_unheeded, without_effect
from toyfcn.config.option import Checked
from toyfcn.runs import failures
from toyfcn.runs.run import LOCK, Pruned, Run

log = logging.getLogger(__name__)
resolvers.register()  # jobs of a sweep may be composed in processes that import this alone


def launch(
    command: str,
    config_name: str,
    job: str,
    *,
    with_run: bool = False,
    positional: str | None = None,
) -> None:
    """Run ``job`` on the typed config that Hydra composes from conf/ and the command line.

    ``job`` is ``package.module:function``, imported once the config is known to be right; it takes
    the config and, ``with_run``, the ``Run`` that has a folder of its own. A mistake in the config,
    or a ValueError of the job, ends with one line and exit code 2; in a sweep only that job fails.
    A number that the job returns is the exit code. Words of the command line without ``=`` are
    values of the option ``positional``.
    """
    output.keep_open()
    words, schema = sys.argv[1:], COMMANDS[config_name]
    completing = {"-sc", "--shell_completion"} & set(words)
    if answered_without_hydra(command, words, schema):
        return
    config_store.register()
    loader.install()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to us
    logging.raiseExceptions = False  # a log that cannot be written is no matter of a traceback

    def run(composed: DictConfig) -> Any:
        output.keep_open()  # a launcher's job may have a process of its own
        place = hydra_run()
        try:
            config = checked(composed, command, config_name)
            refuse_missing_inputs(config, command)
            given = (config, with_pruner(place, config)) if with_run else (config,)
            code = load(job)(*given)
        except Exception as error:
            mistake = isinstance(error, ValueError | OmegaConfBaseException)
            if place.in_sweep:
                raise failed_job(place, error, mistake) from error
            told = failures.told(error) if isinstance(error, OSError) else None
            if not mistake and told is None:
                raise
            remove_unused(place.folder)
            stop(command, told or error)
        if isinstance(code, int) and code:
            sys.exit(code)
        return code

    try:
        with one_line(command):
            if not completing:
                words = complete(words, option_names(schema), positional)
            sys.argv[1:] = flags_first(as_typed(absolute_path(words), config_name))
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(run)()
    except SystemExit:
        if completing:
            sys.exit(1)
        raise


def answered_without_hydra(command: str, words: list[str], schema: type[Checked]) -> bool:
    """Answer --help, --version and completions of ours; tell whether that was all."""
    if (topic := help_topic(words)) is not None:
        with one_line(command):
            print(describe(command, schema, CONF, topic))
        return True
    if "--version" in words:
        print(f"toyfcn {__version__}")
        return True
    if "--experimental-rerun" in words:  # it unpickles, and so runs, whatever is in a file
        stop(command, ValueError("--experimental-rerun is switched off"))
    completing = {"-sc", "--shell_completion"} & set(words)
    if completing and "query=bash" in words and (found := offered(schema, CONF)):
        print(" ".join(found))
        return True
    return False


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


def absolute_path(words: Sequence[str]) -> list[str]:
    """Let --config-path start from the current folder: Hydra starts from its caller's."""
    found, flags = list(words), ("--config-path", "-cp")
    for i, word in enumerate(found):
        flag, given, path = word.partition("=")
        if flag in flags and given:
            found[i] = f"{flag}={Path(path).absolute()}"
        elif i and found[i - 1] in flags:
            found[i] = str(Path(word).absolute())
    return found


def checked(composed: Any, command: str, name: str) -> Any:
    """Return the typed config of a command, all of which has an effect.

    Raises:
        ValueError: --config-name names another command's config, or an option has no effect here.
    """
    known = HydraConfig.get()
    if OmegaConf.get_type(composed) is not COMMANDS[name]:
        raise ValueError(
            f"{known.job.config_name}.yaml is no config of this command: its defaults must begin "
            f"with {name}"
        )
    config = typed(composed)
    choice, data = known.runtime.choices.get("data"), getattr(config, "data", None)
    if type(data) is DataConfig or (isinstance(data, dict) and choice != "as_trained"):
        raise ValueError(
            f"in data/{choice}.yaml: the first line must be defaults: [folder_schema, _self_], or "
            "of voc_schema or shapes_schema"
        )
    refuse_without_sweep(config)
    if isinstance(config, DataCommandConfig):
        config.refuse_others(command.rpartition(" ")[2])
    refuse_unheeded(name, known.overrides.task)
    for word in known.overrides.task:
        if word.startswith("logger=["):  # of files whose lists replace each other
            raise ValueError(f"{word} would leave the last alone: set {word.replace('=', '.to=')}")
    if isinstance(config, TrainConfig):
        for told in without_effect(config, known.overrides.task):
            log.warning("%s", told)
    return config


def typed(composed: Any, known: Any = None) -> Any:
    """Turn a composed config, or a group of one, into the schema's dataclass.

    ``known`` is Hydra's own part of the config, where Hydra does not say it itself.

    Raises:
        ValueError: an option is unknown, out of bounds, or contradicts another; where its value
            stands in a file, the message names that.
    """
    try:
        config = OmegaConf.to_object(only_given(composed))
        refuse_unknown(composed, config)
        return config
    except ValueError as error:
        keys = re.findall(r"([a-z_]+(?:\.[a-z_]+)+|[a-z_]+(?==))", str(error))
        path = written_in(keys[0], known or HydraConfig.get()) if keys else None
        if path is None:
            raise
        raise ValueError(f"in {path}: {error}") from None


def only_given(composed: Any) -> Any:
    """Leave of data=as_trained what was given, null included: the checkpoint has the rest."""
    data = composed.get("data")
    if OmegaConf.get_type(data) is not AsTrainedConfig:
        return composed
    given = {key: data[key] for key in data if not OmegaConf.is_missing(data, key)}
    composed = composed.copy()
    composed.data = given
    return composed


def refuse_unknown(composed: Any, config: Any, prefix: str = "") -> None:
    """Check that +key=value has not brought in what the schema does not know.

    Raises:
        ValueError: naming the key.
    """
    known = [item.name for item in dataclasses.fields(config)]
    for key in composed:
        if key not in known:
            raise ValueError(f"no option is called {prefix}{key} ({hint(str(key), known, prefix)})")
        if dataclasses.is_dataclass(value := getattr(config, key)):
            refuse_unknown(composed[key], value, f"{prefix}{key}.")


def refuse_without_sweep(config: Any) -> None:
    """Check that what a sweep alone heeds has one.

    Raises:
        ValueError: naming the option that would have no effect.
    """
    known = HydraConfig.get()
    if known.mode == RunMode.MULTIRUN:
        return
    launcher = known.runtime.choices.get("hydra/launcher", "basic")
    if launcher != "basic":
        raise ValueError(
            f"launcher={launcher} starts the jobs of a sweep: add -m (for a single run, too), or "
            "leave it out"
        )
    if any(str(word).startswith("hydra.sweep.") for word in known.overrides.hydra):
        raise ValueError("hydra.sweep.… needs -m: the folder of a single run is hydra.run.dir=")
    if isinstance(config, TrainConfig):
        config.sweep.refuse_alone()


def hydra_run() -> Run:
    """Return the run that Hydra has made a folder for, and what its command line chose."""
    known = HydraConfig.get()
    in_sweep = known.mode == RunMode.MULTIRUN
    placed = any(str(item).startswith("hydra.run.dir=") for item in known.overrides.hydra)
    return Run(
        folder=Path(known.runtime.output_dir),
        overrides=tuple(str(item) for item in known.overrides.task),
        in_sweep=in_sweep,
        named=in_sweep or placed,
    )


def with_pruner(run: Run, config: Any) -> Run:
    """Give a run that is a trial of a search what tells the search about it."""
    trial = config.sweep.trial if hasattr(config, "sweep") else None
    if trial is None:
        return run
    from toyfcn.sweep.search import pruner_of  # Optuna is heavy, and few runs are trials

    return dataclasses.replace(run, pruner=pruner_of(run.folder, config.sweep))


def failed_job(run: Run, error: Exception, mistake: bool) -> Exception:
    """Log why a job of a sweep ends; return what tells it, also from another process."""
    reason = explain(error) if mistake else f"{type(error).__name__}: {error}"
    begun = (run.folder / "run.json").exists()  # a training, which has a log of its own
    with run.logged() if begun else contextlib.nullcontext():
        if isinstance(error, Pruned):
            log.info("pruned: %s", error)
        else:
            log.error("the job failed: %s", reason, exc_info=None if mistake else error)
    return RuntimeError(reason)  # one that can be pickled, whatever it comes from


def remove_unused(folder: Path) -> None:
    """Remove the folder of a run that was refused, if it holds only what Hydra has written."""
    here = Path.cwd()  # which is the run's folder where a command makes none of its own
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {LOCK}
    if names <= {".hydra", "eval.log", "compare.log"} and not here.is_relative_to(folder):
        shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.parent.iterdir()) and not here.is_relative_to(folder.parent):
            folder.parent.rmdir()
