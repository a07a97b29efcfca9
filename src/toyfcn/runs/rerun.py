"""rerun=DIR: a finished run once more in a new folder, and whether its numbers are the same."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from toyfcn.config.commands import TrainConfig
from toyfcn.config.sweep import SweepConfig
from toyfcn.runs import resume

log = logging.getLogger(__name__)

BEST = Path("checkpoints", "best.ckpt")  # in a run's folder


def settle(arguments: list[str]) -> list[str]:
    """Rewrite the command line of toyfcn-train if it says rerun=, so that the folder is named well.

    Raises:
        ValueError: there is nothing to repeat, or another option speaks against it.
    """
    wanted = [item.partition("=")[2] for item in arguments if item.startswith("rerun=")]
    if not wanted or wanted[-1] in ("", "null"):
        return arguments
    folder = Path(resume.unquote(wanted[-1]))
    others = [item for item in arguments if not item.startswith("rerun=")]
    free = (*resume.FREE, "hydra.run.dir")
    refused = [item for item in others if item.partition("=")[0] not in free]
    if refused:
        raise ValueError(
            f"{refused[0]} cannot be set beside rerun={folder}, which repeats a run as it was; "
            f"only {', '.join(free)} can"
        )
    config = resume.stored_config(folder, option="rerun")
    for needed in ("metrics.json", BEST):
        if not (folder / needed).is_file():
            raise ValueError(f"rerun={folder} has not finished: there is no {needed} to compare")
    named = [f"model={config.model.name}"]
    if re.fullmatch(r"[\w-]+", config.data.name):
        named.append(f"data.name={config.data.name}")
    return [f"rerun={resume.quote(folder)}", *named, *others]


def settled(config: TrainConfig, folder: Path) -> TrainConfig:
    """Return the config of the run to repeat, and store it as this folder's own."""
    assert config.rerun is not None
    chosen = [str(item) for item in HydraConfig.get().overrides.task]
    free = [item for item in chosen if item.partition("=")[0] in resume.FREE]
    repeated = resume.stored_config(Path(config.rerun), free, option="rerun")
    repeated.rerun, repeated.resume, repeated.sweep = config.rerun, None, SweepConfig()
    path = folder / ".hydra" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    OmegaConf.save(OmegaConf.structured(repeated), path)
    return repeated


def warn_of_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say what may make the numbers differ: both are the content of a run.json."""
    was, is_ = (
        resume.flatten({key: run.get(key) for key in ("git_commit", "versions", "hardware")})
        for run in (before, now)
    )
    for key in sorted({*was, *is_}):
        if was.get(key) != is_.get(key):
            old, new = (resume.printable(str(side.get(key))[:80]) for side in (was, is_))
            log.warning("the numbers may differ: %s was %s, is %s", key, old, new)
    if str(is_.get("git_commit")).endswith("-dirty"):
        log.warning("the numbers may differ: the code has changes that are not committed")


def first_difference(before: Path, now: Path) -> str | None:
    """Name the first number in which two runs differ; None: they are the same bit for bit."""
    import torch

    from toyfcn.runs import checkpoint

    was, is_ = (resume.flatten(resume.read_json(run / "metrics.json")) for run in (before, now))
    for key in [*was, *(key for key in is_ if key not in was)]:
        if was.get(key, "missing") != is_.get(key, "missing"):
            old, new = (resume.printable(str(side.get(key, "missing"))[:80]) for side in (was, is_))
            return f"{key} was {old}, is {new}"
    old_weights, new_weights = (
        checkpoint.load(run / BEST).net.state_dict() for run in (before, now)
    )
    if list(old_weights) != list(new_weights):
        return "the networks have other layers"
    for name, weight in old_weights.items():
        if not torch.equal(weight, new_weights[name]):
            apart = (weight.double() - new_weights[name].double()).abs().max().item()
            return f"the weights {name} differ by up to {apart:.3g}"
    return None
