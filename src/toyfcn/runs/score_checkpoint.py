"""The figures of a checkpoint on a split of a data set."""

from __future__ import annotations

import logging
from typing import Any

from toyfcn import hardware
from toyfcn.config.inference import EvalConfig
from toyfcn.config.trainer import PRECISIONS, ScoringConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.overlap import shared
from toyfcn.data.progress import counted
from toyfcn.evaluation import scoring
from toyfcn.evaluation.bootstrap import RESAMPLES
from toyfcn.evaluation.calibration import calibration
from toyfcn.evaluation.own_metrics import OwnMetrics
from toyfcn.evaluation.per_image import ImageCounts
from toyfcn.hardware import device as device_of
from toyfcn.models.tiled import Tiled
from toyfcn.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def score_checkpoint(
    loaded: Checkpoint,
    data: SegmentationData,
    split: str,
    config: ScoringConfig,
    resamples: int = RESAMPLES,
    tile: int | None = None,
    overlap: int = EvalConfig.overlap,
) -> tuple[dict[str, Any], ImageCounts]:
    """Score the network on a split, in tiles if given; see ``scoring.score`` and ``Tiled``."""
    assert config.precision in PRECISIONS
    net = loaded.net if tile is None else Tiled(loaded.net, tile, overlap)
    hardware.set_tf32(config.tf32)
    loader, photos = data.scoring_loader(split), len(data.split_ids(split))
    void = int(loaded.metadata["void"])
    figures, images = scoring.score(
        net,
        loaded.classes,
        void,
        counted(loader, f"scoring {split}", photos, show=config.progress),
        accelerator=config.accelerator,
        precision=config.precision,
        test_views=config.test_views,
        fused=config.fused,
        resamples=resamples,
        own=OwnMetrics(config.metrics, loaded.classes, void),
    )
    with scoring.prepared(net, device_of(config.accelerator), config.precision) as inference_net:
        found = calibration(inference_net, data, data.split_ids(split))
    return figures | {"calibration": found}, images


def warn_of_trained(loaded: Checkpoint, data: SegmentationData, split: str) -> None:
    """Warn if a checkpoint was trained on photos of a split that it is scored on."""
    ids = data.split_ids(split)
    if seen := shared(data.source, ids, loaded.metadata.get("trained_on", ())):
        first = ", ".join(seen[:3]) + ", …" * (len(seen) > 3)
        log.warning(
            "split=%s: scored on %d photos of %d that the checkpoint was trained on (%s)",
            split,
            len(seen),
            len(ids),
            first,
        )
