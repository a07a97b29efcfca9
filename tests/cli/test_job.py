"""What is imported is not collected: the collector's own counts tell, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COUNTS = """
import gc, sys  # and this core needs no Hydra
from toyfcn.cli.job import load
gc.disable()
load("json:dumps")
assert not gc.isenabled() and not gc.get_freeze_count(), "whoever disabled it has their reasons"
gc.enable()
runs = []
gc.callbacks.append(lambda phase, info: runs.append(info["generation"]))
load("toyfcn.training.run:train")
assert len(runs) < 20 and "hydra" not in sys.modules, runs
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 100_000, frozen
load("json:dumps")  # a second job
left = [[] for _ in range(100_000)]
assert len(runs) > 20, "the collector is at work again"
assert gc.get_freeze_count() <= frozen
"""


@pytest.mark.slow
def test_what_is_imported_stays_out_of_the_collectors_way(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTS], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "leak" not in done.stderr  # at the end all is let go
