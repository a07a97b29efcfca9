"""The typed schema: every option once, with its meaning, unit and bounds.

The options of data sets are in data/config.py. The YAML files under conf/ only choose values; a key
that is not here is an error. Nothing heavy is imported, so that a mistake is told in a moment.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from toyfcn.data.config import KINDS, DataConfig, FolderConfig, ShapesConfig, VOCConfig
from toyfcn.option import Checked, option
from toyfcn.sweep.config import SweepConfig


def _all_null(*configs: type[DataConfig]) -> type:
    """Make a config with every option of the given ones, each null: nothing chosen yet."""
    types = {name: kind for config in configs for name, kind in get_type_hints(config).items()}
    return dataclasses.make_dataclass(
        "AsTrainedConfig", [(name, kind | None, None) for name, kind in types.items()]
    )


AsTrainedConfig = _all_null(*KINDS.values())  # toyfcn-eval: null means as the checkpoint has it


STRIDES = {"fcn_lenet": (4, 2), "fcn_vgg16": (32, 16, 8)}  # the rungs of each network
NOT_OF = {  # options that are another network's alone
    "fcn_lenet": ("dropout", "at_once", "weights"),
    "fcn_vgg16": ("activation", "pool", "maps"),
}


@dataclass
class ModelConfig(Checked):
    """The network."""

    GROUP = "model"

    name: str = option("fcn_lenet", "which network: set by model=NAME", choices=tuple(STRIDES))
    stride: int = option(
        4, "pixels between the finest scores: the rung; LeNet 4 or 2, VGG-16 32, 16 or 8"
    )
    width: float = option(1.0, "factor on the trunk's channels", low=0.01, high=16)
    maps: list[int] | None = option(
        None, "LeNet: channels of C1, C3, C5 and F6 before width; null: its own 6,16,120,84", low=1
    )
    short_side: int | None = option(
        None,
        "pixels of the short side at which the network sees a photo; null: as it is",
        low=8,
        high=8192,
    )
    geometry: str = option(
        "same",
        "same: every map lies on the photo; paper: the photo is padded by 100 and maps are cropped",
        choices=("same", "paper"),
    )
    upsample: str = option(
        "channel", "deconvolution: one filter a class, or dense", choices=("channel", "dense")
    )
    upsample_learned: bool = option(True, "deconvolutions learn; false: they stay bilinear")
    upsample_init: str = option(
        "bilinear",
        "deconvolutions start as bilinear interpolation, or (for comparison) at random",
        choices=("bilinear", "random"),
    )
    last_learned: bool | None = option(
        None, "the last deconvolution, to the photo's size, learns; null: as the others do"
    )
    activation: str = option("relu", "LeNet: tanh is its own", choices=("tanh", "relu"))
    norm: str = option("batch", "normalisation in the trunk", choices=("none", "batch"))
    pool: str = option("max", "LeNet: kind of pooling", choices=("max", "avg"))
    dropout: float = option(
        0.5, "VGG-16: share of the numbers behind fc6 and fc7 dropped in training", low=0, high=0.99
    )
    at_once: bool = option(
        False, "VGG-16: skips scaled by 0.01 and 0.0001, so that all rungs train at once"
    )
    weights: str | None = option(
        None,
        "VGG-16: trained weights to start from: imagenet (torchvision's), or a file with the "
        "layers of torchvision or of the Caffe release",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride not in STRIDES[self.name]:
            allowed = ", ".join(str(stride) for stride in STRIDES[self.name])
            raise ValueError(f"model.stride={self.stride} is none of {allowed}")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in NOT_OF[self.name] and value != item.default:
                raise ValueError(f"model.{item.name}={value} is no option of model={self.name}")
        if self.maps is not None and len(self.maps) != 4:
            raise ValueError(f"model.maps={self.maps} are not the channels of C1, C3, C5 and F6")
        if self.last_learned and not self.upsample_learned:
            raise ValueError("model.last_learned=true contradicts model.upsample_learned=false")
        if self.at_once and self.stride == max(STRIDES[self.name]):
            raise ValueError(f"model.at_once=true needs skips: model.stride={self.stride} has none")
        if self.weights is not None and self.norm != "none":
            raise ValueError(
                f"model.weights={self.weights} needs model.norm=none, as VGG-16 has it"
            )


PAPER_LR = (1e-10, 1e-12, 1e-14)  # of 32s, 16s and 8s with a summed loss; at once as 32s
WEIGHTINGS = ("none", "sqrt", "median")


@dataclass
class RecipeConfig(Checked):
    """Loss, optimizer, momentum and schedule: they only make sense together."""

    GROUP = "recipe"

    name: str = option("modern", "which recipe: set by recipe=NAME")
    loss: str = option(
        "mean", "mean over the labelled pixels of a batch, or their sum", choices=("mean", "sum")
    )
    optimizer: str = option(
        "adamw",
        "how weights move; muon: the trunk's filters by Muon, all else by AdamW",
        choices=("adamw", "sgd", "muon"),
    )
    lr: float | None = option(
        0.01, "learning rate; its peak under onecycle; null: the paper's for model.stride", low=0
    )
    momentum: float = option(0.9, "momentum (sgd, muon), or beta1 (adamw)", low=0, high=0.9999)
    adam_lr_factor: float = option(
        0.2, "with optimizer=muon: factor on the learning rate of what AdamW moves", low=0
    )
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
    sample: float = option(
        1.0,
        "share of the pixels, drawn anew at each step, whose loss counts; 1: whole-image training",
        low=0.001,
        high=1,
    )
    clip: float | None = option(None, "largest norm of the gradient, null: any", low=0)
    average: float | None = option(
        None,
        "decay of the weights' moving average that is scored and kept, null: none",
        low=0,
        high=1,
    )

    freeze: str | None = option(None, "what does not learn; null: nothing", choices=("trunk",))
    freeze_steps: int | None = option(
        None, "steps for which it does not; null: all of the training", low=1
    )
    pretrain_steps: int = option(
        0, "LeNet: of trainer.max_steps, those that train it as a classifier of patches", low=0
    )
    pretrain_patches: int = option(
        128, "32x32 patches cut from each batch of photos in these steps", low=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_steps is not None and self.freeze is None:
            raise ValueError(f"recipe.freeze_steps={self.freeze_steps} needs recipe.freeze=trunk")
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
    devices: int = option(1, "how many GPUs, or processes, on each machine", low=1)
    nodes: int = option(1, "how many machines", low=1)
    sync_batchnorm: bool = option(
        False, "GPUs: batch normalisation over all processes; false: over each one's share"
    )
    precision: str = option(
        "32-true", "number format", choices=("32-true", "bf16-mixed", "16-mixed", "64-true")
    )
    max_steps: int = option(2000, "batches to train on; -1: only max_epochs counts", low=-1)
    max_epochs: int = option(-1, "passes over the images; -1: only max_steps counts", low=-1)
    val_every: int = option(
        100, "steps between validations; brought to a divisor of all steps", low=1
    )
    flip_test: bool = option(
        False, "scoring: the mean of a photo's scores and its mirror image's; twice the time"
    )
    patience: int | None = option(
        None, "stop early after this many validations without a better mean IU, null: never", low=1
    )
    threads: int | None = option(None, "CPU threads, null: PyTorch's choice", low=1)
    reuse_memory: bool = option(
        False,
        "CPU on Linux: keep freed memory for the next step; faster, for up to twice the memory",
    )
    fused: bool = option(
        True, "upsampling and loss in one pass, equal and faster; false: the plain formulation"
    )
    compile: bool = option(
        False, "compile the trunk: faster after half a minute, and as long for each size of photos"
    )
    profile: bool = option(False, "tell where a step's time goes, with a trace; see debug=profile")
    save_every: int | None = option(
        None, "steps between saves of last.ckpt beside those at validations; null: none", low=1
    )
    save_failed: str = option(
        "go_on",
        "what a run does that cannot save, its disk being full; the checkpoint before stays",
        choices=("go_on", "stop"),
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
    histograms: bool = option(False, "weights and gradients at each validation")
    graph: bool = option(False, "the network's graph")


@dataclass
class TrainConfig(Checked):
    """Fit a network, score its best checkpoint, leave a folder that tells it all.

    toyfcn-train experiment=shapes_lenet                      # a claim of conf/experiment
    toyfcn-train model.stride=2 recipe.lr=0.003 seed=1        # change anything
    toyfcn-train -m recipe.lr=0.01,0.03 model.stride=4,2      # sweep: a grid of four runs
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = option(0, "seed of weights, order and augmentation (0 is a seed)", low=0)
    ckpt: str | None = option(None, "checkpoint whose weights training starts from")
    resume: str | None = option(
        None,
        "folder of a run to continue; auto: the newest unfinished one with this config, or a new "
        "one",
    )
    rerun: str | None = option(
        None, "folder of a finished run to repeat, and compare with bit for bit"
    )
    optimized_metric: str = option(
        "val.miou", "figure of metrics.json that a sweep looks at: val.… or test.…"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        model, recipe = self.model, self.recipe
        if recipe.lr is None:
            rung = 0 if model.at_once else STRIDES[model.name].index(model.stride)
            recipe.lr = PAPER_LR[rung]
        if self.ckpt is not None and model.weights is not None:
            raise ValueError(f"ckpt= brings weights, and so does model.weights={model.weights}")
        if recipe.pretrain_steps and (self.ckpt is not None or model.name != "fcn_lenet"):
            raise ValueError("recipe.pretrain_steps needs model=fcn_lenet, and no ckpt=")
        scored = {"val": self.data.val_split, "test": self.data.test_split}
        if scored["val"] is None and self.trainer.patience is not None:
            raise ValueError("trainer.patience needs a data.val_split to be patient about")
        if scored.get(self.optimized_metric.partition(".")[0], "") is None:
            raise ValueError(
                f"optimized_metric={self.optimized_metric} needs the split that "
                f"data.{self.optimized_metric.partition('.')[0]}_split=null leaves out"
            )
        processes = self.trainer.devices * self.trainer.nodes
        if recipe.freeze_steps is not None and processes > 1:
            raise ValueError("recipe.freeze_steps needs trainer.devices=1 and trainer.nodes=1")
        if self.data.batch_size < processes:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} is shared out, and leaves nothing to "
                f"some of the {processes} processes"
            )


@dataclass
class EvalConfig(Checked):
    """Score a checkpoint on any split.

    toyfcn-eval ckpt=RUN/checkpoints/best.ckpt                # on its own validation split
    toyfcn-eval ckpt=RUN/checkpoints/best.ckpt split=test
    toyfcn-eval ckpt=RUN/checkpoints/best.ckpt data=voc2012 data.root=FOLDER
    """

    ckpt: str | None = option(None, "checkpoint to score (required)")
    split: str = option("val", "list of the images to score")
    data: Any = None  # conf/eval.yaml chooses data=as_trained
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass
class PredictConfig(Checked):
    """Palette masks and overlays of any photos, from a checkpoint alone.

    toyfcn-predict ckpt=best.ckpt source=photos/ out=masks
    toyfcn-predict ckpt=best.ckpt 'source=["photos/**/*.png",one.jpg]' scores=true
    toyfcn-predict ckpt=best.ckpt format=voc_server data=voc2012 split=test out=submission
    """

    ckpt: str | None = option(None, "checkpoint to predict with (required)")
    source: Any = option(None, "photo, folder of photos or glob, or a list of these")
    out: str = option("outputs/predictions", "folder for the masks and overlays")
    format: str = option(
        "pictures",
        "pictures: masks and overlays of source; voc_server: what PASCAL's evaluation server takes",
        choices=("pictures", "voc_server"),
    )
    scores: bool = option(
        False, "write NAME_scores.npz too: float16 (classes, height, width), before the softmax"
    )
    split: str = option("test", "voc_server: list of the photos, which need no masks")
    data: Any = None  # voc_server: where the photos lie; conf/predict.yaml says as_trained
    device: str = option("auto", "where to run", choices=("auto", "cpu", "gpu"))

    def __post_init__(self) -> None:
        super().__post_init__()
        listed = self.source if isinstance(self.source, list) else [self.source]
        if not all(isinstance(item, str | None) for item in listed):
            raise ValueError(f"source={self.source} is no path, nor a list of paths")
        if self.format == "voc_server" and (self.scores or self.source):
            given = "scores" if self.scores else "source"
            raise ValueError(f"{given}= has no place beside format=voc_server, which takes split=")


@dataclass
class ExportConfig(Checked):
    """A checkpoint's network as ONNX, checked against torch.

    toyfcn-export ckpt=RUN/checkpoints/best.ckpt              # best.onnx beside it
    toyfcn-export ckpt=best.ckpt out=net.onnx
    toyfcn-export ckpt=best.ckpt output=labels
    """

    ckpt: str | None = option(None, "checkpoint to export (required)")
    out: str | None = option(None, "file to write; null: beside the checkpoint")
    output: str = option(
        "scores", "scores of each class, or labels of the best ones", choices=("scores", "labels")
    )


@dataclass
class DescribeConfig(Checked):
    """toyfcn-model."""

    model: ModelConfig = field(default_factory=ModelConfig)
    classes: int = option(21, "classes to score, background included", low=2, high=255)
    size: list[int] = option([375, 500], "height and width of the photo, in pixels", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.size) != 2:
            raise ValueError(f"size={self.size} must be [height,width]")


@dataclass
class DataCommandConfig(Checked):
    """Check | draw | download: read and judge a data set, draw one, fetch one.

    toyfcn-data check data=voc2007 data.root=FOLDER
    toyfcn-data draw data.root=world data.train_images=5000
    toyfcn-data download data=voc2012 data.root=FOLDER
    """

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


COMMANDS: dict[str, type[Checked]] = {  # by the name of their file in conf/
    "train": TrainConfig,
    "eval": EvalConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "data": DataCommandConfig,
    "describe": DescribeConfig,
}


def options_of(name: str) -> list[str]:
    """Return the options of the dataclass of that name, if it is one of the schema's."""
    known: list[type] = [Checked]
    for kind in known:  # and of its subclasses, as they are found
        known += kind.__subclasses__()
    return [f.name for kind in known if kind.__name__ == name for f in dataclasses.fields(kind)]


def register() -> None:
    """Make the schema known to Hydra, under the names that conf/ refers to."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for command, schema in COMMANDS.items():
        store.store(f"{command}_schema", schema)
    for group, name, node in (
        ("data", "shapes_schema", ShapesConfig),
        ("data", "voc_schema", VOCConfig),
        ("data", "folder_schema", FolderConfig),
        ("data", "as_trained", AsTrainedConfig),
        ("model", "model_schema", ModelConfig),
        ("recipe", "recipe_schema", RecipeConfig),
        ("trainer", "trainer_schema", TrainerConfig),
        ("sweep", "sweep_schema", SweepConfig),
    ):
        store.store(name, node, group=group)
