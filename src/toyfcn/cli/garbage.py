"""Python's garbage collector is kept away from what is loaded once and stays."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import PyTorch and Lightning within: nothing is collected meanwhile, nor of them later.

    These are 400,000 objects. The collector goes through all of them again and again as they come,
    so that a command starts later, and within a training, which stands still for a quarter of a
    second. Nothing is done where Lightning is there already, as in the second job of a sweep: what
    the first one left would never be collected.
    """
    if "pytorch_lightning" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # at the end all goes, or its libraries report leaks
