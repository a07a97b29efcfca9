"""Score a checkpoint on any split: what toyfcn-eval and ``toyfcn.evaluate`` do."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from toyfcn import hardware
from toyfcn.config.data_options import DataConfig
from toyfcn.config.inference import EvalConfig
from toyfcn.config.option import as_list
from toyfcn.config.trainer import ScoringConfig, TrainerConfig
from toyfcn.data import preflight
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.evaluation.bootstrap import RESAMPLES
from toyfcn.evaluation.per_image import ImageCounts, write_images
from toyfcn.evaluation.score_table import print_scores
from toyfcn.evaluation.test_scorings import note_scoring
from toyfcn.files import write_json
from toyfcn.models.tiled import warn_of_small_photos
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint import Checkpoint, as_trained
from toyfcn.runs.run import Run
from toyfcn.runs.score_checkpoint import score_checkpoint, warn_of_trained

log = logging.getLogger(__name__)


def evaluate(
    ckpt: str | Path | Sequence[str | Path],
    split: str = "val",
    data: DataConfig | None = None,
    trainer: ScoringConfig | None = None,
    trust: Sequence[str] = (),
    *,
    tile: int | None = None,
    overlap: int = EvalConfig.overlap,
) -> dict[str, Any]:
    """Score a checkpoint on a split of its own data set, or of ``data``.

    Of several checkpoints the probabilities are averaged.

    ``trust`` are packages whose code the checkpoint may name; photos are scored in tiles of
    ``tile`` pixels a side that share ``overlap``, None: whole.

    Returns the figures of one entry of metrics.json: ``miou``, ``pixel_acc``, ``iou`` by class, …

    Raises:
        ValueError: a file or split is missing, or the classes are others.

    >>> figures = toyfcn.evaluate("run/checkpoints/best.ckpt", split="train")
    >>> figures["images"], 0 <= figures["miou"] <= 1
    (4, True)
    """
    loaded = checkpoint.load(ckpt, trust)
    data = data or as_trained({}, loaded.data, trust)
    scored = score_split(loaded, data, split, trainer or ScoringConfig(), RESAMPLES, tile, overlap)
    return scored[0]


def run_command(config: EvalConfig, run: Run) -> None:
    """Score ``config.ckpt`` on ``config.split``.

    Writes metrics.json, images.csv and images.npz into the run's folder.
    """
    hardware.keep_memory(TrainerConfig.keep_mb << 20)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    loaded = checkpoint.load(config.ckpt, config.trust)
    paths = [str(path) for path in as_list(config.ckpt)]
    if config.tile is not None:
        warn_of_small_photos(config.tile, loaded.model.short_side)
    data = as_trained(config.data, loaded.data, config.trust)
    moved = isinstance(config.data, dict) and "root" not in config.data
    try:
        found, images = score_split(
            *(loaded, data, config.split, config.trainer, config.resamples),
            *(config.tile, config.overlap),
        )
    except ValueError as error:
        if not moved or Path(data.root).is_absolute() or str(config.ckpt) in str(error):
            raise
        where = f"the checkpoint says data.root={data.root}, which is read from here"
        raise ValueError(
            f"{error}; {where}: set data.root=, or run it where it was trained"
        ) from None
    note_scoring(run.folder, paths, data, config.split, found)
    ckpts = [os.path.relpath(Path(path).resolve(), run.folder.resolve()) for path in paths]
    write_images(run.folder, {config.split: images}, ckpts)
    write_json(run.folder / "metrics.json", {config.split: found})
    print_scores({config.split: found})
    print(f"wrote {run.folder / 'metrics.json'}, images.csv and images.npz")


def score_split(
    loaded: Checkpoint,
    config: DataConfig,
    split: str,
    trainer: ScoringConfig,
    resamples: int = RESAMPLES,
    tile: int | None = None,
    overlap: int = EvalConfig.overlap,
) -> tuple[dict[str, Any], ImageCounts]:
    """Score a checkpoint on a split of a data set that has its classes."""
    source = open_source(config)
    if list(source.classes) != loaded.classes:
        merged = loaded.data.merge if loaded.data.merge != config.merge else None
        raise ValueError(
            f"the checkpoint knows {len(loaded.classes)} classes ({loaded.classes[1]}, …), but "
            f"{source.name} has {len(source.classes)} ({source.classes[1]}, …)"
            f"{': set data.merge as it was trained' if merged else ''}"
        )
    if source.channels != loaded.data.channels:
        raise ValueError(
            f"the checkpoint takes photos of {loaded.data.channels} channels, but data.channels="
            f"{source.channels}"
        )
    data = SegmentationData(source, config, loaded.model.short_side)
    preflight.check(source, data.split_ids(split))
    warn_of_trained(loaded, data, split)
    return score_checkpoint(loaded, data, split, trainer, resamples, tile, overlap)
