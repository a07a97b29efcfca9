"""What a training asks of the machine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command

from toyfcn import hardware
from toyfcn.config.trainer import TrainerConfig
from toyfcn.training import device, run

FAULTS = """
import json, multiprocessing, resource, sys
import torch
from toyfcn.training.device import keep_memory
from toyfcn.config.trainer import TrainerConfig

def faults(options):
    keep_memory(TrainerConfig(**options))
    for step in range(20):
        if step == 15:  # the heap has grown to what it needs
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for size in (9, 11, 8):  # 32 to 44 MB, as the maps of a step are
            torch.ones(size << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
found = []
for options in json.loads(sys.argv[1]):  # each in a process of its own
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found += pool.map(faults, [options])
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_kept() -> None:
    """How many pages five steps cost that make 112 MB anew and free them."""
    options = json.dumps([{"keep_mb": 0}, {}, {"reuse_memory": True}])
    words = [sys.executable, "-c", FAULTS, options]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    fresh, kept, reused = json.loads(done.stdout)
    assert fresh > 5 * 56  # with pages of 2 MB; of 4 KB they are 143,360
    assert kept < fresh / 20
    assert reused < fresh / 20


def test_without_mallopt_only_what_was_asked_for_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(hardware.ctypes, "CDLL", none)
    with caplog.at_level(logging.WARNING):
        device.keep_memory(TrainerConfig())
        assert not caplog.records
        device.keep_memory(TrainerConfig(reuse_memory=True))
        device.keep_memory(TrainerConfig(keep_mb=100))
    assert "reuse_memory=true is ignored" in caplog.text
    assert "keep_mb=100 is ignored" in caplog.text


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert not hardware.use_gpu("auto")
    with pytest.raises(ValueError, match="PyTorch finds no GPU here: set trainer"):
        hardware.use_gpu("gpu")


def test_what_repeats_is_chosen_before_anything_runs(
    train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before pretraining and first scores, and anew in each job of a sweep."""
    seen: list[tuple[bool, str | None]] = []

    def brought(*given: Any) -> None:
        config = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
        seen.append((torch.are_deterministic_algorithms_enabled(), config))

    monkeypatch.setattr(run, "bring_weights", brought)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    words = "data.train_images=2 data.val_images=1 data.test_images=1 data.size=[48,48]"
    short = "data.batch_size=2 trainer.max_steps=1 logger=none model.width=0.1"
    sweep = ["-m", "trainer.deterministic=true,false", "hydra.sweep.dir=sweep"]
    answer = train(*words.split(), *short.split(), *sweep)
    assert answer.code == 0, answer.out + answer.err
    assert seen == [(True, ":4096:8"), (False, ":4096:8")]
    record = json.loads(Path("sweep/0/run.json").read_text())
    assert record["hardware"]["tf32"] is True


def test_products_are_rounded_like_convolutions() -> None:
    """PyTorch's own choice differs, and so would a loss that is a product and one that is not."""
    for allowed in (False, True):
        hardware.set_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
