"""The profile of a step, and compiled training, as a user asks for them."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from toyfcn.training.device import compile_trunk
from toyfcn.training.profile import PARTS, SKIPPED, TRACED, StepProfile


class Slow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


def test_parts_are_what_was_slept(tmp_path: Path) -> None:
    trunk = Slow()
    profile = StepProfile(tmp_path, trunk)
    with profile.profile("run_training_epoch"):
        for _ in range(SKIPPED + TRACED + 3):
            with profile.profile("[Loop].train_dataloader_next"):
                time.sleep(0.01)
            with profile.profile("[Strategy]Single.optimizer_step"):
                with profile.profile("[Strategy]Single.training_step"):
                    trunk(torch.zeros(1))
                    time.sleep(0.005)
                with profile.profile("[Strategy]Single.backward"):
                    time.sleep(0.03)
    parts = profile.parts()
    assert list(parts) == list(PARTS)
    for name, ms in (("data", 10), ("trunk", 20), ("scores, loss", 5), ("backward", 30)):
        assert ms <= parts[name] < ms + 15  # sleeps are never shorter
    assert "step" in profile.summary()
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_too_few_steps_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profile = StepProfile(tmp_path, Slow())
    profile.describe()
    assert "too few" in caplog.text
    assert not list(tmp_path.iterdir())


def test_no_compiler_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    trunk = Slow()
    compile_trunk(trunk, "cpu")
    assert "trainer.compile=true is ignored" in caplog.text
    assert trunk._compiled_call_impl is None
