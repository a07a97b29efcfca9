"""Grids and searches: who runs, in which folder, and what a second start does.

The training is a stand-in that writes what a real one leaves; tests/e2e trains for real.
"""

import fcntl
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from toyfcn.commands import train
from toyfcn.files import write_json
from toyfcn.report.results import collect
from toyfcn.runs.run import Pruned, Run
from toyfcn.sweep import run as sweep
from toyfcn.sweep.search import open_study
from toyfcn.training import run as training

GRID = ["-m", "recipe.lr=0.01,0.001", "seed=0,1", "sweep.name=s"]
SEARCH = [
    "-m",
    "sweep=optuna",
    "sweep.n_trials=6",
    "sweep.sampler=random",
    "recipe.lr=tag(log, interval(0.001, 0.1))",
    "model.stride=choice(4, 2)",
    "sweep.name=s",
]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Trained:
    """Stands in for the training: what it was asked for, and what shall go wrong."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.resumed: set[str] = set()
        self.wrong: Callable[[Any], BaseException | None] = lambda config: None

    def __call__(self, config: Any, run: Run, record: Any, *rest: Any) -> dict[str, Any]:
        self.asked.append((run.folder.name, config))
        self.resumed |= {run.folder.name} if run.resumed else set()
        if error := self.wrong(config):
            raise error
        score = config.recipe.lr + config.seed / 100
        for step in (1, 2):
            if run.pruner and run.pruner.hopeless(step, score):
                raise Pruned("hopeless")
        metrics = {"val": {"miou": score}, "test": None}
        write_json(run.metrics, metrics)
        record.update("finished")
        return metrics


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    stand_in = Trained()
    monkeypatch.setattr(training, "fit_and_score", stand_in)
    return stand_in


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report out, but in the first test."""
    if "loses_no_other" not in request.node.name:
        monkeypatch.setattr(sweep, "report", lambda folder: None)


@pytest.fixture
def command(
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., Answer]:
    """Runs toyfcn-train in this process and a folder of its own; forgets what was asked before."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["toyfcn-train", *arguments])
        capsys.readouterr()
        trained.asked.clear()
        try:
            train.main()
        except SystemExit as stop:
            return Answer(int(stop.code or 0), *capsys.readouterr())
        return Answer(0, *capsys.readouterr())

    return start


def status(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["status"])


@pytest.mark.slow
def test_a_failing_job_loses_no_other_and_alone_runs_again(
    command: Any, trained: Trained, tmp_path: Path
) -> None:
    trained.wrong = lambda config: (
        RuntimeError("planted") if (config.recipe.lr, config.seed) == (0.01, 1) else None
    )
    first = command(*GRID)
    assert first.code == 1
    assert "1 of 4 jobs failed: 1 (job 1: RuntimeError: planted)" in first.err
    folder = tmp_path / "outputs/sweeps/s"
    assert [status(folder / job) for job in "0123"] == ["finished", "failed", *["finished"] * 2]
    lines = (folder / "results.csv").read_text().splitlines()
    assert sum("finished" in line for line in lines) == 3
    assert sum("failed" in line and "planted" in line for line in lines) == 1
    assert "planted" in (folder / "1/train.log").read_text()

    trained.wrong = lambda config: None
    again = command(*GRID)
    assert again.code == 0, again.err
    assert [name for name, _ in trained.asked] == ["1"]
    assert status(folder / "1") == "finished"
    assert "planted" in (folder / "earlier/1.1/train.log").read_text()  # what had gone wrong
    assert command(*GRID).code == 0
    assert trained.asked == []


def test_a_half_done_job_continues_and_the_order_of_arguments_is_free(
    command: Any, trained: Trained, tmp_path: Path
) -> None:
    assert command(*GRID).code == 0
    folder = tmp_path / "outputs/sweeps/s"
    scores = {job: json.loads((folder / job / "metrics.json").read_text()) for job in "0123"}
    for job in "12":  # as SIGKILL leaves them
        (folder / job / "run.json").write_text('{"status": "running"}')
        (folder / job / "metrics.json").unlink()
    (folder / "2/checkpoints").mkdir()
    (folder / "2/checkpoints/last.ckpt").touch()
    assert command("-m", "seed=0,1", "sweep.name=s", "recipe.lr=0.01,0.001").code == 0
    assert [name for name, _ in trained.asked] == ["1", "2"]
    assert trained.resumed == {"2"}
    for job in "0123":
        assert json.loads((folder / job / "metrics.json").read_text()) == scores[job]


def test_another_search_space_is_refused(command: Any, trained: Trained) -> None:
    lr, seed = GRID[1:3]
    assert command(*GRID).code == 0
    for change, words in (
        (["recipe.lr=0.01,0.002", seed], "recipe.lr was 0.01,0.001 there and is 0.01,0.002"),
        ([lr], "seed was 0,1 there and is not given now"),
        ([lr, seed, "model.stride=2"], "model.stride was not given"),
    ):
        answer = command("-m", "sweep.name=s", *change)
        assert answer.code == 2 and words in answer.err and answer.err.count("\n") == 1
        assert trained.asked == []


def test_what_else_is_refused(command: Any, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "outputs/sweeps/s"
    assert "add sweep=optuna" in command("-m", "recipe.lr=interval(0,1)").err
    assert "nothing to search" in command("-m", "sweep=optuna").err
    assert "did you mean recipe.lr" in command("-m", "recipe.lrr=1,2").err
    assert not list(tmp_path.glob("outputs/sweeps/*"))
    assert "did you mean recipe.lr" in command("-m", "sweep=optuna", "recipe.lrr=interval(0,1)").err
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another process is running" in command(*GRID).err
    (folder / "0").mkdir()
    assert "holds no sweep" in command(*GRID).err
    assert trained.asked == []


def test_the_space_may_be_in_a_file(command: Any, trained: Trained, tmp_path: Path) -> None:
    answer = command("-m", "sweep.space=['recipe.lr=0.01,0.02', 'seed=3']", "seed=4")
    assert answer.code == 0, answer.err
    assert [(c.recipe.lr, c.seed) for _, c in trained.asked] == [(0.01, 4), (0.02, 4)]


@pytest.mark.slow
def test_a_search_killed_in_the_third_trial_ends_with_six(
    command: Any, trained: Trained, tmp_path: Path
) -> None:
    def drawn() -> list[tuple[str, float, int]]:
        return [(name, c.recipe.lr, c.model.stride) for name, c in trained.asked]

    assert command(*SEARCH[:-1], "sweep.name=whole").code == 0
    whole = drawn()
    assert [name for name, _, _ in whole] == list("012345")
    assert all(0.001 <= lr <= 0.1 for _, lr, _ in whole) and len({lr for _, lr, _ in whole}) == 6

    trained.wrong = lambda config: SystemExit(137) if config.sweep.trial == 2 else None
    assert command(*SEARCH).code == 137
    before = drawn()
    trained.wrong = lambda config: None
    assert command(*SEARCH).code == 0
    after = drawn()
    assert before[2] == after[0]  # the same trial, in the same folder
    assert [*before[:2], *after] == whole  # and nobody can tell that it was killed
    study = open_study(tmp_path / "outputs/sweeps/s")
    assert [trial.number for trial in study.trials] == list(range(6))
    assert all(trial.state.is_finished() for trial in study.trials)
    assert command(*SEARCH, "sweep.n_trials=7").code == 0
    assert [name for name, _, _ in drawn()] == ["6"]


@pytest.mark.parametrize(("metric", "best"), [("val.loss", "0"), ("val.miou", "1")])
def test_a_loss_is_minimized(
    command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metric: str, best: str
) -> None:
    """Losses are 0.1 and 0.2 here, and mean IU the same."""

    def trained(config: Any, run: Run, record: Any, *rest: Any) -> dict[str, Any]:
        found = dict.fromkeys(("miou", "loss"), config.recipe.lr)
        write_json(run.metrics, metrics := {"val": found, "test": None})
        record.update("finished")
        return metrics

    monkeypatch.setattr(training, "fit_and_score", trained)
    words = ("-m", "sweep=optuna", "recipe.lr=0.1,0.2", "sweep.sampler=grid", "sweep.n_trials=2")
    assert command(*words, f"optimized_metric={metric}", "hydra.sweep.dir=s").code == 0
    lr = {"0": "0.1", "1": "0.2"}[best]
    assert open_study(tmp_path / "s").best_trial.params == {"recipe.lr": lr}
    ranked = collect(tmp_path / "s").runs
    assert ranked[0].parameters == {"recipe.lr": lr}


@pytest.mark.slow
def test_hopeless_trials_are_pruned(command: Any, trained: Trained, tmp_path: Path) -> None:
    space = ["recipe.lr=choice(0.5, 0.1, 0.2, 0.3)", "sweep.sampler=grid", "sweep.name=s"]
    answer = command("-m", "sweep=optuna", "sweep.prune_after_trials=1", *space)
    assert answer.code == 0, answer.err
    folder = tmp_path / "outputs/sweeps/s"
    seen: list[float] = []  # the scores of finished trials: a worse one than their median is pruned
    for name, config in trained.asked:
        lr = config.recipe.lr
        expected = "pruned" if seen and lr < statistics.median(seen) else "finished"
        assert status(folder / name) == expected
        if expected == "finished":
            seen.append(lr)
    # 20 trials were asked for, the grid has only four
    assert sorted(c.recipe.lr for _, c in trained.asked) == [0.1, 0.2, 0.3, 0.5]
    assert "pruned" in {status(folder / name) for name, _ in trained.asked}
    best = open_study(folder).best_trial
    assert best.value == 0.5 and best.params == {"recipe.lr": "0.5"}


@pytest.mark.slow
def test_a_failed_trial_is_tried_again_with_the_same_parameters(
    command: Any, trained: Trained, tmp_path: Path
) -> None:
    trained.wrong = lambda config: ValueError("planted") if config.sweep.trial == 1 else None
    answer = command(*SEARCH, "sweep.n_trials=3")
    assert answer.code == 1 and "1 of 3 jobs failed: 1" in answer.err
    assert [name for name, _ in trained.asked] == ["0", "1", "2"]
    asked = trained.asked[1][1].recipe.lr
    trained.wrong = lambda config: None
    assert command(*SEARCH, "sweep.n_trials=3").code == 0
    assert [(name, c.recipe.lr) for name, c in trained.asked] == [("1", asked)]


def test_a_job_is_told_which_file_is_wrong(command: Any, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nrecipe: {clip: -1}\n")
    words = ("--config-dir", ".", "experiment=mine", "-m", "seed=0,1")  # flags stand anywhere
    answer = command(*words, "sweep.name=s")
    assert answer.code == 1
    assert "(job 0: in experiment/mine.yaml: recipe.clip=-1.0 is below 0)" in answer.err
    answer = command(*words, "recipe.clip=1,-2", "sweep.name=t")
    assert answer.code == 1 and "2 of 4 jobs failed" in answer.err
    assert "(job 1: recipe.clip=-2.0 is below 0)" in answer.err


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm", "ray"])
def test_a_launcher_without_a_sweep_is_told_what_is_missing(command: Any, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    answer = command(f"launcher={launcher}")
    assert answer.code == 2
    assert answer.err.startswith(f"toyfcn-train: launcher={launcher} starts the jobs of a sweep")
    assert answer.err.count("\n") == 1 and "add -m" in answer.err


def test_a_sweep_of_one_job_is_one(command: Any, trained: Trained) -> None:
    assert command("-m", "recipe.lr=0.01").code == 0
    assert [name for name, _ in trained.asked] == ["0"]


@pytest.mark.parametrize("method", ["grid", "optuna"])
def test_texts_of_a_sweep_are_those_that_were_typed(
    command: Any, trained: Trained, tmp_path: Path, method: str
) -> None:
    words = [f"sweep={method}", *(["sweep.sampler=grid"] if method == "optuna" else [])]
    space = "sweep.space=['data.name=1.10,007']"
    answer = command("-m", *words, space, "hydra.sweep.dir=2024_11")
    assert answer.code == 0, answer.err
    assert {config.data.name for _, config in trained.asked} == {"1.10", "007"}
    jobs = json.loads((tmp_path / "2024_11/sweep.json").read_text())["jobs"]
    assert {job["parameters"]["data.name"] for job in jobs} == {"1.10", "007"}
