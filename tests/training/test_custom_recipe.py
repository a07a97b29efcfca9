"""Losses, optimizers and schedules other than toyfcn's own: a library's, or the user's."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from torch import Tensor, nn

from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.target import refuse_untrusted
from toyfcn.models.losses import CustomLoss
from toyfcn.training.lr_schedule import learning_rate_schedule
from toyfcn.training.optimizers import make_optimizer

MODULE = """
import torch
from torch import nn

def make(margin=1.0):
    def loss(scores, labels):
        assert scores.ndim == 2 and labels.ndim == 1  # the labeled pixels alone
        return nn.functional.multi_margin_loss(scores, labels, margin=margin)
    return loss

def map(ignore_index):
    return lambda scores, labels: nn.functional.cross_entropy(scores, labels, reduction="none",
                                                              ignore_index=ignore_index)

def fail():
    raise RuntimeError("no such luck")

class Signs(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if p.grad is None else p.grad.sign()
        return super().step(closure)
"""
WORDS = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=2
    model.width=0.1 trainer.max_steps=4 trainer.val_every=2 trainer.threads=1
    trainer.accelerator=cpu logger.panels=0 hydra.run.dir=run
    """


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder, which is imported anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MODULE)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 5, 7, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (2, 5, 7), generator=generator, dtype=torch.uint8)
    target[0, :2] = 255
    return scores, target


def loss_of(void: int = 255, weights: Tensor | None = None, **recipe: Any) -> CustomLoss:
    return CustomLoss(RecipeConfig(**recipe), void, weights)


def value(loss: CustomLoss, scores: Tensor, target: Tensor) -> float:
    total, count = loss(scores, target)
    assert count == (target != loss.void).sum()
    return (total / count).item()


def test_dice_jaccard_and_focal_agree_with_their_formulas() -> None:
    scores, target = batch()
    seen = target != 255
    p = scores.softmax(1).permute(1, 0, 2, 3)[:, seen]
    truth = F.one_hot(target[seen].long(), 3).T.float()
    dice = 1 - (2 * (p * truth).sum(1) / (p + truth).sum(1)).mean()
    assert value(loss_of(loss="dice"), scores, target) == pytest.approx(dice.item(), rel=1e-5)
    jaccard = 1 - ((p * truth).sum(1) / (p + truth - p * truth).sum(1)).mean()
    assert value(loss_of(loss="jaccard"), scores, target) == pytest.approx(jaccard.item(), rel=1e-5)
    # of each class against the rest, by a sigmoid
    s = scores.permute(1, 0, 2, 3)[:, seen]
    pt = torch.where(truth > 0, s.sigmoid(), 1 - s.sigmoid())
    focal = -((1 - pt) ** 1.5 * pt.log()).mean()
    found = value(loss_of(loss="focal", loss_args={"gamma": 1.5}), scores, target)
    assert found == pytest.approx(focal.item(), rel=1e-5)


def test_lovasz_of_one_wrong_pixel_is_that_classes_jaccard_loss() -> None:
    # hard scores: class 0 has 3 of 4 pixels right (IU 3/4), class 1 one right and one false (1/2)
    labels = torch.tensor([[[0, 0, 0, 0, 1]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 0, 0, 1, 1]]])
    scores = 100 * F.one_hot(predicted, 2).permute(0, 3, 1, 2).float()
    found = value(loss_of(loss="lovasz"), scores, labels)
    assert found == pytest.approx(1 - (3 / 4 + 1 / 2) / 2, abs=1e-5)


def test_torchs_cross_entropy_by_name_is_ours() -> None:
    scores, target = batch()
    weights = torch.tensor([0.5, 1, 2], dtype=torch.float64)
    loss = loss_of(loss="torch.nn:CrossEntropyLoss", weights=weights)
    wanted = F.cross_entropy(scores, target.long(), weights.float(), ignore_index=255)
    assert value(loss, scores, target) == pytest.approx(wanted.item(), rel=1e-6)
    nothing, count = loss(scores, torch.full_like(target, 255))
    assert (nothing.item(), count.item()) == (0, 0)
    torch.autograd.backward(nothing)


def test_a_loss_that_knows_no_void_sees_the_labeled_pixels_alone(mine: None) -> None:
    scores, target = batch()
    found = value(loss_of(loss="mine:make", loss_args={"margin": 0.5}), scores, target)
    seen = target != 255
    rows = scores.permute(0, 2, 3, 1)[seen]
    wanted = F.multi_margin_loss(rows, target[seen].long(), margin=0.5)
    assert found == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("None", "recipe.loss=losses:make returns None, which cannot be called"),
        ("lambda s, l: {}[0]", r"losses:make fails: KeyError: 0 \(losses.py, line 1\)"),
        ("lambda s, l: s.detach().sum()", "losses:make returns a number without a gradient"),
    ],
)
def test_what_is_no_loss(mine: None, monkeypatch: pytest.MonkeyPatch, made: str, told: str) -> None:
    monkeypatch.delitem(sys.modules, "losses", raising=False)
    Path("losses.py").write_text(f"def make(): return {made}")
    scores, target = batch()
    with pytest.raises(ValueError, match=told):
        CustomLoss(RecipeConfig(loss="losses:make"), 255, None)(scores.requires_grad_(), target)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "recipe.loss=mean",
            "recipe.loss=mean is none of cross_entropy, focal, dice, jaccard, lov",
        ),
        ("recipe.loss=mine:mak", "recipe.loss=mine:mak: mine has no mak: did you mean make or map"),
        ("recipe.loss=mine:make recipe.loss_args={gin:1}", "cannot be called: got an unexpected"),
        ("recipe.loss=mine:fail", "recipe.loss=mine:fail fails: RuntimeError: no such luck"),
        ("recipe.loss=mine:map", "recipe.loss=mine:map returns [2, 48, 48], not one number"),
        ("recipe.loss=mine:make recipe.class_weights=sqrt", "takes no class weights: set recipe.c"),
        ("recipe.loss_args={gamma:1}", "is not for recipe.loss=cross_entropy"),
        ("recipe.loss=dice recipe.reduction=sum", "recipe.reduction=sum is for recipe.loss=cross"),
        ("recipe.optimizer=adamww", "is none of adamw, sgd, muon, a class of torch.optim such as"),
        ("recipe.optimizer=RADam", "torch.optim has no RADam: did you mean RAdam"),
        (
            "recipe.optimizer=LBFGS",
            "fails: ValueError: LBFGS doesn't support per-parameter options",
        ),
        ("recipe.optimizer=mine:make", "cannot be called: got an unexpected keyword argument 'par"),
        ("recipe.optimizer=RAdam recipe.optimizer_args=3", "is not like {gamma: 1, deep: true}"),
        (
            "recipe.optimizer=RAdam recipe.optimizer_args={lr:1}",
            "optimizer_args: lr is set by reci",
        ),
        ("recipe.schedule=StepLR", "cannot be called: missing a required argument: 'step_size'"),
        ("recipe.schedule=ReduceLROnPlateau", "is no schedule by steps"),
    ],
)
def test_mistakes_are_told_in_a_line(mine: None, train: Command, words: str, told: str) -> None:
    answer = train(*WORDS.split(), *words.split())
    assert answer.code == 2 and told in answer.err, answer.err
    assert answer.err.count("\n") == 1


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def test_an_optimizer_of_torch_keeps_the_recipes_groups() -> None:
    recipe = RecipeConfig(optimizer="RAdam", optimizer_args={"betas": [0.8, 0.99]}, lr=0.1)
    made = make_optimizer(network(), recipe)
    assert isinstance(made, torch.optim.RAdam)
    assert [group["weight_decay"] for group in made.param_groups] == [0.01, 0, 0]
    assert {tuple(group["betas"]) for group in made.param_groups} == {(0.8, 0.99)}


def test_a_fused_optimizer_that_clips_in_mixed_precision_is_told() -> None:
    recipe = RecipeConfig(lr=0.1, optimizer="Adam", optimizer_args={"fused": True})
    make_optimizer(nn.Conv2d(3, 2, 1), recipe)
    with pytest.raises(ValueError, match=r"Adam is fused, and .* leave fused out"):
        make_optimizer(nn.Conv2d(3, 2, 1), recipe, fused=False)


def test_a_schedule_of_torch_is_given_the_steps() -> None:
    optimizer = make_optimizer(network(), RecipeConfig(optimizer="sgd", lr=2))
    recipe = RecipeConfig(schedule="PolynomialLR", schedule_args={"power": 0.9})
    schedule, seen = learning_rate_schedule(optimizer, recipe, 10), []
    for _ in range(10):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([2 * (1 - step / 10) ** 0.9 for step in range(10)])
    cosine = learning_rate_schedule(optimizer, RecipeConfig(schedule="CosineAnnealingLR"), 7)
    assert isinstance(cosine, torch.optim.lr_scheduler.CosineAnnealingLR) and cosine.T_max == 7


def test_all_three_of_ones_own_train_and_are_trusted_again(mine: None, train: Command) -> None:
    words = ["recipe.loss=mine:make", "recipe.optimizer=mine:Signs", "recipe.lr=0.001"]
    answer = train(*WORDS.split(), *words, "recipe.momentum=0.3")
    assert answer.code == 0, answer.err
    assert "recipe.momentum has no effect without recipe.optimizer=adamw or sgd" in answer.out
    answer = train("rerun=run", "hydra.run.dir=again")
    assert answer.code == 2 and "wants to run code of yours or of others, mine:make" in answer.err
    answer = train("rerun=run", "trust=[mine]", "hydra.run.dir=again")
    assert answer.code == 0 and "the same, bit for bit" in answer.out, answer.err


def test_each_of_them_needs_trust() -> None:
    for key in ("loss", "optimizer", "schedule"):
        recipe = RecipeConfig(**{key: "os:system"})
        with pytest.raises(ValueError, match=r"x wants to run code .* os:system: .*trust=.os."):
            refuse_untrusted(recipe, ["mine"], "x")
    refuse_untrusted(RecipeConfig(loss="dice", optimizer="RAdam"), [], "x")


def test_the_steps_of_ones_own_optimizer_are_its_own(mine: None) -> None:
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    made = make_optimizer(net, RecipeConfig(optimizer="mine:Signs", lr=0.1, weight_decay=0))
    torch.autograd.backward((net(torch.ones(2, 3, 4, 4)) ** 2).sum())
    made.step()
    for old, new in zip(before, net.parameters(), strict=True):
        assert torch.allclose((old - new).abs()[(old - new) != 0], torch.tensor(0.1), atol=1e-6)
    assert math.isfinite(sum(float(p.sum()) for p in net.parameters()))
