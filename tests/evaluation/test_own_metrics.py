"""Further figures, of torchmetrics and of the user's own, in every place where figures stand."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from killer import curves
from torch import Tensor

import toyfcn
from toyfcn.config.target import names_of
from toyfcn.config.trainer import ScoringConfig
from toyfcn.evaluation.own_metrics import OwnMetrics

MODULE = """
import torch

class Share:
    # of the pixels that are given to one class; it knows nothing of torchmetrics
    def __init__(self, label=0):
        self.label = label
        self.reset()

    def reset(self):
        self.hits = self.pixels = 0

    def update(self, preds, target):
        assert preds.ndim == 1 and preds.dtype == target.dtype == torch.int64
        self.hits += int((preds == self.label).sum())
        self.pixels += len(target)

    def compute(self):
        return self.hits / self.pixels

class Map(Share):
    def compute(self):
        return torch.zeros(2, 2)

class miou(Share):
    pass

def text():
    return "no metric"
"""
F1 = "torchmetrics.classification:MulticlassF1Score"
JACCARD = "torchmetrics.classification:MulticlassJaccardIndex"
CLASSES, VOID = ("a", "b", "c"), 255
SMALL = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=2
    model.width=0.25 trainer.max_steps=4 trainer.val_every=2 trainer.threads=1 logger.every=1
    trainer.accelerator=cpu logger.panels=0
    """
WORDS = SMALL.split()
METRICS = f"trainer.metrics=[{F1},{{target: {JACCARD}, args: {{average: null}}}},mymetrics:Share]"


@pytest.fixture(autouse=True)
def mymetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mymetrics", raising=False)
    Path("mymetrics.py").write_text(MODULE)


def maps(number: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of target (with void) and prediction."""
    rng = np.random.default_rng(number)
    found = []
    for height in (5, 8):
        target = rng.integers(0, 3, (2, height, 7)).astype(np.uint8)
        target[rng.random(target.shape) < 0.3] = VOID
        prediction = rng.integers(0, 3, target.shape).astype(np.uint8)
        found.append((torch.from_numpy(target), torch.from_numpy(prediction)))
    return found


def test_figures_without_void_worked_out_by_hand() -> None:
    """F1 is 2·TP / (2·TP + FP + FN), averaged over the classes."""
    listed = [F1, {"target": JACCARD, "args": {"average": None}}, "mymetrics:Share"]
    metrics = OwnMetrics(listed, CLASSES, VOID)
    for number in (1, 2):  # the second time from zero
        metrics.reset(torch.device("cpu"))
        batches = maps(number)
        for target, prediction in batches:
            metrics.update(target, prediction)
        all_targets, all_labels = (
            np.concatenate([part.numpy().ravel() for part in parts])
            for parts in zip(*batches, strict=True)
        )
        kept = all_targets != VOID
        truth, given = all_targets[kept], all_labels[kept]
        hits = [int(((truth == c) & (given == c)).sum()) for c in range(3)]
        either = [int((truth == c).sum() + (given == c).sum()) for c in range(3)]
        found = metrics.compute()
        f1 = [2 * h / e for h, e in zip(hits, either, strict=True)]
        assert found["MulticlassF1Score"] == pytest.approx(sum(f1) / 3)
        ious = [h / (e - h) for h, e in zip(hits, either, strict=True)]
        assert [*found["MulticlassJaccardIndex"].values()] == pytest.approx(ious)
        assert [*found["MulticlassJaccardIndex"]] == [*CLASSES]
        assert found["Share"] == pytest.approx((given == 0).mean())


def test_a_mask_of_void_alone_and_no_metric_at_all() -> None:
    target = torch.full((1, 4, 4), VOID, dtype=torch.uint8)
    metrics = OwnMetrics(["mymetrics:Share"], CLASSES, VOID)
    metrics.reset(torch.device("cpu"))
    metrics.update(target, torch.zeros_like(target))  # nothing to update it with
    assert OwnMetrics([], CLASSES, VOID).compute() == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trainer.metrics=[mymetrics:Shar]", "mymetrics has no Shar: did you mean Share"),
        ("trainer.metrics=[mymetrics:text]", "makes a str without update()"),
        ("trainer.metrics=[mymetrics:Map]", "it computes a Tensor (2, 2): a number, one for"),
        ("trainer.metrics=[mymetrics:miou]", "miou is a figure already: rename yours"),
        ("trainer.metrics=[torchmetrics.classification:BinaryF1Score]", "fails on labels 0 to 6"),
        ("trainer.metrics=[{target: mymetrics:Share, args: {lable: 1}}]", "(it takes label)"),
        (f"optimized_metric=val.{F1.rpartition(':')[2]}", "is no figure of metrics.json"),
        (
            f"trainer.metrics=[{{target: {JACCARD}, args: {{average: null}}}}]; "
            "optimized_metric=val.MulticlassJaccardIndex",
            "MulticlassJaccardIndex is no single figure",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(train: Command, words: str, told: str) -> None:
    answer = train(*WORDS, *words.split("; "), "hydra.run.dir=run")
    assert answer.code == 2 and told in answer.err, answer.err
    assert answer.err.count("\n") == 1


def test_they_stand_where_figures_do(train: Command, command: Command, tmp_path: Path) -> None:
    best = "optimized_metric=val.MulticlassF1Score"
    answer = train(*WORDS, METRICS, best, "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    metrics = json.loads(Path("run/metrics.json").read_text())
    for split in ("val", "test"):
        assert metrics[split]["MulticlassJaccardIndex"].keys() == metrics[split]["iou"].keys()
        given = metrics[split]["MulticlassJaccardIndex"]["background"]
        assert given == pytest.approx(metrics[split]["iou"]["background"])  # ours, with void out
        assert 0 < metrics[split]["Share"] <= 1
    shown = f"{metrics['test']['MulticlassF1Score']:.3f}"
    assert any("MulticlassF1Score" in line and shown in line for line in answer.out.splitlines())
    points = curves(tmp_path / "run")
    assert [step for step, _ in points["val/MulticlassF1Score"]] == [2, 4]
    assert len(points["val_MulticlassJaccardIndex/ring"]) == 2
    assert points["with_best/val_Share"][0][1] == pytest.approx(metrics["val"]["Share"])
    ckpt = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    f1 = [value for _, value in points["val/MulticlassF1Score"]]
    assert ckpt["toyfcn_run"]["score"] == pytest.approx(max(f1))
    # scored again, which takes the code from the command line, not from the checkpoint
    words = ["ckpt=run/checkpoints/best.ckpt", "trainer.accelerator=cpu", "trainer.threads=1"]
    answer = command("eval", *words, METRICS, "split=test", "hydra.run.dir=again")
    assert answer.code == 0 and "MulticlassF1Score" in answer.out, answer.err
    assert json.loads(Path("again/metrics.json").read_text())["test"] == metrics["test"]
    answer = command("compare", "of=[run,run]", METRICS)
    assert answer.code == 2 and "trainer.metrics has no effect here" in answer.err
    found = toyfcn.evaluate("run/checkpoints/best.ckpt", trainer=ScoringConfig(metrics=[F1]))
    assert found["MulticlassF1Score"] == metrics["val"]["MulticlassF1Score"]


@pytest.mark.slow
def test_a_sweep_looks_at_one(train: Command, command: Command, tmp_path: Path) -> None:
    words = ["trainer.metrics=[mymetrics:Share]", "optimized_metric=val.Share"]
    words += ["sweep.direction=minimize", "recipe.lr=0.1,0.001", "hydra.sweep.dir=sweep"]
    assert train("-m", *WORDS, *words).code == 0
    with Path("sweep/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    shares: list[Any] = [float(row["val.Share"]) for row in rows]
    assert shares == sorted(shares) and len(shares) == 2


def test_names() -> None:
    listed = ["a:C_2", "a:b.C", "d:C", {"target": "e:C_2"}, "f:D"]
    assert names_of(listed) == ["C_2", "C", "C_3", "C_2_2", "D"]
