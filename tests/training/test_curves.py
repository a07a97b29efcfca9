"""Curves without doubled points, and quiet where the disk is full."""

import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from toyfcn.training import curves


def test_a_run_that_goes_on_says_again_how_it_ended(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step in (50, 60, 70):
        for tag in ("train/loss", "val/miou", "best/val_miou"):
            writer.add_scalar(tag, step, step)
    writer.close()
    curves.cut(tmp_path, 60)
    found = EventAccumulator(str(tmp_path)).Reload()
    kept = {tag: [event.step for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert kept == {"train/loss": [50, 60], "val/miou": [50, 60]}


def test_a_kill_while_points_are_dropped_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step in (50, 60):
        writer.add_scalar("train/loss", step, step)
    writer.close()

    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            curves.cut(tmp_path, 50)
    assert len(list(tmp_path.iterdir())) == 2
    points = EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")
    assert [event.step for event in points] == [50, 60]
    curves.cut(tmp_path, None)
    assert not list(tmp_path.iterdir())


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

    monkeypatch.setattr(threading, "excepthook", curves.writers_apart)
    thread = kind(target=fail)
    thread.start()
    thread.join()
    assert (str(error) in capsys.readouterr().err) == told
