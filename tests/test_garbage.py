"""What is imported is not collected: the collector's own counts tell, in fresh processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNTS = """
import gc
from toyfcn.garbage import loading
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
from toyfcn.garbage import loading
gc.disable()
with loading():
    import pytorch_lightning
assert not gc.isenabled() and not gc.get_freeze_count(), "whoever disabled it has their reasons"
"""


@pytest.mark.parametrize("code", [COUNTS, DISABLED], ids=["loading", "disabled before"])
def test_what_is_imported_stays_out_of_the_collectors_way(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "leak" not in done.stderr  # at the end all is let go
