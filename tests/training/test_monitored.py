"""The figure that tells the best validation: optimized_metric's, in checkpoints, patience, trials.

Validations give planted figures, so that loss, mean IU and boundary IU disagree about the best one.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from toyfcn.cli.compose import compose_train
from toyfcn.evaluation.scorer import Scorer
from toyfcn.runs.history import read_history
from toyfcn.runs.run import Run
from toyfcn.training.run import train

FIGURES = {  # of the validations after 1, 2, 3 and 4 steps
    "miou": [0.5, 0.4, 0.3, 0.2],
    "loss": [2.0, 1.0, 1.5, 3.0],
    "boundary_miou": [0.1, 0.2, 0.3, 0.1],
    "mean_acc": [0.1, 0.1, 0.1, 0.6],
}
TINY = (
    *("data.train_images=4", "data.val_images=1", "data.test_images=1", "data.size=[48,48]"),
    *("data.batch_size=1", "model.width=0.25", "trainer.max_steps=4", "trainer.val_every=1"),
    *("logger.panels=0", "trainer.accelerator=cpu"),
)


class Trial:
    """Stands in for a search's trial, and keeps what is reported to it."""

    def __init__(self) -> None:
        self.reported: list[float] = []

    def hopeless(self, step: int, value: float) -> bool:
        self.reported.append(value)
        return False


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_thread: None) -> Any:
    monkeypatch.chdir(tmp_path)
    compute = Scorer.compute
    counted: list[int] = []

    def planted(self: Scorer) -> dict[str, Any]:
        found = compute(self)
        if self.test_views == 1 and len(counted) < 4:  # the scorings at the end are real
            number = len(counted)
            found |= {k: v[number] for k, v in FIGURES.items() if k in found}
            counted.append(number)
        return found

    monkeypatch.setattr(Scorer, "compute", planted)

    def start(*words: str) -> tuple[Path, Trial]:
        trial, chosen = Trial(), (*TINY, *words)
        counted.clear()
        train(compose_train(chosen), Run(tmp_path / "run", chosen, pruner=trial))
        return tmp_path / "run", trial

    return start


@pytest.mark.parametrize(
    ("metric", "step", "reported"),
    [
        ("val.miou", 1, FIGURES["miou"]),
        ("val.loss", 2, FIGURES["loss"]),
        ("test.loss", 2, FIGURES["loss"]),  # the test split is not looked at meanwhile
        ("val.boundary_miou", 3, FIGURES["boundary_miou"]),
        ("val.mean_acc", 4, FIGURES["mean_acc"]),
    ],
)
def test_the_best_is_the_best_by_the_metric(
    trained: Any, metric: str, step: int, reported: list[float]
) -> None:
    folder, trial = trained(f"optimized_metric={metric}")
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == step
    assert trial.reported == reported
    history = read_history(folder / "history.csv")
    assert [row[f"val_{metric.partition('.')[2]}"] for row in history] == reported


def test_patience_goes_by_the_metric_and_the_steps_are_told(
    trained: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        folder, _ = trained(
            "optimized_metric=val.loss", "trainer.patience=1", "resume=auto", "recipe.clip=1"
        )
    assert "trained 3 steps" in caplog.text  # the best loss is that of the second validation
    assert json.loads((folder / "run.json").read_text())["steps"] == 3
    events = EventAccumulator(str(folder / "tensorboard"), {"tensors": 0})
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    row = HParamsPluginData.FromString(content).session_start_info.hparams
    assert "resume" not in row and row["recipe.clip"].number_value == 1
    assert events.Scalars("with_best/val_miou")[0].step == 3
