"""The function that does a command's work: imported once the config is known to be right."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Callable
from typing import Any


def load(job: str) -> Callable[..., Any]:
    """Import ``package.module:name`` and return the function.

    PyTorch and Lightning are 400,000 objects. Python's garbage collector would go through them
    again and again while they are imported, and within a training, which then stands still for a
    quarter of a second. So nothing is collected meanwhile, nor of them later. Where Lightning is
    imported already, as in the second job of a sweep, the collector is left alone: what the first
    job left would never be collected.
    """
    module, _, name = job.partition(":")
    first = "pytorch_lightning" not in sys.modules and gc.isenabled()
    if first:
        gc.disable()
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    finally:
        if first:
            gc.freeze()
            gc.enable()
            atexit.register(gc.unfreeze)  # at the end all goes, or its libraries report leaks
    return function
