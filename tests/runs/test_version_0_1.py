"""A run's folder and its checkpoints of version 0.1 still load, continue, repeat and predict.

The folders beside this file were written by that version (commit 5250ceb): one run that finished,
and one with the same options that SIGTERM stopped at its tenth step.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command

import toyfcn
from toyfcn.config.trainer import KEYS

HERE = Path(__file__).parent / "version_0_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Copies of both folders."""
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    return tmp_path


def weights(run: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    return dict(content["state_dict"])


def test_a_stopped_run_ends_as_the_one_that_finished(old: Path, train: Command) -> None:
    answer = train("resume=stopped")
    assert answer.code == 0 and "resuming at step 10" in answer.out, answer.err
    record = json.loads((old / "stopped" / "run.json").read_text())
    assert (record["status"], len(record["resumed"])) == ("finished", 1)
    resumed, finished = weights(old / "stopped"), weights(old / "finished")
    for name, weight in finished.items():  # to the bit only on the machine that wrote them
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-3, msg=name)
    found, wanted = (
        json.loads((old / run / "metrics.json").read_text()) for run in ("stopped", "finished")
    )
    assert found["val"].keys() == {*KEYS} >= wanted["val"].keys()
    assert found["test"]["loss"] == pytest.approx(wanted["test"]["loss"], abs=1e-2)


def test_a_finished_run_is_left_alone_and_can_be_repeated(old: Path, train: Command) -> None:
    answer = train("resume=finished")
    assert answer.code == 0 and "has finished already" in answer.out
    answer = train("rerun=finished", "hydra.run.dir=again")
    assert "repeats" in answer.out, answer.err  # bit for bit only on the machine that wrote it


def test_its_checkpoint_predicts_and_is_scored(old: Path, command: Command) -> None:
    predictor = toyfcn.load(old / "finished" / "checkpoints" / "best.ckpt")
    labels = predictor.predict(np.zeros((50, 70, 3), np.uint8))
    assert labels.shape == (50, 70) and predictor.classes[1] == "disc"
    answer = command("eval", "ckpt=finished/checkpoints/best.ckpt", "split=test")
    assert answer.code == 0, answer.err
    (folder,) = (old / "outputs" / "eval").iterdir()
    found = json.loads((folder / "metrics.json").read_text())["test"]
    wanted = json.loads((old / "finished" / "metrics.json").read_text())["test"]
    assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-4)
    assert found["images"] == wanted["images"]
