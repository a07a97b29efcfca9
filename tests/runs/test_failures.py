"""What happens to real runs: full and read-only disks, files that vanish, workers that die."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from killer import same_end, start

from toyfcn.data.collate import Batch
from toyfcn.runs import failures
from toyfcn.training.nonfinite_loss import FiniteLoss

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes and mounts of Linux")

WORDS = """
    data.train_images=14 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.3 trainer.max_steps=240 trainer.val_every=20 trainer.threads=1 logger.panels=0
    trainer.accelerator=cpu
    """
RUN = WORDS.split()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run was left alone: its folder is calm/run, its data calm/data."""
    home = tmp_path_factory.mktemp("calm")
    process = start(home, *RUN, "hydra.run.dir=run")
    process.join()
    assert process.exitcode == 0, told(home)
    return home


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {answer.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def told(home: Path) -> str:
    return (home / "log").read_text()


def wait_for(home: Path, words: str, process: Any) -> None:
    until = time.monotonic() + 100
    while words not in (told(home) if (home / "log").exists() else ""):
        assert process.is_alive() and time.monotonic() < until, told(home)
        time.sleep(0.01)


def last_line(home: Path, process: Any) -> str:
    """The one line that a run ended with; no traceback came before it."""
    process.join(100)
    assert process.exitcode == 2 and "Traceback" not in told(home), told(home)
    return told(home).splitlines()[-1]


def goes_on(home: Path, run: Path, calm: Path) -> None:
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0
    process = start(home, f"resume={run}")
    process.join(100)
    assert process.exitcode == 0, told(home)
    same_end(run, calm / "run")


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["go_on", "stop"])
def test_disk_full(tmp_path: Path, disk: Path, calm: Path, choice: str) -> None:
    options = [f"trainer.save_failed={choice}", f"data.root={calm}/data/shapes"]
    process = start(tmp_path, *RUN, *options, f"hydra.run.dir={disk}/run")
    wait_for(tmp_path, "step 40/240", process)
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    sentence = "checkpoints could not be saved into: No space left on device"
    if choice == "stop":
        assert sentence in last_line(tmp_path, process)
        (disk / "filler").unlink()
        goes_on(tmp_path, disk / "run", calm)
        return
    wait_for(tmp_path, f"{sentence}; the checkpoint before stays, the run goes on", process)
    torch.load(disk / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    (disk / "filler").unlink()
    process.join(100)
    assert process.exitcode == 0 and "Traceback" not in told(tmp_path), told(tmp_path)
    metrics = [(f / "metrics.json").read_text() for f in (disk / "run", calm / "run")]
    assert metrics[0] == metrics[1]


def test_read_only_folder(tmp_path: Path, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = last_line(tmp_path, start(tmp_path, *RUN, f"hydra.run.dir={disk}/run"))
    assert f"{disk}/run" in line and "Read-only file system" in line


@pytest.mark.slow
def test_a_photo_vanishes_and_breaks(tmp_path: Path, calm: Path) -> None:
    shutil.copytree(calm / "data", tmp_path / "data")
    photos = sorted((tmp_path / "data").rglob("*.jpg"))
    for harm, place in ((Path.unlink, "run"), (lambda p: p.write_bytes(b"no photo"), "resumed")):
        options = [*RUN, "hydra.run.dir=run"] if place == "run" else ["resume=run"]
        process = start(tmp_path, *options, f"data.workers={int(place == 'run')}")
        wait_for(tmp_path, "step 40/240" if place == "run" else "resuming at", process)
        kept = {photo: photo.read_bytes() for photo in photos}
        for photo in photos:
            harm(photo)
        line = last_line(tmp_path, process)
        assert re.match(r"toyfcn-train: .*\.jpg", line), line
        for photo, content in kept.items():
            photo.write_bytes(content)
    goes_on(tmp_path, tmp_path / "run", calm)


@pytest.mark.slow
def test_a_worker_is_killed(tmp_path: Path, calm: Path) -> None:
    shutil.copytree(calm / "data", tmp_path / "data")
    process = start(tmp_path, *RUN, "hydra.run.dir=run", "data.workers=1")
    wait_for(tmp_path, "step 20/240", process)
    for worker in psutil.Process(process.pid).children():
        os.kill(worker.pid, signal.SIGKILL)
    line = last_line(tmp_path, process)
    assert "a loader worker ended unasked" in line and "data.workers" in line
    goes_on(tmp_path, tmp_path / "run", calm)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory: lower data.batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory: lower data.batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of mem"),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "), "worker ended"),
        (RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly"), "worker ended"),
        (OSError(28, "No space left on device", "a/b"), "a/b cannot be written: No space"),
        (FileExistsError(17, "File exists", "a"), "a cannot be written: File exists"),
        (NotADirectoryError(20, "Not a directory", "a/b"), "a/b cannot be written: Not a dir"),
        (IsADirectoryError(21, "Is a directory", "a"), "a cannot be written: Is a directory"),
        (RuntimeError("shapes differ"), None),
        (OSError(2, "No such file", "x"), None),
    ],
)
def test_faults_are_told_in_one_line(error: Exception, words: str | None) -> None:
    line = failures.told(error)
    assert (line is None) == (words is None)
    assert words is None or words in str(line)


def test_a_workers_error_is_its_last_line() -> None:
    text = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback …\nValueError: x.jpg"
    )
    assert str(failures.told(ValueError(text))) == "x.jpg"


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    process = start(tmp_path, *RUN, "hydra.run.dir=run", "recipe.optimizer=sgd", "recipe.lr=1e30")
    line = last_line(tmp_path, process)
    assert re.search(r"the loss is (nan|inf) at step \d+ \(lr .*images .*recipe\.lr", line), line
    batch = torch.load(tmp_path / "run" / "nonfinite.pt", weights_only=True)
    assert batch["image"].shape[0] == len(batch["id"]) and f"step {batch['step']} " in line


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_loss_is_looked_at_two_steps_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trainer:
        global_step = 0
        optimizers = (torch.optim.SGD([torch.zeros(1)], lr=0.5),)

    look, seen = FiniteLoss(tmp_path), 0
    trainer: Any = Trainer()
    task: Any = None
    for value in (1.0, float("nan"), 1.0, 1.0):
        batch: Batch = {"image": torch.zeros(1), "mask": torch.zeros(1), "id": [f"n{seen}"]}
        look.on_train_batch_start(trainer, task, batch, 0)
        if seen == 3:
            with pytest.raises(ValueError, match=r"nan at step 2 .*images n1"):
                look.on_before_backward(trainer, task, torch.tensor(value, device="cuda"))
            return
        look.on_before_backward(trainer, task, torch.tensor(value, device="cuda"))
        seen, Trainer.global_step = seen + 1, seen + 1
