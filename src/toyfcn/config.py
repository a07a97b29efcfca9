"""The typed schema: every option once, with its meaning, unit and bounds.

The YAML files under conf/ only choose values; a key that is not here is an error. Nothing heavy is
imported, so that a mistake is told in a moment.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_type_hints

Choices = tuple[str | int, ...]


def option(
    default: Any,
    meaning: str,
    *,
    choices: Choices | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Declare an option: its default, its meaning (with unit), and what values it may have."""
    metadata = {"meaning": meaning, "choices": choices, "low": low, "high": high}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Checked:
    """An options group that checks its own bounds when it is made."""

    GROUP = ""  # what stands before the options on the command line

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            rule, value = item.metadata, getattr(self, item.name)
            if not rule or value is None:
                continue
            key = f"{self.GROUP}.{item.name}" if self.GROUP else item.name
            if rule["choices"] and value not in rule["choices"]:
                allowed = ", ".join(str(choice) for choice in rule["choices"])
                raise ValueError(f"{key}={value} is none of {allowed}")
            numbers = value if isinstance(value, list) else [value]
            for number in numbers:
                if rule["low"] is not None and not number >= rule["low"]:
                    raise ValueError(f"{key}={number} is below {rule['low']}")
                if rule["high"] is not None and not number <= rule["high"]:
                    raise ValueError(f"{key}={number} is above {rule['high']}")


@dataclass
class DataConfig(Checked):
    """Which images, and how they become batches."""

    GROUP = "data"

    name: str = option("shapes", "which data set: set by data=NAME")
    kind: str = option("shapes", "how it lies on disk", choices=("shapes", "voc", "folder"))
    root: str = option("${oc.env:TOYFCN_VOC,data}", "folder that holds the data")
    train_split: str = option("train", "list of the images to train on")
    val_split: str = option("val", "list of the images to choose the best checkpoint by")
    test_split: str | None = option("test", "list of the images to score once at the end, or null")
    batch_size: int = option(16, "images in a batch, over all processes together", low=1)
    workers: int = option(0, "loader processes; 0 reads in the main one", low=0, high=64)
    sampling: str = option(
        "epoch",
        "epoch: every image once an epoch; uniform: each batch a fresh sample",
        choices=("epoch", "uniform"),
    )
    cache: str = option(
        "none",
        "disk: keep decoded training pixels in a memory-mapped file",
        choices=("none", "disk"),
    )
    cache_folder: str = option("data/cache", "folder of that file")
    crop: list[int] | None = option(
        None, "training windows: [height, width] in pixels, null: whole photos", low=8
    )
    buckets: int | None = option(
        None,
        "with crop=null: sort the training photos into so many kinds of like size, so that little "
        "is padded where they meet in a batch; null: any photos meet",
        low=2,
        high=1000,
    )
    scale: list[float] = option([1.0, 1.0], "range of the scale jitter in training", low=0.1)
    max_share: float = option(
        1.0, "draw a training window again while one class fills more of it", low=0.1, high=1
    )
    flip: float = option(0.5, "probability of a mirror image in training", low=0, high=1)
    turn: bool = option(False, "turn training photos by random quarter turns")
    colour: float = option(0.0, "strength of the colour jitter in training", low=0, high=0.9)
    allow_overlap: bool = option(
        False, "train although photos of train_split are also in val_split or test_split"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.scale) != 2 or self.scale[0] > self.scale[1]:
            raise ValueError(f"data.scale={self.scale} is no range [low,high]")
        if self.crop is not None and len(self.crop) != 2:
            raise ValueError(f"data.crop={self.crop} is no [height,width]")
        if self.crop is None and self.max_share < 1:
            raise ValueError("data.max_share limits training windows, so it needs data.crop")
        if self.crop is not None and self.buckets is not None:
            raise ValueError("data.buckets sorts whole photos, so it needs data.crop=null")


@dataclass
class ShapesConfig(DataConfig):
    """The toy VOC, drawn on first use."""

    root: str = option("data/shapes", "folder that the world is drawn into")
    world_seed: int = option(0, "seed of the drawing", low=0)
    train_images: int = option(1000, "photos to draw for training", low=1)
    val_images: int = option(100, "photos to draw for validation", low=1)
    test_images: int = option(200, "photos to draw for the test", low=1)
    size: list[int] = option([96, 96], "[height, width] of the drawn photos in pixels", low=48)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.size) != 2:
            raise ValueError(f"data.size={self.size} is no [height,width]")


@dataclass
class VOCConfig(DataConfig):
    """PASCAL VOC, or a folder in its layout."""

    name: str = option("voc2007", "which data set: set by data=NAME")
    kind: str = option("voc", "how it lies on disk", choices=("voc",))
    year: int = option(2007, "VOC year: the folder VOC<year>", low=2005, high=2100)
    masks: str = option(
        "SegmentationClass",
        "folder of the masks in the year's one; SegmentationClassAug (SBD's, for "
        "train_split=trainaug) falls back on SegmentationClass",
    )


@dataclass
class FolderConfig(DataConfig):
    """Your own photos and masks: two flat folders, or lists of what is in them."""

    name: str = option("folder", "which data set: set by data=NAME, or your own word for it")
    kind: str = option("folder", "how it lies on disk", choices=("folder",))
    root: str = option(".", "folder that images, masks, lists and classes_file are looked for in")
    images: str | None = option(None, "folder of the photos (required)")
    masks: str | None = option(
        None, "folder of the masks, each called like its photo up to the suffix (required)"
    )
    classes: list[str] = option([], "names of the labels from 0 on (or classes_file)")
    classes_file: str | None = option(None, "text file with a class a line, instead of classes")
    colours: list[list[int]] | None = option(
        None,
        "masks are read by colour: [[r,g,b],...], one a class; null: their palette or grey values "
        "are the labels",
    )
    void: int | None = option(
        255, "value of pixels that are neither learned nor scored; null: none", low=0, high=255
    )
    void_colour: list[int] | None = option(
        None, "with colours: the void pixels' colour [r,g,b]; null: none", low=0, high=255
    )
    lists: str | None = option(
        None, "folder of train.txt, val.txt, ... with an id a line; null: split by the fractions"
    )
    val_fraction: float = option(0.2, "without lists: share of the val split", low=0.001, high=0.9)
    test_fraction: float = option(0.0, "without lists: share of the test split", low=0, high=0.9)
    split_seed: int = option(0, "without lists: seed of the split; an id keeps its place", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        void = [] if self.void_colour is None else [self.void_colour]
        colours = [*(self.colours or []), *void]
        for colour in colours:
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise ValueError(f"data.colours: {colour} is no [r,g,b] of values from 0 to 255")
        if twice := sorted({str(c) for c in colours if colours.count(c) > 1}):
            raise ValueError(f"data.colours: {twice[0]} stands for two things")
        if self.void_colour is not None and self.colours is None:
            raise ValueError("data.void_colour only says something beside data.colours")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("data.val_fraction and data.test_fraction leave nothing to train on")
        if self.lists is None and self.test_fraction == 0 and self.test_split == "test":
            self.test_split = None  # nothing is set aside


KINDS: dict[str, type[DataConfig]] = {
    "shapes": ShapesConfig,
    "voc": VOCConfig,
    "folder": FolderConfig,
}


def _all_null(*configs: type[DataConfig]) -> type:
    """Make a config with every option of the given ones, each null: nothing chosen yet."""
    types = {name: kind for config in configs for name, kind in get_type_hints(config).items()}
    return dataclasses.make_dataclass(
        "AsTrainedConfig", [(name, kind | None, None) for name, kind in types.items()]
    )


AsTrainedConfig = _all_null(*KINDS.values())  # toyfcn-eval: null means as the checkpoint has it


@dataclass
class ModelConfig(Checked):
    """The network."""

    GROUP = "model"

    name: str = option("fcn_lenet", "which network: set by model=NAME", choices=("fcn_lenet",))
    stride: int = option(4, "pixels between the finest scores: the rung", choices=(4, 2))
    width: float = option(1.0, "factor on the trunk's channels", low=0.01, high=16)
    short_side: int | None = option(
        None, "pixels of the short side at which the network sees a photo; null: as it is", low=8
    )
    upsample: str = option(
        "channel", "deconvolution: one filter a class, or dense", choices=("channel", "dense")
    )
    upsample_learned: bool = option(True, "deconvolutions learn; false: they stay bilinear")
    activation: str = option("relu", "tanh is LeNet's own", choices=("tanh", "relu"))
    norm: str = option("batch", "normalisation in the trunk", choices=("none", "batch"))
    pool: str = option("max", "kind of pooling", choices=("max", "avg"))


WEIGHTINGS = ("none", "sqrt", "median")


@dataclass
class RecipeConfig(Checked):
    """Loss, optimizer, momentum and schedule: they only make sense together."""

    GROUP = "recipe"

    name: str = option("modern", "which recipe: set by recipe=NAME")
    loss: str = option(
        "mean", "mean over the labelled pixels of a batch, or their sum", choices=("mean", "sum")
    )
    optimizer: str = option("adamw", "how weights move", choices=("adamw", "sgd"))
    lr: float = option(0.01, "learning rate; its peak under onecycle", low=0)
    momentum: float = option(0.9, "momentum (sgd), or beta1 (adamw)", low=0, high=0.9999)
    weight_decay: float = option(0.01, "weight decay; never on biases and norms", low=0)
    bias_lr_factor: float = option(1.0, "factor on the learning rate of biases", low=0)
    schedule: str = option(
        "onecycle",
        "lr over the steps: linear warm-up, then cosine",
        choices=("onecycle", "constant"),
    )
    warmup: float = option(0.1, "share of the steps that warm up (onecycle)", low=0, high=1)
    class_weights: Any = option(
        "none",
        "loss weights: sqrt or median of inverse frequency, clipped to 1/4..4, or a list",
    )
    clip: float | None = option(None, "largest norm of the gradient, null: any", low=0)
    average: float | None = option(
        None,
        "decay of the weights' moving average that is scored and kept, null: none",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.class_weights
        listed = isinstance(weights, list) and all(isinstance(w, int | float) for w in weights)
        if not (listed and min(weights, default=-1) >= 0) and weights not in WEIGHTINGS:
            raise ValueError(
                f"recipe.class_weights={weights} is neither one of {', '.join(WEIGHTINGS)} nor a "
                "list of numbers, one a class"
            )


@dataclass
class TrainerConfig(Checked):
    """Where and how long to train. Budgets are steps, so that runs repeat."""

    GROUP = "trainer"

    accelerator: str = option("auto", "where to run", choices=("auto", "cpu", "gpu"))
    devices: int = option(1, "how many GPUs or processes", low=1)
    precision: str = option(
        "32-true", "number format", choices=("32-true", "bf16-mixed", "16-mixed", "64-true")
    )
    max_steps: int = option(2000, "batches to train on; -1: only max_epochs counts", low=-1)
    max_epochs: int = option(-1, "passes over the images; -1: only max_steps counts", low=-1)
    val_every: int = option(
        100, "steps between validations; brought to a divisor of all steps", low=1
    )
    patience: int | None = option(
        None, "stop early after this many validations without a better mean IU, null: never", low=1
    )
    threads: int | None = option(None, "CPU threads, null: PyTorch's choice", low=1)
    reuse_memory: bool = option(
        False,
        "CPU on Linux: keep freed memory for the next step; faster, for up to twice the memory",
    )
    deterministic: bool = option(True, "only operations that repeat bit for bit")
    progress: bool = option(True, "show a progress bar where there is a terminal")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_steps < 1 and self.max_epochs < 1:
            raise ValueError("set trainer.max_steps or trainer.max_epochs: training needs an end")


@dataclass
class LoggerConfig(Checked):
    """What goes to TensorBoard."""

    GROUP = "logger"

    every: int = option(10, "steps between points of the training curves", low=1)
    panels: int = option(8, "validation photos in the picture panels; 0: none", low=0, high=64)


@dataclass
class TrainConfig(Checked):
    """toyfcn-train."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = option(0, "seed of weights, order and augmentation (0 is a seed)", low=0)
    ckpt: str | None = option(None, "checkpoint whose weights training starts from")
    optimized_metric: str = option(
        "val.miou", "figure of metrics.json that a sweep looks at: val.… or test.…"
    )


@dataclass
class EvalConfig(Checked):
    """toyfcn-eval."""

    ckpt: str | None = option(None, "checkpoint to score (required)")
    split: str = option("val", "list of the images to score")
    data: Any = None  # conf/eval.yaml chooses data=as_trained
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class PredictConfig(Checked):
    """toyfcn-predict."""

    ckpt: str | None = option(None, "checkpoint to predict with (required)")
    source: str | None = option(None, "photo, folder of photos or glob (required)")
    out: str = option("outputs/predictions", "folder for the masks and overlays")
    device: str = option("auto", "where to run", choices=("auto", "cpu", "gpu"))


@dataclass
class DataCommandConfig(Checked):
    """toyfcn-data."""

    data: DataConfig = field(default_factory=DataConfig)
    splits: list[str] | None = option(None, "check: lists to read, null: every list on disk")
    report: str | None = option("data-report.json", "check: file for the JSON report, null: none")
    workers: int | None = option(
        None, "check: files read at once, null: as many as CPU cores", low=1, high=64
    )
    mirrors: list[str] | None = option(
        None, "download: URLs of folders or of archives, tried in order; null: the official ones"
    )
    md5: list[str] | None = option(
        None, "download: checksum of each archive, null: the published ones"
    )
    keep: bool = option(False, "download: keep the archive beside what was unpacked from it")


def register() -> None:
    """Make the schema known to Hydra, under the names that conf/ refers to."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store("train_schema", TrainConfig)
    store.store("eval_schema", EvalConfig)
    store.store("predict_schema", PredictConfig)
    store.store("data_schema", DataCommandConfig)
    for group, name, node in (
        ("data", "shapes_schema", ShapesConfig),
        ("data", "voc_schema", VOCConfig),
        ("data", "folder_schema", FolderConfig),
        ("data", "as_trained", AsTrainedConfig),
        ("model", "lenet_schema", ModelConfig),
        ("recipe", "recipe_schema", RecipeConfig),
        ("trainer", "trainer_schema", TrainerConfig),
    ):
        store.store(name, node, group=group)
