"""Stages: runs that follow each other, trained for real on a few shapes."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command

from toyfcn.report import plots
from toyfcn.sweep.jobs import Job
from toyfcn.sweep.stages import in_stages, read_stages
from toyfcn.training.task import SegmentationTask

LADDER = """data.train_images=8 data.val_images=3 data.test_split=null data.size=[48,56]
    data.batch_size=4 trainer.threads=1 trainer.accelerator=cpu trainer.max_steps=3
    trainer.val_every=3 model.maps=[4,4,8,8] logger.panels=0 seed=1
    """
STAGES = "sweep.stages=['recipe.lr=0.02','model.stride=2 recipe.lr=0']"


def weights(sweep: Path, job: int) -> dict[str, torch.Tensor]:
    path = sweep / str(job) / "checkpoints/best.ckpt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


@pytest.fixture
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_all", lambda *_: {})


@pytest.mark.slow
@pytest.mark.usefixtures("_no_plots")
def test_a_stopped_ladder_goes_on(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SegmentationTask.training_step

    def stopped(task: Any, *given: Any) -> Any:
        if len(task.net.heads) == 2 and task.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(task, *given)

    monkeypatch.setattr(SegmentationTask, "training_step", stopped)
    words = ("-m", *LADDER.split(), STAGES, "hydra.sweep.dir=ladder")
    assert train(*words).code == 128 + signal.SIGTERM
    ladder = tmp_path / "ladder"
    assert {path.name for path in ladder.glob("[0-9]")} == {"0", "1"}
    kept = (ladder / "0/metrics.json").stat().st_mtime_ns
    monkeypatch.setattr(SegmentationTask, "training_step", step)
    answer = train(*words)
    assert answer.code == 0, answer.err
    assert "resuming at step 2" in (ladder / "1/train.log").read_text()
    assert (ladder / "0/metrics.json").stat().st_mtime_ns == kept
    assert json.loads((ladder / "1/run.json").read_text())["steps"] == 3

    first = next(k for k, w in weights(ladder, 0).items() if w.ndim == 4 and len(w) > 1)
    former, second = (weights(ladder, job)[first] for job in range(2))
    assert torch.equal(former, second)  # its learning rate is 0
    with (ladder / "results.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert rows["1"]["stage"] == "2 from 1: model.stride=2 recipe.lr=0"
    assert "| boundary IU | pixel acc | time |" in (ladder / "results.md").read_text()


def test_each_seed_has_its_own_ladder(tmp_path: Path) -> None:
    stages = read_stages(
        ["model.stride=4", "model.stride=2 recipe.lr=1", "ckpt=null"], {"seed", "recipe.lr"}
    )
    jobs = [Job(str(seed), (f"seed={seed}",), {"seed": str(seed)}) for seed in range(3)]
    first, second, third = in_stages(jobs, stages, tmp_path)
    assert [job.name for job in [*first, *second]] == list("012345")
    assert [job.former for job in second] == list("012")
    job = second[1]
    assert job.overrides[:2] == ("model.stride=2", "seed=1")  # the command line's rate is kept
    assert f"ckpt='{tmp_path}/1/checkpoints/best.ckpt'" in job.overrides
    assert job.parameters == {"seed": "1", "stage": "2 from 1: model.stride=2"}
    assert third[1] == Job("7", ("ckpt=null", "seed=1"), {"seed": "1", "stage": "3"})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep.stages=['model.stride=4,2']"], "one value each"),
        (["sweep.stages=['seed=1']", "sweep=optuna", "recipe.lr=1,2"], "with sweep=grid alone"),
        (["sweep.stages=['model.strid=2']"], "did you mean model.stride"),
    ],
)
def test_what_is_no_ladder_is_refused(train: Command, words: list[str], told: str) -> None:
    answer = train("-m", *words)
    assert answer.code == 2 and told in answer.err and answer.err.count("\n") == 1


def test_a_stage_waits_for_one_that_failed(train: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toyfcn.sweep.run.report", lambda _: None)
    stages = "sweep.stages=['recipe.clip=-1','seed=1']"
    answer = train("-m", stages, "hydra.sweep.dir=ladder")
    assert answer.code == 1 and "2 of 2 jobs failed: 0, 1 (job 0: recipe.clip=-1.0" in answer.err
    assert "job 1 has to wait for job 0" in answer.out + answer.err
    assert not Path("ladder/1").exists()
