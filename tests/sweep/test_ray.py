"""A ray cluster of two nodes, started here: a worker that is killed costs no result."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("hydra_plugins.hydra_ray_launcher")
pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
WORDS = """
    data.train_images=12 data.val_images=3 data.test_images=5 data.size=[48,56] data.batch_size=4
    model.width=0.5 trainer.threads=1 trainer.accelerator=cpu trainer.max_steps=80
    trainer.val_every=20 logger.panels=0 launcher=ray sweep.name=s
    """
SWEEP = [str(BIN / "toyfcn-train"), "-m", *WORDS.split(), "recipe.lr=0.01,0.02", "seed=0,1,2,3"]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Starts a head and a second node, with a CPU each."""
    address = f"127.0.0.1:{free_port()}"
    port = address.partition(":")[2]
    head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # on every node, and for the sweep
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        for words in (head, [f"--address={address}"]):
            command = [BIN / "ray", "start", *words, "--num-cpus=1", "--disable-usage-stats"]
            done = subprocess.run(
                command, check=False, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        monkeypatch.setenv("RAY_ADDRESS", address)
        yield
    finally:
        subprocess.run([BIN / "ray", "stop", "--force"], check=False, capture_output=True)


def statuses(sweep: Path) -> list[str]:
    found = []
    for path in sorted(sweep.glob("[0-9]/run.json")):
        found.append(str(json.loads(path.read_text())["status"]))
    return found


def busy_worker(run: Path) -> int:
    """Return the process that has a run's lock open."""
    for process in psutil.process_iter(["cmdline"]):
        try:
            if any(run in Path(file.path).parents for file in process.open_files()):
                return process.pid
        except psutil.Error:
            continue
    raise AssertionError(f"nobody works in {run}")


def test_a_worker_is_killed_and_the_sweep_goes_on(cluster: None, tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(SWEEP, cwd=tmp_path, stdout=log, stderr=log)
        end = time.monotonic() + 300
        while statuses(sweep)[:3].count("finished") < 2 or "running" not in statuses(sweep):
            assert first.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.1)
        running = next(
            path for path in sorted(sweep.glob("[0-9]")) if "running" in statuses_of(path)
        )
        os.kill(busy_worker(running), signal.SIGKILL)
        code = first.wait(300)
    told = (tmp_path / "log").read_text()
    done = [path.parent for path in sweep.glob("[0-9]/metrics.json")]
    assert code in (0, 1), told
    assert len(done) >= 2, told
    times = {path: (path / "metrics.json").stat().st_mtime_ns for path in done}
    again = subprocess.run(SWEEP, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert statuses(sweep) == ["finished"] * 8
    assert {path: (path / "metrics.json").stat().st_mtime_ns for path in done} == times
    with (sweep / "results.csv").open() as table:
        assert len(list(csv.DictReader(table))) == 8


def statuses_of(run: Path) -> str:
    try:
        return str(json.loads((run / "run.json").read_text())["status"])
    except (OSError, ValueError):
        return "none"
