"""What training starts from, what is frozen, and the warning of a collapse."""

import logging
from types import SimpleNamespace

import pytest
import torch

from toyfcn.config.commands import TrainConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.models.build import build_network
from toyfcn.models.lenet import PATCH
from toyfcn.runs.checkpoint import Checkpoint
from toyfcn.training.initial_weights import bring_weights
from toyfcn.training.optimizers import parameter_groups
from toyfcn.training.pretrain import cut
from toyfcn.training.task import SegmentationTask

METADATA = {"classes": ["background", "cat", "dog"], "void": 255}


def batch(height=40, width=50):
    """Photos whose colours tell their coordinates."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    mask = torch.randint(0, 3, (2, height, width), dtype=torch.uint8)
    image = torch.stack([image, image])
    image[1, 2] = 1
    return {"image": image, "mask": mask, "id": ["a", "b"]}


def test_patches_bear_the_label_of_their_centre():
    given = batch()
    given["mask"][:, ::2] = 255
    patches, labels = cut(given, 200, 255, torch.Generator().manual_seed(0))
    assert patches.shape == (200, 3, PATCH, PATCH)
    assert patches.dtype == torch.uint8
    for patch, label in zip(patches, labels, strict=True):
        row, column, photo = patch[:, 16, 16].tolist()
        assert label == given["mask"][photo, row, column] != 255
        assert patch[0, :, 0].tolist() == list(range(row - 16, row + 16))
        assert patch[1, 0].tolist() == list(range(column - 16, column + 16))
    tops = set(patches[:, 0, 0, 0].tolist())
    assert min(tops) <= 1 and max(tops) >= 7  # up to the ends of the photo, of 40 - 32 + 1 places


def test_patches_of_nothing_but_void_and_of_small_photos():
    given = batch()
    given["mask"][:] = 255
    patches, labels = cut(given, 5, 255, torch.Generator())
    assert len(patches) == len(labels) == 0
    with pytest.raises(ValueError, match=r"training sees 31x50: set data\.crop or model"):
        cut(batch(31), 5, 255, torch.Generator())


def task(**recipe):
    torch.manual_seed(0)
    net = build_network(ModelConfig(stride=2, width=0.5), 3)
    made = SegmentationTask(
        net, METADATA["classes"], RecipeConfig(schedule="constant", **recipe), total_steps=4
    )
    made.log = lambda *_, **__: None
    return made


def steps(made, count, monkeypatch):
    """Train by hand; return the names of the weights that moved in each step."""
    (optimizer,), _ = made.configure_optimizers()
    made.optimizers = lambda: optimizer
    moved = []
    for step in range(count):
        monkeypatch.setattr(type(made), "global_step", step)
        before = {name: p.detach().clone() for name, p in made.net.state_dict().items()}
        made.on_train_batch_start(batch(), step)
        optimizer.zero_grad()
        made.training_step(batch(), step).backward()
        optimizer.step()
        after = made.net.state_dict()
        moved.append({name for name in before if not before[name].equal(after[name])})
    return moved


@pytest.mark.parametrize(
    ("freeze", "freeze_steps", "frozen"), [("trunk", 2, 2), ("backbone", 2, 2), ("trunk", None, 4)]
)
def test_a_frozen_backbone_stays_as_it_is_and_learns_later(
    freeze, freeze_steps, frozen, monkeypatch
):
    made = task(freeze=freeze, freeze_steps=freeze_steps)
    for step, names in enumerate(steps(made, 4, monkeypatch)):
        learned = {name.partition(".")[0] for name in names}
        assert "heads" in learned
        assert ("trunk" in learned) is (step >= frozen)


@pytest.mark.parametrize("freeze_norm", [False, True])
@pytest.mark.parametrize("freeze_steps", [None, 1])
def test_frozen_norms_keep_their_statistics_and_learn_their_weights(
    freeze_norm, freeze_steps, monkeypatch
):
    freeze = {"freeze": "backbone", "freeze_steps": 1} if freeze_steps else {}
    made = task(freeze_norm=freeze_norm, **freeze)
    moved = set().union(*steps(made, 3, monkeypatch))
    statistics = {name for name in made.net.state_dict() if "running" in name}
    assert len(statistics) == 8
    assert moved & statistics == (set() if freeze_norm else statistics)
    assert {"trunk.c1_s2.2.weight", "trunk.c1_s2.2.bias"} <= moved  # of the norm


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_backbone_with_a_learning_rate_of_its_own(optimizer):
    recipe = RecipeConfig(lr=0.5, optimizer=optimizer, bias_lr_factor=2, weight_decay=0.1)
    net = build_network(ModelConfig(stride=2, norm="none"), 3)
    rates = []
    for factor in (1.0, 0.1):
        recipe.backbone_lr_factor = factor
        groups = parameter_groups(net, recipe)
        rates.append({id(p): group["lr"] for group in groups for p in group["params"]})
        assert sum(len(group["params"]) for group in groups) == len(rates[-1])
    for name, parameter in net.named_parameters():
        alike, apart = (rate[id(parameter)] for rate in rates)
        assert apart == pytest.approx(0.1 * alike if name.startswith("trunk.") else alike)
        plain = optimizer != "muon" or ("trunk" in name and parameter.ndim > 1)
        expected = 0.5 * (1 if plain else 0.2) * (2 if name.endswith("bias") else 1)
        assert alike == pytest.approx(expected)
    if optimizer != "muon":  # so that curves show the score layers' learning rate
        assert groups[0]["lr"] == 0.5


def test_collapse_is_told_once_with_class_and_share(caplog):
    made = task()
    one = torch.tensor([[5, 0, 995], [0, 0, 0], [0, 0, 9000]])  # nearly all dog
    varied = torch.tensor([[900, 0, 100], [0, 0, 0], [0, 0, 9000]])
    with caplog.at_level(logging.WARNING):
        for matrix in (one, one, varied, one, torch.diag(torch.tensor([7, 0, 0]))):
            made.warn_of_collapse(matrix)
    assert [record.getMessage() for record in caplog.records] == [
        "predictions have collapsed to one class: 99.9 % of the pixels are dog"
    ] * 2


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["background", "cat", "dog"], 0),
        (["background", "dog", "cat"], 1),
        (["b", "cat", "dog"], 1),
    ],
)
def test_a_checkpoint_of_other_classes_is_told(classes, told, caplog):
    config = TrainConfig(ckpt="best.ckpt", model=ModelConfig(stride=4, width=0.5))
    start = Checkpoint(build_network(config.model, 3), config.model, config.data, METADATA)
    data = SimpleNamespace(source=SimpleNamespace(classes=tuple(classes)))
    with caplog.at_level(logging.WARNING):
        bring_weights(config, build_network(config.model, 3), start, data)
    assert len(caplog.records) == told
    if told:
        label = 1 if classes[0] == "background" else 0
        before, now = METADATA["classes"][label], classes[label]
        assert f"label {label} is {before!r}, here it is {now!r}" in caplog.text
