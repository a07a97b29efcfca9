"""What a run promises, tried with every model, recipe and option that there is.

A run that is stopped and continued ends as one left alone, bit for bit, with any number of loader
workers; so does one that is repeated; its checkpoint is scored again to the same figures, and
labels a photo. The choices are read from conf/ and from the typed options: what is added there is
in this matrix at once, and an option whose values cannot be known must be given one in ``VALUES``.
"""

import dataclasses
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from killer import same_end
from pytorch_lightning import Callback

import toyfcn
from toyfcn.cli import CONF
from toyfcn.config.data import ShapesConfig
from toyfcn.config.model import NOT_OF, STRIDES, TORCHVISION, ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.trainer import LoggerConfig, TrainerConfig
from toyfcn.runs.resume import stored_config

# 10 images in batches of 4: an epoch has 3 steps, its last batch is smaller
WORDS = """
    data.train_images=10 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.1 trainer.max_steps=6 trainer.val_every=2 logger.every=1 logger.panels=1
    trainer.threads=1 trainer.accelerator=cpu
    """
SMALL = WORDS.split()
GROUPS = {
    "data": ShapesConfig,
    "model": ModelConfig,
    "recipe": RecipeConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
}
VALUES = {  # of the options that are numbers, lists or texts; beside some, what they need
    "data.limit": "8",
    "data.train_fraction": "0.5",
    "data.workers": "1",
    "data.crop": "[40,32]",
    "data.buckets": "2",
    "data.scale": "[0.5,1.5]",
    "data.max_share": "0.7 data.crop=[40,32]",
    "data.flip": "0",
    "data.colour": "0.3",
    "data.transform": "test_promises:Jitter",
    "data.transform_args": "{strength:40} data.transform=test_promises:Jitter",
    "data.show_bands": "[2,1,0]",
    "data.merge": "{round:[disc,ring],void:[star]}",
    "data.folds": "3",
    "data.fold": "1 data.folds=3",
    "data.val_split": "null optimized_metric=test.miou",
    "data.test_split": "null",
    "model.maps": "[4,6,8,10]",
    "model.short_side": "40",
    "model.last_learned": "false",
    "model.dropout": "0.2",
    "model.backbone": "resnet10t",
    "model.pad": "16",
    "recipe.lr": "0.001",
    "recipe.backbone_lr_factor": "0.1",
    "recipe.momentum": "0.5",
    "recipe.loss_args": "{gamma:1.5} recipe.loss=focal recipe.class_weights=sqrt",
    "recipe.optimizer_args": "{betas:[0.8,0.99]} recipe.optimizer=RAdam",
    "recipe.schedule_args": "{power:0.9} recipe.schedule=PolynomialLR",
    "recipe.adam_lr_factor": "0.5 recipe.optimizer=muon",
    "recipe.weight_decay": "0.1",
    "recipe.bias_lr_factor": "2",
    "recipe.warmup": "0.5",
    "recipe.class_weights": "sqrt",
    "recipe.sample": "0.3",
    "recipe.clip": "0.1",
    "recipe.average": "0.7",
    "recipe.freeze_steps": "3 recipe.freeze=trunk",
    "recipe.pretrain_steps": "2",
    "recipe.pretrain_patches": "8 recipe.pretrain_steps=2",
    "trainer.max_epochs": "2",
    "trainer.test_views": "2",
    "trainer.patience": "1",
    "trainer.keep_mb": "0",
    "trainer.save_every": "1",
    "trainer.metrics": "[torchmetrics.classification:MulticlassF1Score]",
    "trainer.callbacks": "[test_promises:Counter]",
    "trainer.extra": "{num_sanity_val_steps:1,gradient_clip_algorithm:value} recipe.clip=0.1",
    "logger.every": "2",
    "logger.panels": "0",
    "logger.to": "[csv,tensorboard]",
}
SAME_FOR_ALL = {  # names and places, what SMALL sets, and what a test of its own covers
    *("data.name", "data.kind", "data.root", "data.cache_folder", "data.train_split"),
    *(
        "data.batch_size",
        "data.train_images",
        "data.val_images",
        "data.test_images",
        "data.world_seed",
    ),
    *("data.size", "data.allow_overlap", "data.channels"),
    *("model.name", "model.width", "model.weights", "model.target", "model.args", "recipe.name"),
    *("trainer.accelerator", "trainer.devices", "trainer.nodes", "trainer.sync_batchnorm"),
    *("trainer.max_steps", "trainer.val_every", "trainer.threads", "trainer.progress"),
    *("trainer.compile", "trainer.tf32", "trainer.profile", "trainer.save_failed"),
    *("logger.project", "logger.offline", "logger.uri"),
    "trainer.lr_range",  # nothing is trained
}
ALSO = {
    "data.cache=features": "recipe.freeze=backbone data.augment=false",
    "trainer.precision=bf16-mixed": "recipe.clip=1",
    "recipe.reduction=sum": "recipe.lr=1e-6",
}


def values(group: str, item: "dataclasses.Field[Any]") -> list[str]:
    """All values of an option that are not its default, with what they need."""
    key = f"{group}.{item.name}"
    if key in SAME_FOR_ALL:
        return []
    if key in VALUES:
        return [f"{key}={VALUES[key]}"]
    choices = item.metadata["choices"]
    if isinstance(item.default, bool):
        choices = (False, True)
    assert choices, f"{key} is new: give it a value in VALUES, so that its promises are tested"
    found = [f"{key}={choice}" for choice in choices if choice != item.default]
    return [f"{word} {ALSO.get(word, '')}".strip() for word in found]


def options() -> list[str]:
    """Every option's every value, as the command line takes it."""
    found = []
    for group, kind in GROUPS.items():
        for item in dataclasses.fields(typing.cast(Any, kind)):
            if (group, item.name) != ("model", "stride"):
                found += values(group, item)
    for name, strides in STRIDES.items():
        found += [f"model={name} model.stride={stride}" for stride in strides]
    found += [f"model=fcn_torchvision model.backbone={name}" for name in TORCHVISION]
    return [f"{of_model(word)}{word}" for word in found]


def of_model(word: str) -> str:
    """Return the choice of a network that has the option in it, unless it is the default one."""
    name = word.split("=")[0].removeprefix("model.")
    missing = [model for model in STRIDES if name in NOT_OF[model]]
    if not word.startswith("model.") or "fcn_lenet" not in missing:
        return ""
    model = next(model for model in STRIDES if model not in missing)
    return f"model={model} " + ("model.stride=16 " if name == "at_once" else "")


MODELS = [f"model={path.stem}" for path in sorted((CONF / "model").glob("*.yaml"))]
RECIPES = [f"recipe={path.stem}" for path in sorted((CONF / "recipe").glob("*.yaml"))]
QUICK = [*MODELS, *RECIPES]
SLOW = [f"{model} {recipe}" for model in MODELS for recipe in RECIPES] + options()
CELLS = [*QUICK, *(pytest.param(words, marks=pytest.mark.slow) for words in SLOW)]


class Custom(torch.nn.Module):
    """A network of the user's own."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        conv = torch.nn.Conv2d(3, 6, 3, 2, 1)
        self.layers = torch.nn.Sequential(conv, torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.drop, self.scores = torch.nn.Dropout(0.2), torch.nn.Conv2d(6, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scores(self.drop(self.layers(x)))
        return scores


class Jitter:
    """An augmentation of the user's own."""

    def __init__(self, strength: int = 20) -> None:
        self.strength = strength

    def __call__(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shift = int(torch.randint(self.strength, ())) + int(np.random.randint(3))
        return (image.int() + shift).clamp(0, 255).byte(), mask


class Counter(Callback):
    """A callback of the user's own, with a state that the training depends on."""

    steps = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.steps += 1
        with torch.no_grad():
            next(pl_module.parameters()).mul_(1 - 0.01 * self.steps)

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.steps = state_dict["steps"]


@pytest.mark.parametrize("words", CELLS)
def test_promises(
    train: Command, tmp_path: Path, stop_at: Callable[[int], None], words: str
) -> None:
    trust: list[str] = []
    small = [word for word in SMALL if word.split("=")[0] not in words]
    given = [*small, *words.split()]
    if "model=fcn_timm" in words or "model=fcn_torchvision" in words:
        given = [word for word in given if not word.startswith("model.width")]
        if "model=fcn_timm" in words and "backbone" not in words:
            given.append("model.backbone=test_resnet.r160_in1k")
    if "test_promises:" in words:
        trust = ["test_promises"]
    if "model=custom" in words:
        given = [word for word in given if not word.startswith("model.width")]
        given.append("model.target=test_promises:Custom")
    if any("test_promises:" in word or "torchmetrics." in word for word in given):
        trust = ["test_promises", "torchmetrics"]
    if words.startswith("recipe=paper"):
        given.append("recipe.lr=1e-8")  # its own are for VGG's strides
    # left alone
    answer = train(*given, "hydra.run.dir=whole")
    assert answer.code == 0, answer.err
    # stopped in its third step and continued, with another number of workers
    stop_at(2)
    assert train(*given, "hydra.run.dir=run").code == 143
    answer = train("resume=run", "data.workers=1", *(f"trust={trust}" for _ in trust[:1]))
    assert answer.code == 0, answer.err
    same_end(tmp_path / "run", tmp_path / "whole")
    # repeated
    answer = train("rerun=whole", "hydra.run.dir=again", *(f"trust={trust}" for _ in trust[:1]))
    assert answer.code == 0 and "the same, bit for bit" in answer.out, answer.out + answer.err
    # scored again, and used
    best = tmp_path / "whole" / "checkpoints" / "best.ckpt"
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    trainer = stored_config(tmp_path / "whole", trust=trust).trainer
    for split in [name for name, figures in metrics.items() if figures is not None]:
        assert metrics[split] == toyfcn.evaluate(best, split, None, trainer, trust)
    photo = np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)
    assert toyfcn.load(best, trust=trust).predict(photo).shape == (50, 61)
