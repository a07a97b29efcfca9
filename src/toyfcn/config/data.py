"""The data sets that there are, each with its own options beside those of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toyfcn.config.data_options import DataConfig
from toyfcn.config.option import option

# options of earlier versions with their defaults: old checkpoints and run folders still hold them
REMOVED: dict[str, Any] = {"device_transforms": False}


def without_removed(values: dict[str, Any]) -> dict[str, Any]:
    """Return stored data options without those that no longer exist (see ``REMOVED``)."""
    return {key: value for key, value in values.items() if key not in REMOVED}


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
