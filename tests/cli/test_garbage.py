"""What is imported is not collected: the collector's own counts tell, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNTS = """
import gc
from toyfcn.cli.garbage import loading
runs = []
gc.callbacks.append(lambda phase, info: runs.append(info["generation"]))
with loading():
    import pytorch_lightning
    assert not runs and not gc.isenabled()
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 100_000, frozen
with loading():  # a second job
    left = [[] for _ in range(100_000)]
assert runs, "the collector is at work again"
assert gc.get_freeze_count() <= frozen
"""
DISABLED = """
import gc
from toyfcn.cli.garbage import loading
gc.disable()
with loading():
    import pytorch_lightning
assert not gc.isenabled() and not gc.get_freeze_count(), "whoever disabled it has their reasons"
"""
TRAINING = """
import gc, sys
from toyfcn.cli import launch
from toyfcn.commands import train
def run(config):
    train.train(config)
    assert gc.get_freeze_count() > 100_000
sys.argv = ["toyfcn-train", "debug=fast", "trainer.max_steps=1"]
launch.launch("toyfcn-train", "train", run)
"""


@pytest.mark.parametrize("code", [COUNTS, DISABLED, TRAINING], ids=["loading", "disabled", "used"])
def test_what_is_imported_stays_out_of_the_collectors_way(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "leak" not in done.stderr  # at the end all is let go
