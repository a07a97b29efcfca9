"""The learning-rate range test: what it suggests, and that nothing is trained beside it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from toyfcn.training.lr_range import LRRange

WORDS = """
    data.train_images=8 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.25 trainer.threads=1 trainer.accelerator=cpu debug=lr hydra.run.dir=run
    """


def test_the_steepest_fall_is_suggested() -> None:
    lrs = list(np.geomspace(1e-6, 1, 61))
    fall = [1 / (1 + np.exp(4 * (np.log10(lr) + 3))) for lr in lrs]  # steepest at 1e-3
    found = LRRange(lrs, fall, fall).suggestion()
    assert found == pytest.approx(1e-3, rel=0.01)
    assert LRRange(lrs, fall[::-1], fall[::-1]).suggestion() is None
    assert LRRange(lrs[:2], fall[:2], fall[:2]).suggestion() is None


@pytest.mark.parametrize("recipe", ["muon", "finetune"])
def test_debug_lr_plots_and_suggests(train: Command, recipe: str) -> None:
    answer = train(*WORDS.split(), f"recipe={recipe}", "trainer.max_steps=40")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(Path("run/lr_range.csv").read_text().splitlines()))
    lrs = [float(row["lr"]) for row in rows]
    assert 10 < len(rows) <= 40
    assert lrs == pytest.approx([1e-6 * 1e6 ** (step / 39) for step in range(len(lrs))], rel=1e-5)
    assert "suggestion:   recipe.lr=" in answer.out
    suggested = float(answer.out.partition("recipe.lr=")[2].split()[0])
    assert 1e-6 < suggested < 1
    assert Image.open("run/lr_range.png").width == 900
    assert not Path("run/checkpoints").exists() and not Path("run/metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trainer.lr_range=[1,0.1]", "trainer.lr_range=[1.0, 0.1] is not a range [low,high]"),
        ("trainer.precision=bf16-mixed", "trainer.lr_range needs trainer.precision=32-true and a"),
    ],
)
def test_mistakes_are_told_in_a_line(train: Command, words: str, told: str) -> None:
    answer = train(*WORDS.split(), words)
    assert answer.code == 2 and told in answer.err, answer.err
