"""The profile of a step, and compiled training, as a user asks for them."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import Command
from torch import nn

from toyfcn.training.device import compile_backbone
from toyfcn.training.profile import FIRST, PARTS, STEPS, StepProfile


def test_parts_are_what_was_slept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = StepProfile(tmp_path / "profile")
    for _ in range(FIRST + STEPS):
        with profile.profile("[Loop].train_dataloader_next"):
            time.sleep(0.01)
        with profile.profile("[Strategy]Single.optimizer_step"):
            with profile.profile("[Strategy]Single.training_step"):
                time.sleep(0.02)
            with profile.profile("[Strategy]Single.backward"):
                time.sleep(0.03)
    profile.describe()
    profile.teardown()
    told = capsys.readouterr().out
    found = {part: float(ms) for ms, part in re.findall(r"([\d.]+) ms  (.*)", told)}
    assert list(found) == list(PARTS.values())
    for part, ms in (("train_dataloader_next", 10), ("training_step", 20), ("backward", 30)):
        assert ms <= found[PARTS[part]] < ms + 15  # sleeps are never shorter
    assert found[PARTS["optimizer_step"]] < 15
    assert json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    assert told.splitlines()[0] in (tmp_path / "profile" / "profile.txt").read_text()


def test_parts_are_named_as_lightning_names_them(train: Command, tmp_path: Path) -> None:
    """A new version that renames them would leave a part at zero."""
    words = "data.train_images=4 data.val_images=1 data.test_images=1 data.size=[48,48]"
    short = f"data.batch_size=2 model.width=0.3 trainer.max_steps={FIRST + STEPS} logger.panels=0"
    answer = train(*words.split(), *short.split(), "trainer.profile=true", "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    found = [part for _, part in re.findall(r"([\d.]+) ms  (.*)", answer.out)]
    assert found == list(PARTS.values()), answer.out
    table = (tmp_path / "run" / "profile" / "trace.json").read_text()
    assert all(f'{part}"' in table for part in PARTS if part != "ProfilerStep*"), found


def test_too_few_steps_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profile = StepProfile(tmp_path)
    profile.describe()
    profile.teardown()
    assert "too few" in caplog.text
    assert not list(tmp_path.iterdir())


def test_no_compiler_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    trunk = nn.Identity()
    compile_backbone(trunk, "cpu")
    assert "trainer.compile=true is ignored" in caplog.text
    assert trunk._compiled_call_impl is None


def test_compiling_for_photos_of_many_sizes_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", str)
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    compile_backbone(nn.Identity(), "cpu")
    assert not caplog.text
    compile_backbone(nn.Identity(), "cpu", one_size=False)
    assert "up to 8 sizes of photos" in caplog.text and "set data.crop" in caplog.text
