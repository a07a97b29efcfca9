"""The typed schema: what each command takes, from groups of options that stand where they are used.

See the other files here, one for each group: there every option stands once, with its meaning, unit
and bounds. The YAML files under conf/ only choose values; a key that is not here is an error.
Nothing heavy is imported, so that a mistake is told at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from toyfcn.config.data_commands import ConvertConfig, DataCommandConfig
from toyfcn.config.data_options import DataConfig
from toyfcn.config.inference import (
    CompareConfig,
    DemoConfig,
    DescribeConfig,
    EvalConfig,
    ExportConfig,
    PredictConfig,
)
from toyfcn.config.model import STRIDES, ModelConfig
from toyfcn.config.option import Checked, option
from toyfcn.config.recipe import PAPER_LR, RecipeConfig
from toyfcn.config.sweep import SweepConfig
from toyfcn.config.target import TRUST, names_of
from toyfcn.config.trainer import FIGURES, LoggerConfig, TrainerConfig


@dataclass
class TrainConfig(Checked):
    """Train a network and score its best checkpoint; results are in outputs/train/.

    toyfcn-train experiment=shapes_lenet                      # a ready-made experiment
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
    ckpt: str | None = option(None, "checkpoint whose weights training starts from", path=True)
    resume: str | None = option(
        None,
        "folder of a run to continue; auto: the newest unfinished one with this config, or a new "
        "one",
        path=True,
    )
    rerun: str | None = option(
        None, "folder of a finished run to repeat, and compare with bit for bit", path=True
    )
    trust: list[str] = option([], TRUST.replace("a checkpoint", "ckpt=, resume= or rerun="))
    optimized_metric: str = option(
        "val.miou",
        "figure of metrics.json that a sweep looks at: val.… or test.…; best.ckpt, "
        "trainer.patience and pruning go by the same figure of the validations",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        model, recipe = self.model, self.recipe
        if recipe.lr is None:
            rung = 0 if model.at_once else STRIDES[model.name].index(model.stride)
            recipe.lr = PAPER_LR[min(rung, len(PAPER_LR) - 1)]
        if self.ckpt is not None and model.weights is not None:
            raise ValueError(f"ckpt= brings weights, and so does model.weights={model.weights}")
        if recipe.freeze and model.name == "custom":
            raise ValueError("recipe.freeze=backbone leaves nothing to learn: it is all of the net")
        if recipe.pretrain_steps and (self.ckpt is not None or model.name != "fcn_lenet"):
            raise ValueError("recipe.pretrain_steps needs model=fcn_lenet, and no ckpt=")
        scored = {"val": self.data.val_split, "test": self.data.test_split}
        if scored["val"] is None and self.trainer.patience is not None:
            raise ValueError("trainer.patience needs a data.val_split to be patient about")
        split, _, figure = self.optimized_metric.partition(".")
        known = (*FIGURES, *names_of(self.trainer.metrics))
        if split not in scored or figure not in known:
            raise ValueError(
                f"optimized_metric={self.optimized_metric} is no figure of metrics.json: name one "
                f"of {' or '.join(scored)}, such as val.miou (known: {', '.join(known)})"
            )
        if not any(scored.values()):
            raise ValueError(
                "data.val_split and data.test_split leave nothing to score: data.val_split="
                f"{self.data.train_split} data.allow_overlap=true scores the training photos"
            )
        if scored[split] is None:
            (other,) = {*scored} - {split}
            raise ValueError(
                f"optimized_metric={self.optimized_metric} needs a data.{split}_split, and there "
                f"is none: set it, or optimized_metric={other}.{figure}"
            )
        self.sweep.better(self.optimized_metric)
        model.refuse_channels(self.data.channels)
        self.data.refuse_changing_features(model, recipe, self.trainer)
        processes = self.trainer.processes
        if recipe.freeze_steps is not None and processes > 1:
            raise ValueError("recipe.freeze_steps needs trainer.devices=1 and trainer.nodes=1")
        if self.data.batch_size < processes:
            raise ValueError(
                f"data.batch_size={self.data.batch_size} is shared out, and leaves nothing to "
                f"some of the {processes} processes"
            )

    @property
    def monitored(self) -> tuple[str, bool]:
        """The figure of a validation that tells the best one, and whether lower is better."""
        better = self.sweep.better(self.optimized_metric)
        return self.optimized_metric.partition(".")[2], better == "minimize"


COMMANDS: dict[str, type[Checked]] = {  # by the name of their file in conf/
    "train": TrainConfig,
    "eval": EvalConfig,
    "compare": CompareConfig,
    "predict": PredictConfig,
    "demo": DemoConfig,
    "export": ExportConfig,
    "data": DataCommandConfig,
    "convert": ConvertConfig,
    "describe": DescribeConfig,
}
