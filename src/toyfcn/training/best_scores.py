"""The end of a run: its best checkpoint is scored, and the figures and pictures are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from toyfcn.config.commands import TrainConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation import pictures
from toyfcn.evaluation.per_image import write_images
from toyfcn.evaluation.test_scorings import note_scoring
from toyfcn.files import write_json
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint_io import AtomicIO
from toyfcn.runs.failures import optional
from toyfcn.runs.resume import trusted_packages
from toyfcn.runs.run import BEST, Run
from toyfcn.runs.score_checkpoint import score_checkpoint
from toyfcn.training import callbacks, loggers
from toyfcn.training.run_logger import RunLogger


def score_best(
    config: TrainConfig, run: Run, data: SegmentationData, found: Sequence[RunLogger], steps: int
) -> dict[str, Any]:
    """Score the best checkpoint, read back from its file as toyfcn-eval does.

    Writes metrics.json, images.csv, images.npz, predictions.png and the last of the curves, to
    the loggers that were ``found``; returns the metrics.
    """
    best = run.best_checkpoint
    chosen = checkpoint.load(best, trusted_packages(config))
    metrics: dict[str, Any] = {"val": None, "test": None}
    counts = {}
    for split, name in (("val", config.data.val_split), ("test", config.data.test_split)):
        if name is not None:
            metrics[split], counts[split] = score_checkpoint(chosen, data, name, config.trainer)
            note_scoring(run.folder, [best], config.data, name, metrics[split])
    with optional("the temperature in best.ckpt"):
        keep_temperature(best, metrics["val"])
    write_images(run.folder, counts, [str(BEST)])
    write_json(run.metrics, metrics)
    with optional("the last of the curves"):
        loggers.log_results(found, config, run.overrides, metrics, counts, steps)
    with optional("the panels of the worst photos"):
        images = next(iter(counts.values()))
        worst = images.ranked(images.figures()["miou"])[: config.logger.panels if found else 0]
        callbacks.show(found, "worst", chosen.net, data, [images.ids[i] for i in worst], steps)
    with optional("predictions.png"):
        draw_predictions(config, run, chosen.net, data, metrics)
    return metrics


def keep_temperature(best: Path, scores: dict[str, Any] | None) -> None:
    """Write the temperature that val asks for, if there is a val split, into a checkpoint.

    It has to travel with the weights. As it follows from them, runs that are resumed or repeated
    still end with the same files.
    """
    found = scores["calibration"] if scores else None
    if found is None or not math.isfinite(found["temperature"]):
        return
    content = checkpoint.read(best)
    content[checkpoint.KEY]["temperature"] = found["temperature"]
    AtomicIO().save_checkpoint(content, best)


def draw_predictions(
    config: TrainConfig, run: Run, net: nn.Module, data: SegmentationData, metrics: dict[str, Any]
) -> None:
    """Draw predictions.png: photo, ground truth, prediction and errors of six photos."""
    which = "val" if config.data.test_split is None else "test"
    split, found, source = getattr(config.data, f"{which}_split"), metrics[which], data.source
    miou = "–" if found["miou"] is None else f"{found['miou']:.3f}"
    title = f"{source.name}, {split}: mean IU {miou}"
    rows = callbacks.panels(net, data, data.split_ids(split)[:6])
    sheet = pictures.sheet(rows, source.classes, source.palette, title)
    sheet.save(run.folder / "predictions.png")
