"""Sweeps as a user types them: killed for real, and under every launcher."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TRAIN = str(Path(sys.executable).with_name("toyfcn-train"))
TINY = [
    *("data.train_images=12", "data.val_images=3", "data.test_images=5", "data.size=[48,56]"),
    *("data.batch_size=4", "model.width=0.5", "logger.every=1", "trainer.threads=1"),
]


def shell(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TRAIN, "-m", *TINY, *arguments], cwd=home, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    search = [
        *("sweep=optuna", "sweep.n_trials=6", "sweep.sampler=random", "sweep.name=s"),
        *("sweep.prune_after_trials=1", "trainer.max_steps=120", "trainer.val_every=10"),
        *("recipe.lr=tag(log, interval(0.0001, 0.1))", "model.stride=choice(4, 2)"),
    ]
    folder = tmp_path / "outputs/sweeps/s"
    process = subprocess.Popen(
        [TRAIN, "-m", *TINY, *search],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    history = folder / "2/history.csv"
    while process.poll() is None:
        if history.exists() and len(history.read_text().splitlines()) >= 3:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "3").exists()
    made = {job: (folder / job).stat().st_ino for job in "012"}
    before = json.loads((folder / "sweep.json").read_text())["jobs"]

    answer = shell(tmp_path, *search)
    assert answer.returncode == 0, answer.stderr
    assert "job 2 continues from its last checkpoint" in answer.stdout
    jobs = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert jobs[:3] == before and [job["name"] for job in jobs] == list("012345")
    assert {job: (folder / job).stat().st_ino for job in "012"} == made
    states = [json.loads((folder / job / "run.json").read_text())["status"] for job in "012345"]
    assert set(states) == {"finished", "pruned"}
    steps = [int(line.split(",")[0]) for line in history.read_text().splitlines()[1:]]
    assert steps == list(range(10, steps[-1] + 1, 10))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs the same grid of four jobs under a launcher; returns its table without the times."""
    home = tmp_path_factory.mktemp("launchers")

    def run(launcher: str) -> list[dict[str, str]]:
        answer = shell(
            home,
            *(f"launcher={launcher}", "recipe.lr=0.05,0.01", "model.stride=4,2"),
            *("trainer.max_steps=6", "trainer.val_every=3", f"sweep.name={launcher}"),
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        table = (home / "outputs/sweeps" / launcher / "results.csv").open()
        rows = list(csv.DictReader(table))
        for row in rows:
            del row["seconds"]
        return rows

    table = run("basic")
    assert len(table) == 4 and len({row["val.loss"] for row in table}) == 4
    return run, table


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_the_table_is_the_same_under_every_launcher(launcher: str, grid: Any) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    run, table = grid
    assert run(launcher) == table
