"""The options that every data set has: which images, and how they become batches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from toyfcn.config.model import ModelConfig
from toyfcn.config.option import Checked, option
from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.trainer import TrainerConfig

VOC_ROOT = "${oc.env:TOYFCN_VOC,data}"  # resolved by Hydra, or when a config is made in Python


@dataclass
class DataConfig(Checked):
    """Which images, and how they become batches."""

    GROUP = "data"

    name: str = option("shapes", "which data set: set by data=NAME")
    kind: str = option(
        "shapes", "its layout on disk", choices=("shapes", "voc", "folder", "custom")
    )
    root: str = option(VOC_ROOT, "folder that holds the data", path=True)
    train_split: str = option("train", "list of the images to train on")
    val_split: str | None = option(
        "val", "list of the images to choose the best checkpoint by; null: the last one counts"
    )
    test_split: str | None = option("test", "list of the images to score once at the end, or null")
    limit: int | None = option(
        None, "use only the first so many images of each split; null: all", low=1
    )
    train_fraction: float = option(
        1.0,
        "share of train_split that is trained on, by a hash of the ids: a smaller share is part of "
        "a larger one; other splits stay whole",
        low=0.001,
        high=1,
    )
    batch_size: int = option(16, "images in a batch, over all processes together", low=1)
    workers: int = option(0, "loader processes; 0 reads in the main one", low=0, high=64)
    sampling: str = option(
        "epoch",
        "epoch: every image once an epoch; uniform: each batch a fresh sample",
        choices=("epoch", "uniform"),
    )
    cache: str = option(
        "none",
        "disk: keep decoded training pixels in a memory-mapped file; features: keep in memory what "
        "a frozen backbone makes of training photos",
        choices=("none", "disk", "features"),
    )
    cache_folder: str = option("data/cache", "folder of that file", path=True)
    crop: list[int] | None = option(
        None, "training windows: [height, width] in pixels, null: whole photos", low=8, length=2
    )
    buckets: int | None = option(
        None,
        "with crop=null: sort the training photos into so many groups of similar size, so that "
        "little is padded in a batch; null: any photos share a batch",
        low=2,
        high=1000,
    )
    scale: list[float] = option(
        [1.0, 1.0], "range of the scale jitter in training", low=0.1, length=2
    )
    max_share: float = option(
        1.0, "draw a training window again while one class fills more of it", low=0.1, high=1
    )
    augment: bool = option(
        True,
        "false: no scale jitter, flip, turn or color jitter in training, whatever these say",
    )
    flip: float = option(0.5, "probability of a mirror image in training", low=0, high=1)
    turn: bool = option(False, "turn training photos by random quarter turns")
    colour: float = option(0.0, "strength of the color jitter in training", low=0, high=0.9)
    transform: str | None = option(
        None,
        "your own augmentation behind these, as package.module:name: makes a transform of "
        "torchvision (v2) or albumentations",
        target="",
    )
    transform_args: Any = option(None, "arguments of transform, such as {p: 0.5}")
    channels: int = option(
        3,
        "data=folder and custom: channels of the photos; 3: RGB, whatever a file's mode; others: "
        "the bands that files hold, as multi-band TIFFs (toyfcn[tiff])",
        low=1,
        high=256,
    )
    show_bands: list[int] | None = option(
        None,
        "channels that pictures show as red, green and blue, or one in gray; null: the first three",
        low=0,
    )
    merge: Any = option(
        None,
        "classes that count as one, {name: [class, ...]}: it takes the place and color of the first"
        " in the list of classes; the name void makes them void",
    )
    folds: int | None = option(
        None,
        "cross-validation: train_split is dealt out to so many parts by a hash of the ids; null: "
        "none",
        low=2,
    )
    fold: int = option(
        0, "folds: the part, from 0 on, that is val_split; others are trained on", low=0
    )
    allow_overlap: bool = option(
        False, "train although photos of train_split are also in val_split or test_split"
    )

    def __post_init__(self) -> None:
        if self.root == VOC_ROOT:
            self.root = os.environ.get("TOYFCN_VOC", "data")
        super().__post_init__()
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"data.scale={self.scale} is not a range [low,high]")
        if self.transform_args is not None and self.transform is None:
            raise ValueError("data.transform_args needs data.transform=package.module:name")
        groups = self.merge if isinstance(self.merge, dict) else {None: self.merge}
        for name, members in groups.items() if self.merge is not None else ():
            listed = isinstance(members, list) and all(isinstance(one, str) for one in members)
            if not isinstance(name, str) or not listed:
                raise ValueError(f"data.merge={self.merge} is not like {{vehicle: [car, bus]}}")
        if self.fold >= (self.folds or 1):
            raise ValueError(f"data.fold={self.fold} needs data.folds of at least {self.fold + 1}")
        if self.folds is not None and self.val_split in (None, self.train_split):
            raise ValueError(
                f"data.folds={self.folds} takes val_split out of train_split={self.train_split}, "
                f"and data.val_split={self.val_split}: give it another name, such as val"
            )
        self._check_channels()
        if self.crop is None and self.max_share < 1:
            raise ValueError("data.max_share limits training windows, so it needs data.crop")
        if self.crop is not None and self.buckets is not None:
            raise ValueError("data.buckets sorts whole photos, so it needs data.crop=null")

    def _check_channels(self) -> None:
        count, bands = self.channels, self.show_bands
        if count != 3 and self.kind not in ("folder", "custom"):
            raise ValueError(f"data.channels={count} is for data=folder and data=custom")
        if count != 3 and self.colour:
            raise ValueError(f"data.colour changes RGB alone: with data.channels={count}, set it 0")
        if bands is not None and (len(bands) not in (1, 3) or max(bands) >= count):
            raise ValueError(
                f"data.show_bands={bands} are not 3 channels, or 1, of 0 to {count - 1}"
            )

    def refuse_changing_features(
        self, model: ModelConfig, recipe: RecipeConfig, trainer: TrainerConfig
    ) -> None:
        """Check that with cache=features a photo's features stay the same in the whole training.

        Raises:
            ValueError: naming what has to be set.
        """
        needed = {
            "recipe.freeze=backbone": recipe.freeze is not None,
            "recipe.freeze_steps=null": recipe.freeze_steps is None,
            "recipe.pretrain_steps=0": recipe.pretrain_steps == 0,
            "data.augment=false": not self.augment,
            "data.transform=null": self.transform is None,
            "data.crop=null": self.crop is None,
            "trainer.fused=true": trainer.fused,
            "recipe.loss=cross_entropy": recipe.loss == "cross_entropy",
            "a single process": trainer.processes == 1,
            "an FCN": model.name.startswith("fcn_"),
        }
        missing = [name for name, has in needed.items() if not has]
        if self.cache == "features" and missing:
            raise ValueError(f"data.cache=features needs {', '.join(missing)}")
