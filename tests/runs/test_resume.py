"""A run that is stopped and continued ends as one that was left alone, bit for bit."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from conftest import Command
from killer import kill_at_random, same_end, start

from toyfcn.runs.resume import resolve, stored_config
from toyfcn.runs.run import Run
from toyfcn.training import pretrain
from toyfcn.training import run as training
from toyfcn.training.task import SegmentationTask

# 14 images in batches of 4: an epoch has 4 steps, its last batch is smaller; validations at 3, 6, …
WORDS = """
    data.train_images=14 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.3 trainer.max_steps=12 trainer.val_every=3 logger.every=1 logger.panels=1
    trainer.threads=1 trainer.accelerator=cpu
    """
RUN = WORDS.split()


def signal_all(number: int) -> None:
    """Send a signal to this process and its loader workers, as Ctrl+C and SLURM do."""
    for worker in multiprocessing.active_children():
        if worker.pid is not None:
            os.kill(worker.pid, number)
    os.kill(os.getpid(), number)


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends this process a signal in the middle of a step, or of the validation after it."""

    def arm(step: int, where: str = "training_step", number: int = signal.SIGTERM) -> None:
        work = getattr(SegmentationTask, where)

        def striking(task: SegmentationTask, *given: Any) -> Any:
            if task.global_step == step and task.trainer.state.fn == "fit":
                setattr(SegmentationTask, where, work)
                signal_all(number)
            return work(task, *given)

        monkeypatch.setattr(SegmentationTask, where, striking)

    return arm


@pytest.fixture
def stopped(train: Command, tmp_path: Path, stop_at: Callable[..., None]) -> Path:
    """The folder of a run that a signal has ended in its fifth step."""
    stop_at(4)
    assert train(*RUN, "hydra.run.dir=run").code == 143
    return tmp_path / "run"


VARIANTS = {
    "plain": [],
    "average": ["recipe.average=0.7", "trainer.patience=1"],
    "last": ["trainer.val_every=5"],  # validations at 5, 10 and 12, the last step
    "uniform": ["data.sampling=uniform", "data.crop=[40,40]", "recipe.optimizer=sgd"],
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "variant",
    ["average", "last", *(pytest.param(v, marks=SLOW) for v in ("plain", "uniform"))],
)
def test_stopped_at_any_step(
    train: Command, tmp_path: Path, stop_at: Callable[..., None], variant: str
) -> None:
    options = [*RUN, *VARIANTS[variant]]
    answer = train(*options, "hydra.run.dir=whole")
    assert answer.code == 0, answer.err
    end = json.loads((tmp_path / "whole" / "run.json").read_text())["steps"]
    assert end == (6 if variant == "average" else 12)
    stops = [(0, "training_step"), (1, "training_step"), (3, "validation_step")]
    stops += [(4, "training_step"), (6, "validation_step")]
    if variant != "average":  # that one stops early
        stops += [(7, "training_step")]
    if variant == "last":
        stops = [(5, "validation_step"), (9, "training_step"), (11, "training_step")]
        stops += [(12, "validation_step")]
    # stopped at one step after the other, each time with other workers
    for number, (step, where) in enumerate(stops):
        stop_at(step, where)
        first = [*options, "hydra.run.dir=run"]
        begun = ["resume=run", f"data.workers={2 * (number == 4)}"]
        answer = train(*(begun if number else first))
        assert answer.code == 143, answer.err
        assert f"resume={tmp_path / 'run'}" in answer.err
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert run["status"] == "interrupted"
        place = torch.load("run/checkpoints/last.ckpt", weights_only=True)["toyfcn_run"]
        assert place["step"] == step + (where == "training_step")
    answer = train("resume=run")
    assert answer.code == 0, answer.err
    same_end(tmp_path / "run", tmp_path / "whole")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "finished" and len(run["resumed"]) == len(stops)


def test_another_machine_is_warned_of(train: Command, stopped: Path) -> None:
    record = json.loads((stopped / "run.json").read_text())
    record["hardware"]["gpus"] = ["a GPU"]
    record["versions"]["torch"] = "2.0"
    (stopped / "run.json").write_text(json.dumps(record))
    answer = train("resume=run")
    assert answer.code == 0, answer.err
    told = [line for line in answer.out.splitlines() if "the numbers may differ" in line]
    assert len(told) == 2 and "hardware.gpus was ['a GPU'], is []" in told[0], answer.out
    assert "versions.torch was 2.0, is" in told[1]


def test_it_goes_on_from_the_layout_of_another_device(
    train: Command, stopped: Path, tmp_path: Path
) -> None:
    """Filters of VGG lie otherwise on a GPU; a fused AdamW reads its numbers as they lie."""
    last = stopped / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    changed = 0
    for kept in content["optimizer_states"][0]["state"].values():
        for key, value in kept.items():
            kept[key] = value.contiguous()
            changed += kept[key].stride() != value.stride()
    assert changed  # here, LeNet's are in channels_last
    torch.save(content, last)
    assert train("resume=run").code == 0
    assert train(*RUN, "hydra.run.dir=calm").code == 0
    ends = [torch.load(tmp_path / run / "checkpoints/last.ckpt") for run in ("run", "calm")]
    for name, weight in ends[1]["state_dict"].items():
        assert torch.equal(ends[0]["state_dict"][name], weight), name


def test_submitit_requeues_what_has_been_saved(
    train: Command, tmp_path: Path, stop_at: Callable[..., None]
) -> None:
    """Its warning is SIGUSR2, and its handler exits at once: it is called when all is saved."""
    saved: list[int] = []

    def requeue(number: int, frame: object) -> None:
        run = json.loads(Path("run/run.json").read_text())
        assert run["status"] == "interrupted"
        saved.append(torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"])
        sys.exit(77)

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        stop_at(4, number=signal.SIGUSR2)
        assert train(*RUN, "hydra.run.dir=run").code == 77 and saved == [5]
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_submitit_requeues_what_was_being_scored(
    train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or read, or pretrained: where nothing is saved the run ends at once, and is requeued too."""

    def requeue(number: int, frame: object) -> None:
        sys.exit(77)

    scored, before = training.score_best, signal.signal(signal.SIGUSR2, requeue)

    def warned(*given: Any) -> Any:
        monkeypatch.setattr(training, "score_best", scored)
        os.kill(os.getpid(), signal.SIGUSR2)
        return scored(*given)

    monkeypatch.setattr(training, "score_best", warned)
    try:
        assert train(*RUN, "hydra.run.dir=run").code == 77
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    assert train("resume=run").code == 0


def test_no_worker_is_left_where_a_validation_is(
    train: Command, stop_at: Callable[..., None]
) -> None:
    """One that is would be waited for without end, since it passes over the first SIGTERM."""
    stop_at(3, "validation_step")
    answer = train(*RUN, "data.val_images=5", "data.workers=1", "hydra.run.dir=run")
    assert answer.code == 143 and "step 3/12" not in answer.out, answer.err
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=SLOW), signal.SIGTERM])
def test_stopped_while_pretraining(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nothing of it is kept: the run begins anew, and ends as one that was left alone."""
    options, steps = [*RUN, "recipe.pretrain_steps=6", "data.workers=2"], []
    cut = pretrain.cut

    def striking(*given: Any) -> Any:
        steps.append(given)
        if len(steps) == 4:
            signal_all(number)
        return cut(*given)

    monkeypatch.setattr(pretrain, "cut", striking)
    answer = train(*options, "hydra.run.dir=run")
    assert answer.code == 128 + number and len(steps) == 4
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith(f"toyfcn-train: stopped by {signal.Signals(number).name}; resume")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "run" / "checkpoints").exists()
    answer = train("resume=run")
    assert answer.code == 0 and len(steps) == 4 + 6, answer.err
    assert train(*options, "hydra.run.dir=calm").code == 0
    same_end(tmp_path / "run", tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid gives a run its terminal")
@pytest.mark.parametrize("nohup", [[], ["nohup"]], ids=["terminal", "nohup"])
def test_the_terminal_closes(train: Command, tmp_path: Path, nohup: list[str]) -> None:
    """All its processes get SIGHUP, and nothing can be printed any more."""
    steps = ["data.workers=2", "trainer.max_steps=300", "trainer.val_every=150"]
    command = [Path(sys.executable).parent / "toyfcn-train", *RUN, *steps, "hydra.run.dir=run"]
    master, terminal = os.openpty()
    words = ["setsid", "--ctty", *nohup, *command]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests' own nohup
    ) as process:
        os.close(terminal)
        os.set_blocking(master, False)
        validated, deadline = tmp_path / "run" / "history.csv", time.monotonic() + 120
        while not validated.exists() and process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # nothing printed yet; or all of it, into nohup.out
                os.read(master, 1 << 16)
            time.sleep(0.05)
        os.close(master)
        code = process.wait(timeout=120)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    if nohup:
        assert (code, record["status"]) == (0, "finished"), record
        return
    assert (code, record["status"]) == (129, "interrupted"), record
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 150 <= saved["global_step"] < 300
    assert train("resume=run").code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="forkserver with preloaded libraries")
@pytest.mark.parametrize(
    ("kills", "terms", "steps"),
    [(1, 0, 20), pytest.param(20, 10, 600, marks=SLOW)],
)
def test_killed_at_random_moments(tmp_path: Path, kills: int, terms: int, steps: int) -> None:
    print(kill_at_random(tmp_path, kills, terms, seed=kills, steps=steps))


@pytest.mark.skipif(sys.platform != "linux", reason="forkserver with preloaded libraries")
def test_killed_between_last_and_best(train: Command, tmp_path: Path) -> None:
    options = [*RUN, "trainer.max_steps=3"]
    process = start(
        tmp_path, *options, "hydra.run.dir=run", deadly="toyfcn.runs.checkpointing.atomic_copy"
    )
    process.join()
    assert process.exitcode == -signal.SIGKILL
    checkpoints = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]
    answer = train("resume=run")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert train(*options, "hydra.run.dir=calm").code == 0
    same_end(tmp_path / "run", tmp_path / "calm")


@pytest.mark.skipif(sys.platform != "linux", reason="environments of processes are read")
# Python's own choice up to 3.13, and since
@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_killed_run_leaves_no_process(tmp_path: Path, method: str) -> None:
    """Neither a loader worker nor the server that forked it."""
    code = (
        f"import multiprocessing; multiprocessing.set_start_method('{method}'); "
        "from toyfcn.commands.train import main; main()"
    )
    command = [sys.executable, "-c", code, *RUN]
    command += ["data.workers=2", "trainer.max_steps=6000", "hydra.run.dir=run"]

    def left() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("MARK") == str(tmp_path):
                    found.append(process)
        return found

    log = tmp_path / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | {"MARK": str(tmp_path)}, stdout=file
        ) as process,
    ):
        while "step 3/" not in log.read_text() and process.poll() is None:
            time.sleep(0.1)
        assert len(left()) >= 3, log.read_text()
        process.kill()
    deadline = time.monotonic() + 30
    while left() and time.monotonic() < deadline:
        time.sleep(0.2)
    remaining = left()
    for lost in remaining:
        lost.kill()
    assert not remaining


def test_no_run_replaces_another(train: Command, tmp_path: Path, stopped: Path) -> None:
    """Neither one to go on with, nor one that has finished."""
    config = (stopped / ".hydra" / "config.yaml").read_bytes()
    answer = train(*RUN, "seed=3", "hydra.run.dir=run")
    assert answer.code == 2 and "run holds another run's checkpoints: continue with" in answer.err
    assert train("resume=run").code == 0
    answer = train(*RUN, "hydra.run.dir=run")
    assert answer.code == 2 and "checkpoints: choose another hydra.run.dir" in answer.err
    assert (stopped / ".hydra" / "config.yaml").read_bytes() == config


def test_a_folder_with_letters_of_any_language(train: Command, tmp_path: Path) -> None:
    assert train(*RUN, "trainer.max_steps=1", "hydra.run.dir=Größe/é").code == 0
    assert (tmp_path / "Größe" / "é" / "metrics.json").is_file()


def test_resume_auto_finds_the_unfinished_run(
    train: Command, tmp_path: Path, stop_at: Callable[..., None]
) -> None:
    stop_at(4, number=signal.SIGINT)
    assert train(*RUN, "resume=auto").code == 130
    (run,) = (tmp_path / "outputs" / "train" / "shapes-fcn_lenet").iterdir()
    config = (run / ".hydra" / "config.yaml").read_bytes()
    other = train(*RUN, "resume=auto", "seed=1", "trainer.max_steps=3")
    assert other.code == 0, other.err
    assert len(list(run.parent.iterdir())) == 2
    answer = train(*RUN, "resume=auto", "data.workers=1")
    assert answer.code == 0 and "resuming at step 5" in answer.out, answer.err
    assert len(list(run.parent.iterdir())) == 2
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], len(record["resumed"])) == ("finished", 1)
    assert (run / ".hydra" / "config.yaml").read_bytes() == config
    answer = train(f"resume={run}")
    assert answer.code == 0 and "has finished already" in answer.out


@SLOW
def test_a_job_of_a_sweep_goes_on_in_its_folder(
    train: Command, tmp_path: Path, stop_at: Callable[..., None]
) -> None:
    stop_at(4)
    options = [*RUN, "seed=3,4", "hydra.sweep.dir=sweep", "resume=auto"]
    assert train("-m", *options).code == 143
    assert not (tmp_path / "sweep" / "1").exists()  # the sweep stopped too
    answer = train("-m", *options)
    assert answer.code == 0 and "resuming at step 5" in answer.out, answer.err
    for job, sessions in (("0", 1), ("1", 0)):
        record = json.loads((tmp_path / "sweep" / job / "run.json").read_text())
        assert record["status"] == "finished"
        assert len(record.get("resumed", [])) == sessions
    assert train(*RUN, "seed=3", "hydra.run.dir=calm").code == 0
    same_end(tmp_path / "sweep" / "0", tmp_path / "calm")


def test_what_cannot_go_on_is_refused_in_one_line(train: Command, stopped: Path) -> None:
    last = stopped / "checkpoints" / "last.ckpt"
    sound = torch.load(last, weights_only=True)

    def refused(*words: str, options: tuple[str, ...] = ("resume=run",)) -> None:
        answer = train(*options)
        assert answer.code == 2, answer.out
        assert answer.err.startswith("toyfcn-train: ") and answer.err.count("\n") == 1
        assert all(word in answer.err for word in words), answer.err

    refused("recipe.lr=1 cannot be set beside resume=run", options=("resume=run", "recipe.lr=1"))
    refused("nowhere is not the folder of a run", options=("resume=nowhere",))
    place = sound["toyfcn_run"]
    for change, words in [
        ({"toyfcn_run": None}, "was not written by a toyfcn-train that can resume"),
        ({"toyfcn_run": place | {"version": 0}}, "has version 0"),
        ({"toyfcn_run": place | {"step": 99}}, "damaged: step 99 of 12"),
        ({"toyfcn_run": place | {"ids": "?"}}, "other photos"),
        (
            {"toyfcn_run": place | {"config": place["config"] | {"recipe.lr": 3}}},
            "was trained with recipe.lr=3, but the config says 0.01",
        ),
        ({"optimizer_states": []}, "is damaged"),
        ({"state_dict": {}}, "is damaged"),
        ({"callbacks": {"Monitor": {"images": "many"}}}, "is damaged"),
    ]:
        torch.save(sound | change, last)
        refused("last.ckpt", words)
    last.write_bytes(last.read_bytes()[:-5000])
    refused("last.ckpt", "cannot be read safely")


@pytest.mark.slow
def test_the_second_process_in_a_folder_is_refused(train: Command, stopped: Path) -> None:
    lock = stopped / ".hydra" / "lock"
    holder = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
    holder += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline()
        for options in (["resume=run"], [*RUN, "hydra.run.dir=run"]):
            answer = train(*options)
            assert answer.code == 2 and "run is in use by another process" in answer.err
        other.kill()
    assert train("resume=run").code == 0


def test_a_run_that_goes_on_knows_what_its_first_command_chose(stopped: Path) -> None:
    config, run = resolve(
        dataclasses.replace(stored_config(stopped), resume=str(stopped)),
        Run(stopped, ("data.workers=1",)),
    )
    assert (config.data.workers, run.resumed, run.overrides) == (1, True, tuple(RUN))
