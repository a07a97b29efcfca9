"""rerun=DIR: whether a run that was done once more has the same numbers, bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from toyfcn.files import read_json
from toyfcn.runs import checkpoint
from toyfcn.runs.resume import flatten
from toyfcn.runs.run import BEST
from toyfcn.text import printable

log = logging.getLogger(__name__)


MADE_OF = ("git_commit", "versions", "hardware")


def warn_of_changes(
    before: dict[str, Any], now: dict[str, Any], keys: Sequence[str] = MADE_OF
) -> None:
    """Say what may make the numbers differ: both are the content of a run.json, or its ``keys``."""
    was, is_ = (flatten({key: run.get(key) for key in keys}) for run in (before, now))
    for key in sorted(was):  # an earlier version wrote fewer
        if was[key] != is_.get(key):
            old, new = (printable(side.get(key), 80) for side in (was, is_))
            log.warning("the numbers may differ: %s was %s, is %s", key, old, new)
    if str(is_.get("git_commit")).endswith("-dirty"):
        log.warning("the numbers may differ: the code has changes that are not committed")


def first_difference(before: Path, now: Path, trust: Sequence[str] = ()) -> str | None:
    """Name the first number in which two runs differ; None: they are the same bit for bit.

    ``trust``: see ``checkpoint.load``.
    """
    was, is_ = (flatten(read_json(run / "metrics.json")) for run in (before, now))
    for new in (".intervals.", ".calibration."):
        if not any(new in key for key in was):  # a run of an earlier version
            is_ = {key: value for key, value in is_.items() if new not in key}
    for key in [*was, *(key for key in is_ if key not in was)]:
        if was.get(key, "missing") != is_.get(key, "missing"):
            old, new = (printable(side.get(key, "missing"), 80) for side in (was, is_))
            return f"{key} was {old}, is {new}"
    old_weights, new_weights = (
        checkpoint.load(run / BEST, trust).net.state_dict() for run in (before, now)
    )
    if list(old_weights) != list(new_weights):
        return "the networks have other layers"
    for name, weight in old_weights.items():
        if not torch.equal(weight, new_weights[name]):
            apart = (weight.double() - new_weights[name].double()).abs().max().item()
            return f"the weights {name} differ by up to {apart:.3g}"
    return None
