"""The options of every data set: which images, and how they become batches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from toyfcn.config.model import ModelConfig
from toyfcn.config.option import Checked, option
from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.trainer import TrainerConfig

VOC_ROOT = "${oc.env:TOYFCN_VOC,data}"  # resolved by Hydra, or when a config is made in Python
# options of earlier versions with their defaults: old checkpoints and run folders still hold them
REMOVED: dict[str, Any] = {"device_transforms": False}


def without_removed(values: dict[str, Any]) -> dict[str, Any]:
    """Return stored data options without those that no longer exist (see ``REMOVED``)."""
    return {key: value for key, value in values.items() if key not in REMOVED}


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
        groups = self.merge if isinstance(self.merge, dict) else {"": self.merge}
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
        if self.crop is None and self.max_share < 1:
            raise ValueError("data.max_share limits training windows, so it needs data.crop")
        if self.crop is not None and self.buckets is not None:
            raise ValueError("data.buckets sorts whole photos, so it needs data.crop=null")

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


@dataclass
class ShapesConfig(DataConfig):
    """The toy VOC, drawn on first use."""

    root: str = option("data/shapes", "folder that the world is drawn into", path=True)
    world_seed: int = option(0, "seed of the drawing", low=0)
    train_images: int = option(1000, "photos to draw for training", low=1)
    val_images: int = option(100, "photos to draw for validation", low=1)
    test_images: int = option(200, "photos to draw for the test", low=1)
    size: list[int] = option(
        [96, 96], "[height, width] of the drawn photos in pixels", low=48, length=2
    )


@dataclass
class VOCConfig(DataConfig):
    """PASCAL VOC, or a folder in its layout."""

    name: str = option("voc2007", "which data set: set by data=NAME")
    kind: str = option("voc", "its layout on disk", choices=("voc",))
    year: int = option(2007, "VOC year: the folder VOC<year>", low=2005, high=2100)
    masks: str = option(
        "SegmentationClass",
        "folder of the masks in the year's one; SegmentationClassAug (SBD's, for "
        "train_split=trainaug) falls back on SegmentationClass",
    )


@dataclass
class FolderConfig(DataConfig):
    """Your own photos and masks: two folders, with folders below, or lists of what is in them."""

    name: str = option("folder", "which data set: set by data=NAME, or a name of your own")
    kind: str = option("folder", "its layout on disk", choices=("folder",))
    root: str = option(
        ".", "folder that images, masks, lists and classes_file are looked for in", path=True
    )
    images: str | None = option(
        None,
        "folder of the photos (required); {split} in it stands for train_split, val_split, ...: "
        "images/{split}",
        path=True,
    )
    masks: str | None = option(
        None, "folder of the masks (required), likewise: masks/{split}, {split}annot", path=True
    )
    image_name: str = option(
        "{stem}", "how photos are called around what their masks share, as {stem}_leftImg8bit.png"
    )
    mask_name: str = option(
        "{stem}", "how masks are called around it, as {stem}_mask.png; no suffix: any of a mask's"
    )
    classes: list[str] = option([], "names of the labels from 0 on (or classes_file)")
    classes_file: str | None = option(
        None, "text file with a class a line, instead of classes", path=True
    )
    colours: list[list[int]] | None = option(
        None,
        "masks are read by color: [[r,g,b],...], one a class; null: their palette or gray values "
        "are the labels",
    )
    palette: list[list[int]] | None = option(
        None,
        "without colours: the classes' colors in pictures, [[r,g,b],...], one a class; null: VOC's",
    )
    values: Any = option(
        None,
        "without colours: the masks' values in the classes' order, as [0,255], or {value: class or "
        "void, ...}; null: they are the labels",
    )
    void: int | None = option(
        255, "value of pixels that are neither learned nor scored; null: none", low=0, high=255
    )
    void_colour: list[int] | None = option(
        None, "with colours: the void pixels' color [r,g,b]; null: none", low=0, high=255
    )
    black: float = option(0.0, "value of black in photos of more than 8 bits")
    white: float | None = option(
        None,
        "value of white in photos of more than 8 bits, such as 4095 where a camera has used 12; "
        "null: 65535 of 16 bits",
    )
    lists: str | None = option(
        None,
        "folder of train.txt, val.txt, ... with an id, or a photo and its mask, a line; null: the "
        "splits are folders or fractions",
        path=True,
    )
    val_fraction: float = option(
        0.2, "without lists or {split}: share of the val split", low=0.001, high=0.9
    )
    test_fraction: float = option(
        0.0, "without lists or {split}: share of the test split", low=0, high=0.9
    )
    split_seed: int = option(
        0, "without lists or {split}: seed of the split; an id keeps its split", low=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        void = [] if self.void_colour is None else [self.void_colour]
        colors = [*(self.colours or []), *void]
        for color in [*colors, *(self.palette or [])]:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                key = "colours" if color in colors else "palette"
                raise ValueError(f"data.{key}: {color} is not [r,g,b] with values from 0 to 255")
        if self.palette is not None and self.colours is not None:
            raise ValueError("data.palette is for masks without colors: data.colours has them")
        if twice := sorted({str(c) for c in colors if colors.count(c) > 1}):
            raise ValueError(f"data.colours: {twice[0]} is given twice")
        if self.void_colour is not None and self.colours is None:
            raise ValueError("data.void_colour needs data.colours")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("data.val_fraction and data.test_fraction leave nothing to train on")
        drawn = self.lists is None and not self.split_folders
        if drawn and self.test_fraction == 0 and self.test_split == "test":
            self.test_split = None  # nothing is set aside
        if self.white is not None and self.white <= self.black:
            raise ValueError(f"data.white={self.white:g} is not above data.black={self.black:g}")
        self._check_layout()
        self._check_values()

    @property
    def split_folders(self) -> bool:
        """Whether the splits are folders: data.images=images/{split}."""
        return "{split}" in str(self.images)

    def _check_layout(self) -> None:
        for key, value, mark in (
            ("images", self.images, "{split}"),
            ("masks", self.masks, "{split}"),
            ("image_name", self.image_name, "{stem}"),
            ("mask_name", self.mask_name, "{stem}"),
        ):
            text, other = str(value or ""), {"images": "masks", "masks": "images"}.get(key)
            if (rest := text.replace(mark, "", 1)) and set(rest) & set("{}"):
                raise ValueError(f"data.{key}={text} may hold {mark} once, and no other braces")
            if other and mark in text and mark not in str(getattr(self, other) or mark):
                raise ValueError(f"data.{key}={text} has {mark}, so data.{other} needs it too")
            if not other and (mark not in text or "/" in text):
                raise ValueError(f"data.{key}={text} is no name with {mark} in it, as {mark}_mask")
        if self.split_folders and self.lists is not None:
            raise ValueError("data.lists and {split} in data.images both name the splits: use one")

    def _check_values(self) -> None:
        if self.values is None:
            return
        given = list(self.values) if isinstance(self.values, list | dict) else [None]
        if wrong := [v for v in given if type(v) is not int or not 0 <= v <= 255]:
            raise ValueError(
                f"data.values={self.values}: {wrong[0]!r} is no value from 0 to 255 (a list as "
                "[0,255], or {0: background, 255: cat})"
            )
        if twice := [value for value in given if given.count(value) > 1]:
            raise ValueError(f"data.values lists {twice[0]} twice")
        if self.colours is not None:
            raise ValueError("data.values is for masks without colors: data.colours has them")


@dataclass
class CustomConfig(DataConfig):
    """A data set of your own code."""

    name: str = option("custom", "which data set: set by data=NAME, or a name of your own")
    kind: str = option("custom", "its layout on disk", choices=("custom",))
    target: str | None = option(
        None, "custom: what makes your data set, as package.module:name (required)", target=""
    )
    args: Any = option(None, "custom: arguments of target, such as {folder: photos}")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.args is not None and not isinstance(self.args, dict):
            raise ValueError(f"data.args={self.args} is not like {{folder: photos}}")


KINDS: dict[str, type[DataConfig]] = {
    "shapes": ShapesConfig,
    "voc": VOCConfig,
    "folder": FolderConfig,
    "custom": CustomConfig,
}
