"""A run that is stopped and continued ends as one that was left alone, bit for bit."""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from toyfcn import train
from toyfcn.task import SegmentationTask

# 14 images in batches of 4: an epoch has 4 steps and a small last batch; validations at 3, 6, 9, 12
WORDS = """
    data.train_images=14 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.3 trainer.max_steps=12 trainer.val_every=3 logger.every=1 logger.panels=1
    trainer.threads=1 trainer.accelerator=cpu
    """
RUN = WORDS.split()


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    one_thread: None,
) -> Command:
    """Runs toyfcn-train in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["toyfcn-train", *arguments])
        capsys.readouterr()
        code = 0
        try:
            train.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    """All that training has changed: weights, averages, optimizer, lr schedule, best so far."""
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
    parts = {key: content.get(key) for key in keys}
    lr = content["lr_schedulers"], content["toyfcn_run"]["score"]
    stop = [v for k, v in content["callbacks"].items() if k.startswith("EarlyStopping")]
    return parts | {"lr": lr, "stop": stop}


def equal(left: Any, right: Any) -> bool:
    """Whether two nests of tensors and plain values are the same to the last bit."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    events.Reload()
    tags = events.Tags()["scalars"]
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}
    for tag in events.Tags()["images"]:
        found[tag] = [(e.step, float(len(e.encoded_image_string))) for e in events.Images(tag)]
    assert all(a[0] < b[0] for points in found.values() for a, b in pairwise(points)), found
    return found


def same_end(run: Path, whole: Path) -> None:
    assert equal(weights(run), weights(whole))
    assert equal(weights(run, "best"), weights(whole, "best"))
    assert (run / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    found, wanted = curves(run), curves(whole)
    assert found.keys() == wanted.keys()
    for tag in wanted:  # NaN is the figure of a class that does not occur
        assert str(found[tag]) == str(wanted[tag]), tag


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends this process a signal in the middle of a step, or of the validation after it."""

    def arm(step: int, where: str = "training_step", number: int = signal.SIGTERM) -> None:
        work = getattr(SegmentationTask, where)

        def striking(task: SegmentationTask, *given: Any) -> Any:
            if task.global_step == step and task.trainer.state.fn == "fit":
                setattr(SegmentationTask, where, work)
                os.kill(os.getpid(), number)
            return work(task, *given)

        monkeypatch.setattr(SegmentationTask, where, striking)

    return arm


VARIANTS = {
    "plain": [],
    "average": ["recipe.average=0.7", "trainer.patience=1"],
    "uniform": ["data.sampling=uniform", "data.crop=[40,40]", "recipe.optimizer=sgd"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_at_any_step(
    command: Command, tmp_path: Path, stop_at: Callable[..., None], variant: str
) -> None:
    options = [*RUN, *VARIANTS[variant]]
    answer = command(*options, "hydra.run.dir=whole")
    assert answer.code == 0, answer.err
    end = json.loads((tmp_path / "whole" / "run.json").read_text())["steps"]
    assert end == (6 if variant == "average" else 12)
    stops = [(0, "training_step"), (1, "training_step"), (3, "validation_step")]
    stops += [(4, "training_step"), (6, "validation_step")]
    if variant != "average":  # that one stops early
        stops += [(7, "training_step")]
    # stopped at one step after the other, each time with other workers
    for number, (step, where) in enumerate(stops):
        stop_at(step, where)
        first = [*options, "hydra.run.dir=run"]
        begun = ["resume=run", f"data.workers={2 * (number == 4)}"]
        answer = command(*(begun if number else first))
        assert answer.code == 143, answer.err
        assert f"resume={tmp_path / 'run'}" in answer.err
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert run["status"] == "interrupted"
        place = torch.load("run/checkpoints/last.ckpt", weights_only=True)["toyfcn_run"]
        assert place["step"] == step + (where == "training_step")
    answer = command("resume=run")
    assert answer.code == 0, answer.err
    same_end(tmp_path / "run", tmp_path / "whole")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "finished" and len(run["resumed"]) == len(stops)
