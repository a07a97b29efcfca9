"""The weights that training starts from, and what they score before the first step."""

from __future__ import annotations

import logging
from typing import Any

from toyfcn.config.commands import TrainConfig
from toyfcn.config.trainer import PRECISIONS
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation.scoring import score
from toyfcn.models.build import Network
from toyfcn.models.ensemble import Ensemble
from toyfcn.models.fcn import FCN
from toyfcn.models.pretrained import Transplant, convolutionalize, load_weights
from toyfcn.runs.checkpoint import Checkpoint
from toyfcn.training.pretrain import pretrain

log = logging.getLogger(__name__)


def bring_weights(
    config: TrainConfig,
    net: Network,
    start: Checkpoint | None,
    data: SegmentationData,
    class_weights: Any = None,
) -> Transplant | None:
    """Give a fresh network what ckpt=, model.weights= or recipe.pretrain_steps= bring, if any.

    Raises:
        ValueError: the weights cannot be had, or do not fit.
    """
    moved: Transplant | None = None
    if start is not None:
        moved = transplant(start, net)
        pairs = zip(start.classes, data.source.classes, strict=True)
        for label, (before, here) in enumerate(pairs):
            if before != here:
                log.warning(
                    "ckpt= has other classes: its label %d is %r, here it is %r; the score layers "
                    "are copied label by label, so they begin with the old meaning",
                    label,
                    before,
                    here,
                )
                break
        for key in ("activation", "pool", "geometry"):  # weights fit either way, scores do not
            was, now = getattr(start.model, key), getattr(config.model, key)
            if was != now:
                log.warning("ckpt= was trained with model.%s=%s, not %s", key, was, now)
    elif config.model.weights is not None:
        assert isinstance(net, FCN)
        moved = load_weights(net, config.model.weights)
    elif config.recipe.pretrain_steps:
        assert isinstance(net, FCN)
        moved = convolutionalize(pretrain(config, data, class_weights), net)
    elif config.model.name == "fcn_vgg16" and config.model.norm == "none":
        log.warning(
            "VGG-16 learns next to nothing from scratch without normalization: set "
            "model.weights=imagenet, ckpt= or model.norm=batch"
        )
    if moved is not None:
        log.info("%s", moved)
    return moved


def score_first(net: Network, config: TrainConfig, data: SegmentationData) -> dict[str, Any]:
    """Score a network before its first step, and log it; return the figures."""
    assert config.data.val_split is not None and config.trainer.precision in PRECISIONS
    found, _ = score(
        net,
        data.source.classes,
        data.source.void,
        data.scoring_loader(config.data.val_split),
        accelerator=config.trainer.accelerator,
        precision=config.trainer.precision,
        test_views=config.trainer.test_views,
    )
    net.train()
    if found["miou"] is not None:
        log.info(
            "before the first step: val mean IU %.4f, all-%s %.4f",
            found["miou"],
            found["baseline_class"],
            found["baseline_miou"],
        )
    return found


def transplant(start: Checkpoint, net: Network) -> Transplant:
    """Give a network the weights of a checkpoint of the same shape, or of a coarser stride.

    A finer network's new score layers stay zero, so that it starts with the coarser one's scores,
    upsampled once; deconvolutions of other strides stay bilinear.

    Raises:
        ValueError: the shapes differ; the message names the first such weight.
    """
    assert not isinstance(start.net, Ensemble)  # which only scoring and prediction load
    given, wanted = start.net.state_dict(), net.state_dict()
    finer = len(net.heads) > len(start.net.heads)
    report = Transplant()
    for name in {**wanted, **given}:
        shapes = [list(w[name].shape) if name in w else None for w in (given, wanted)]
        added = finer and (
            name.startswith("ups.") or (name.startswith("heads.") and name not in given)
        )
        if shapes[0] != shapes[1] and not added:
            raise ValueError(
                f"ckpt= has {name} as {shapes[0]}, but this model needs {shapes[1]}: set "
                "model.… and data= as the checkpoint has them"
            )
        if name in wanted:
            (report.copied if shapes[0] == shapes[1] else report.new).append(name)
    if (
        isinstance(net, FCN)
        and isinstance(start.net, FCN)
        and start.net.scales != net.scales[: len(start.net.scales)]
    ):
        raise ValueError(
            f"ckpt= was trained with model.at_once={start.model.at_once}: its skips are scaled so"
        )
    net.load_state_dict({name: given[name] for name in report.copied}, strict=False)
    return report
