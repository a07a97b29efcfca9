"""What is seen while a command works: log lines above the bar, and a bar wherever it takes time."""

import io
import logging
import sys
from typing import Any

import pytest
from pytorch_lightning.callbacks import RichProgressBar

from toyfcn.data import progress
from toyfcn.training.callbacks import ProgressBar, ThroughputMonitor


def test_what_is_logged_is_printed_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich replaces stdout while a bar is shown; a handler must not write past it."""
    terminal, above = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    handler = logging.StreamHandler(sys.stdout)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    start: Any = lambda *_: setattr(sys, "stdout", above)  # noqa: E731
    monkeypatch.setattr(RichProgressBar, "on_train_start", start)
    bar = ProgressBar(ThroughputMonitor(), 10)
    given: Any = (None, None)
    bar.on_train_start(*given)
    logging.getLogger().warning("a line")
    assert "a line" in above.getvalue() and not terminal.getvalue()
    bar.teardown(*given, "fit")
    assert handler.stream is terminal


def test_batches_are_counted_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches: Any = [[{"id": ["a", "b"]}, {"id": ["c"]}], [{"id": ["d"]}]]
    assert list(progress.counted(batches, "scoring", 4)) == batches
    assert not capsys.readouterr().err  # no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "PERIOD", 0)
    assert list(progress.counted(batches, "scoring", 4, show=False)) == batches
    assert not capsys.readouterr().err
    assert list(progress.counted(batches, "scoring", 4)) == batches
    assert "4/4" in capsys.readouterr().err
