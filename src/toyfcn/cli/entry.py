"""toyfcn-train as a shell starts it: glibc's allocator is asked for something before all else."""

from __future__ import annotations

import contextlib
import os
import sys

VARIABLE = "GLIBC_TUNABLES"  # glibc reads it when a program starts, and never again
TUNABLE = "glibc.malloc.tcache_count"


def train() -> None:
    """Start the command."""
    restart()
    from toyfcn.commands.train import main

    main()


def restart() -> None:
    """Start this process anew, once, with glibc's cache of small free blocks switched off.

    PyTorch asks for its maps at multiples of 64 bytes, so glibc cuts some bytes off each block that
    it finds. In the cache these pieces never join the map beside them when it is freed: a map of
    the same size does not fit there, and the heap that ``trainer.keep_mb`` keeps grows by holes.
    Nothing happens where the variable names this tunable already, whatever its value, where there
    is no glibc, or where a debugger is at work, which would lose sight of the process.
    """
    asked = os.environ.get(VARIABLE, "")
    if TUNABLE in asked or not has_glibc() or not sys.executable or sys.gettrace() is not None:
        return
    os.environ[VARIABLE] = f"{asked}:{TUNABLE}=0".lstrip(":")
    with contextlib.suppress(OSError):  # where that is forbidden: then with the cache
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def has_glibc() -> bool:
    """Tell whether the system's C library is glibc."""
    try:
        return bool((os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"))
    except (AttributeError, ValueError, OSError):  # not POSIX; or another library
        return False
