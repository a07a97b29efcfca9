"""toyfcn-eval: score a checkpoint on any split."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toyfcn.cli.garbage import loading
from toyfcn.cli.launch import launch, run_folder
from toyfcn.config.commands import EvalConfig
from toyfcn.config.data import KINDS, DataConfig
from toyfcn.config.trainer import PRECISIONS, TrainerConfig

if TYPE_CHECKING:
    from torch import Tensor

    from toyfcn.data.datamodule import SegmentationData
    from toyfcn.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def main() -> None:
    """Start the command."""
    launch("toyfcn-eval", "eval", evaluate)


def evaluate(config: EvalConfig) -> float:
    """Score ``config.ckpt`` on ``config.split``; write metrics.json into the run's folder."""
    with loading():
        from toyfcn.commands import report
        from toyfcn.data.datamodule import SegmentationData, open_source
        from toyfcn.evaluation.test_scorings import note_scoring
        from toyfcn.runs import checkpoint, record
        from toyfcn.training import device

    device.refuse_missing_gpu(config.trainer)
    loaded = checkpoint.load(config.ckpt)
    data_config = as_trained(config.data, loaded.data)
    try:
        source = open_source(data_config)
    except ValueError as error:
        if config.data.root is not None or Path(data_config.root).is_absolute():
            raise
        where = f"the checkpoint says data.root={data_config.root}, which is read from here"
        raise ValueError(
            f"{error}; {where}: set data.root=, or run it where it was trained"
        ) from None
    if list(source.classes) != loaded.classes:
        raise ValueError(
            f"ckpt={config.ckpt} tells {len(loaded.classes)} classes apart ({loaded.classes[1]}, …)"
            f", but {source.name} has {len(source.classes)} ({source.classes[1]}, …)"
        )
    data = SegmentationData(source, data_config, loaded.model.short_side)
    warn_of_trained(loaded, data, config.split)
    folder = run_folder()
    found, _ = score(loaded, data, config.split, config.trainer)
    note_scoring(folder, str(config.ckpt), data_config, config.split, found)
    record.write_json(folder / "metrics.json", {config.split: found})
    report.print_scores({config.split: found})
    print(f"wrote {folder / 'metrics.json'}")
    return float(found["miou"])


def as_trained(chosen: Any, trained: DataConfig) -> DataConfig:
    """Return the data config to score on: what the user chose, else what the checkpoint has.

    ``chosen`` is a whole data config (data=NAME), or one whose null options mean «as trained».
    """
    if isinstance(chosen, DataConfig):
        return chosen
    given = {key: value for key, value in dataclasses.asdict(chosen).items() if value is not None}
    values = dataclasses.asdict(trained)
    ignored = sorted(set(given) - set(values))
    if ignored:
        raise ValueError(f"data.{ignored[0]} is no option of data={trained.name}, the checkpoint's")
    return KINDS[trained.kind](**values | given)


def warn_of_trained(loaded: Checkpoint, data: SegmentationData, split: str) -> None:
    """Say so if a checkpoint has learned from photos of a split: whoever scores it may mean to."""
    from toyfcn.data.overlap import shared

    ids = data.split_ids(split)
    if seen := shared(data.source, ids, loaded.card.get("trained_on", ())):
        first = ", ".join(seen[:3]) + ", …" * (len(seen) > 3)
        log.warning(
            "split=%s: scored on %d photos of %d that the checkpoint was trained on (%s)",
            split,
            len(seen),
            len(ids),
            first,
        )


def score(
    loaded: Checkpoint, data: SegmentationData, split: str, config: TrainerConfig
) -> tuple[dict[str, Any], Tensor]:
    """Score a checkpoint's network on a split.

    Returns the figures of one entry of metrics.json, and the confusion matrix, int64 (C, C).
    """
    from toyfcn.evaluation import scoring

    assert config.precision in PRECISIONS
    return scoring.score(
        loaded.net,
        loaded.classes,
        int(loaded.card["void"]),
        data.scoring_loader(split),
        accelerator=config.accelerator,
        precision=config.precision,
        test_views=config.test_views,
    )
