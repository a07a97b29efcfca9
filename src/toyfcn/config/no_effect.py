"""Which options have no effect beside others: what was chosen and does nothing is warned of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import FolderConfig
from toyfcn.config.recipe import OPTIMIZERS

Needs = tuple[str, Callable[[TrainConfig], bool]]

AUGMENT: Needs = "data.augment=true", lambda config: config.data.augment
SPLIT_BY_FRACTIONS: Needs = (
    "data.lists=null and data.images without {split}",
    lambda config: (
        not isinstance(config.data, FolderConfig)
        or (config.data.lists is None and not config.data.split_folders)
    ),
)
TENSORBOARD: Needs = "logger=tensorboard", lambda config: "tensorboard" in config.logger.to
VALIDATIONS: Needs = "a data.val_split", lambda config: config.data.val_split is not None
NEEDS: dict[str, Needs] = {  # what an option needs to have an effect
    "data.scale": AUGMENT,
    "data.flip": AUGMENT,
    "data.turn": AUGMENT,
    "data.colour": AUGMENT,
    "data.val_fraction": SPLIT_BY_FRACTIONS,
    "data.test_fraction": SPLIT_BY_FRACTIONS,
    "data.split_seed": SPLIT_BY_FRACTIONS,
    "recipe.adam_lr_factor": ("recipe.optimizer=muon", lambda c: c.recipe.optimizer == "muon"),
    "recipe.momentum": (
        f"recipe.optimizer={' or '.join(OPTIMIZERS)}",
        lambda c: c.recipe.optimizer in OPTIMIZERS,
    ),
    "recipe.backbone_lr_factor": (
        "a backbone that learns (recipe.freeze=null)",
        lambda c: c.recipe.freeze is None or c.recipe.freeze_steps is not None,
    ),
    "recipe.freeze_norm": (
        "a backbone with batch normalization",
        lambda c: (
            c.model.norm == "batch"
            or c.model.name in ("fcn_timm", "custom")
            or c.model.backbone == "googlenet"
        ),
    ),
    "recipe.warmup": ("recipe.schedule=onecycle", lambda c: c.recipe.schedule == "onecycle"),
    "recipe.pretrain_patches": ("recipe.pretrain_steps", lambda c: c.recipe.pretrain_steps > 0),
    "trainer.sync_batchnorm": ("several trainer.devices", lambda c: c.trainer.processes > 1),
    "trainer.keep_mb": ("trainer.reuse_memory=false", lambda c: not c.trainer.reuse_memory),
    "logger.histograms": (
        "a data.val_split and logger=tensorboard",
        lambda c: c.data.val_split is not None and "tensorboard" in c.logger.to,
    ),
    "logger.graph": TENSORBOARD,
    "logger.offline": ("logger=wandb", lambda c: "wandb" in c.logger.to),
    "logger.uri": ("logger=mlflow", lambda c: "mlflow" in c.logger.to),
    "logger.project": (
        "logger=wandb or mlflow",
        lambda c: bool({"wandb", "mlflow"} & {*c.logger.to}),
    ),
    "logger.panels": VALIDATIONS,
}

# options of the data that checking does not heed
READING = ("limit", "train_fraction", "batch_size", "workers")
SPLITS = ("train_split", "val_split", "test_split", "allow_overlap")
OF_TRAINING = (  # and those that scoring and predicting do not heed either
    *("sampling", "cache", "cache_folder", "crop", "buckets", "scale", "max_share", "augment"),
    *("flip", "turn", "colour", "palette", "transform", "transform_args"),
)
UNHEEDED: dict[str, dict[str, tuple[str, ...]]] = {  # by command
    **{name: {"data": (*OF_TRAINING, *SPLITS, "show_bands")} for name in ("eval", "predict")},
    "compare": {"data": (*OF_TRAINING, *SPLITS)},
    "data": {"data": (*OF_TRAINING, *READING, "show_bands")},
    "describe": {"model": ("weights",)},
}


def refuse_unheeded(command: str, chosen: Iterable[str]) -> None:
    """Check that none of the chosen ``key=value`` is one that a command does not look at.

    Raises:
        ValueError: naming it.
    """
    for word in chosen:
        group, _, key = word.lstrip("+").partition("=")[0].partition(".")
        if key in UNHEEDED.get(command, {}).get(group, ()):
            instead = ": the list to score is split=" if key.endswith("_split") else ""
            raise ValueError(f"{group}.{key} has no effect here, but in training{instead}")


def without_effect(config: TrainConfig, chosen: Iterable[str]) -> list[str]:
    """Return a sentence for each of the chosen ``key=value`` that nothing heeds in a config."""
    keys = [word.lstrip("+").partition("=")[0] for word in chosen]
    needs = {key: NEEDS[key] for key in keys if key in NEEDS}
    return [
        f"{key} has no effect without {n}" for key, (n, has) in needs.items() if not has(config)
    ]
