"""Every option of the recipe: loss, optimizer and schedule, with meaning, unit and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toyfcn.config.option import Checked, option

PAPER_LR = (1e-10, 1e-12, 1e-14)  # of FCN-32s, 16s and 8s with a summed loss; at once: as 32s
WEIGHTINGS = ("none", "sqrt", "median")
OPTIMIZERS = ("adamw", "sgd", "muon")
SCHEDULES = ("onecycle", "constant")


@dataclass
class RecipeConfig(Checked):
    """Loss, optimizer, momentum and schedule: they only make sense together."""

    GROUP = "recipe"

    name: str = option("modern", "which recipe: set by recipe=NAME")
    loss: str = option(
        "cross_entropy",
        "what training minimizes; all but cross_entropy as segmentation_models_pytorch has them",
        choices=("cross_entropy", "focal", "dice", "jaccard", "lovasz"),
        target=", or package.module:name",
    )
    loss_args: Any = option(None, "arguments of another loss than cross_entropy: {gamma: 1}")
    reduction: str = option(
        "mean",
        "cross_entropy: its mean over the labeled pixels of a batch, or its sum",
        choices=("mean", "sum"),
    )
    optimizer: str = option(
        "adamw",
        "how weights move; muon: the backbone's filters by Muon, all else by AdamW",
        choices=OPTIMIZERS,
        target=", a class of torch.optim such as RAdam, or package.module:name",
    )
    optimizer_args: Any = option(
        None, "arguments of another optimizer than these: {betas: [0.9, 0.99]}"
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
    backbone_lr_factor: float = option(
        1.0, "factor on the learning rate of the whole backbone", low=0
    )
    schedule: str = option(
        "onecycle",
        "lr over the steps: linear warm-up, then cosine",
        choices=SCHEDULES,
        target=", a class of torch.optim.lr_scheduler such as PolynomialLR, or package.module:name",
    )
    schedule_args: Any = option(
        None,
        "arguments of another schedule than these: {power: 0.9}; total_iters, total_steps and "
        "T_max are the steps of the training unless given",
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

    freeze: str | None = option(
        None,
        "what does not learn: backbone (trunk means the same); null: nothing",
        choices=("backbone", "trunk"),
    )
    freeze_steps: int | None = option(None, "steps for which it does not learn; null: all", low=1)
    freeze_norm: bool = option(
        False, "the backbone's batch norms keep their statistics, those of pretrained weights"
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
            raise ValueError(
                f"recipe.freeze_steps={self.freeze_steps} needs recipe.freeze=backbone"
            )
        for name in ("loss", "optimizer", "schedule"):
            value, args = getattr(self, name), getattr(self, f"{name}_args")
            if args is not None and not isinstance(args, dict):
                raise ValueError(f"recipe.{name}_args={args} is not like {{gamma: 1, deep: true}}")
            if args is not None and value in ("cross_entropy", *OPTIMIZERS, *SCHEDULES):
                raise ValueError(f"recipe.{name}_args={args} is not for recipe.{name}={value}")
        if "lr" in (self.optimizer_args or {}):
            raise ValueError("recipe.optimizer_args: lr is set by recipe.lr")
        if self.reduction == "sum" and self.loss != "cross_entropy":
            raise ValueError(
                f"recipe.reduction=sum is for recipe.loss=cross_entropy, not {self.loss}"
            )
        if self.clip == 0:  # which Lightning takes for no limit
            raise ValueError("recipe.clip=0 lets nothing be learned: null sets no limit")
        weights = self.class_weights
        listed = isinstance(weights, list) and all(isinstance(w, int | float) for w in weights)
        useful = listed and min(weights, default=-1) >= 0 and max(weights) > 0
        if not useful and weights not in WEIGHTINGS:
            raise ValueError(
                f"recipe.class_weights={weights} must be one of {', '.join(WEIGHTINGS)}, or a list "
                "of numbers of at least 0, one a class, not all of them 0"
            )
