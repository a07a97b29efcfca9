"""Curves without doubled points, and quiet where the disk is full."""

import threading
from pathlib import Path

import numpy as np
import pytest
from killer import curves as points
from torch.utils.tensorboard import SummaryWriter

from toyfcn.training import tensorboard
from toyfcn.training.tensorboard import Curves, remove_events, tags_at

BLACK = np.zeros((4, 4, 3), np.uint8)


def log_steps(logger: Curves, steps: range, validated: tuple[int, ...] = ()) -> None:
    """Log what a training does: a point at each step, and those of validations."""
    for step in steps:
        logger.log_metrics({"train/loss": step / 7}, step)
        if step in validated:
            logger.put_image("panels/photo", BLACK, step)
            logger.log_metrics({"val/miou": step / 9}, step)


def log_end(logger: Curves, step: int) -> None:
    """Log what stands at the end of a run."""
    logger.log_hyperparams({"seed": 0}, {"with_best/val_miou": 0.5}, step)
    logger.put_image("confusion/val", BLACK, step)


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    """A run of 20 steps with validations at 10 and 20 that was never stopped."""
    logger = Curves(tmp_path / "calm")
    log_steps(logger, range(1, 21), (10, 20))
    log_end(logger, 20)
    logger.finalize("success")
    return tmp_path / "calm"


@pytest.mark.slow
def test_what_a_killed_run_logged_too_far_is_hidden(tmp_path: Path, calm: Path) -> None:
    run = tmp_path / "run"
    for resumed_at, end in ((None, 13), (5, 12), (10, 17), (17, 20)):  # each killed at its end
        logger = Curves(run, resumed_at)
        log_steps(logger, range((resumed_at or 0) + 1, end + 1), (10, 20))
        logger.save()
    log_end(logger, 20)
    logger.finalize("success")
    assert points(run) == points(calm)
    assert [step for step, _ in points(run)["train/loss"]] == list(range(1, 21))


def test_a_validation_that_is_done_again_stands_once(tmp_path: Path, calm: Path) -> None:
    run = tmp_path / "run"
    first = Curves(run)
    log_steps(first, range(1, 11))  # stopped while it validates: a checkpoint of step 10
    first.save()
    again = Curves(run, 10)
    again.put_image("panels/photo", BLACK, 10)
    again.log_metrics({"val/miou": 10 / 9}, 10)
    again.save()  # killed before it has saved that it is validated
    last = Curves(run, 10)
    last.put_image("panels/photo", BLACK, 10)
    last.log_metrics({"val/miou": 10 / 9}, 10)
    log_steps(last, range(11, 21), (20,))
    log_end(last, 20)
    last.finalize("success")
    assert points(run) == points(calm)


@pytest.mark.slow
def test_points_hidden_before_are_not_taken_for_there(tmp_path: Path, calm: Path) -> None:
    """Step 10 was validated by a process whose checkpoint was of step 5, and then not again."""
    run = tmp_path / "run"
    for resumed_at, end, validated in ((None, 12, (10,)), (5, 10, ())):
        logger = Curves(run, resumed_at)
        log_steps(logger, range((resumed_at or 0) + 1, end + 1), validated)
        logger.save()
    assert tags_at(run / "tensorboard", 10) == {"train/loss"}
    last = Curves(run, 10)
    last.put_image("panels/photo", BLACK, 10)
    last.log_metrics({"val/miou": 10 / 9}, 10)
    log_steps(last, range(11, 21), (20,))
    log_end(last, 20)
    last.finalize("success")
    assert points(run) == points(calm)


def test_a_run_that_goes_on_at_its_end_repeats_nothing(calm: Path) -> None:
    before = points(calm)
    logger = Curves(calm, 20)
    log_end(logger, 20)
    logger.finalize("success")
    assert points(calm) == before


def test_a_torn_record_hides_nothing_else(tmp_path: Path, calm: Path) -> None:
    (events,) = (calm / "tensorboard").glob(tensorboard.FILES)
    events.write_bytes(events.read_bytes()[:-5])
    logger = Curves(calm, 15)
    log_steps(logger, range(16, 21), (20,))
    logger.finalize("success")
    assert [step for step, _ in points(calm)["train/loss"]] == list(range(1, 21))


def test_another_runs_points_are_removed(calm: Path) -> None:
    remove_events(calm)
    assert not list((calm / "tensorboard").glob(tensorboard.FILES))


def test_a_full_disk_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And what is logged once there is room again is not hidden."""
    logger = Curves(tmp_path, 3)
    log_steps(logger, range(4, 6))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SummaryWriter, "add_scalar", full)
        log_steps(logger, range(6, 8))
    log_steps(logger, range(8, 10))
    logger.finalize("success")
    assert caplog.text.count("points of the curves are lost") == 1
    assert [step for step, _ in points(tmp_path)["train/loss"]] == [4, 5, 8, 9]


class _AsyncWriterThread(threading.Thread):  # as TensorBoard names its own
    pass


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        (_AsyncWriterThread, OSError("disk full"), False),
        (_AsyncWriterThread, ValueError("a fault of its own"), True),
        (threading.Thread, OSError("another thread's"), True),
    ],
)
def test_only_the_writing_thread_is_quiet(
    kind: type[threading.Thread],
    error: Exception,
    told: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(threading, "excepthook", tensorboard.ignore_full_disk)
    thread = kind(target=fail)
    thread.start()
    thread.join()
    assert (str(error) in capsys.readouterr().err) == told
