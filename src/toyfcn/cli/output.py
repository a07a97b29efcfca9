"""Standard output and error that outlive their reader: ``| head`` ends no training."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

GONE = {errno.EPIPE, errno.EIO}  # the reader of a pipe, or the terminal


def keep_open() -> None:
    """From here on, what this process prints goes nowhere once its reader has gone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Outlet):  # None: no console at all
            setattr(sys, name, Outlet(stream))


class Outlet:
    """A text stream whose reader may go: that is the end of interest, not an error.

    Bytes that go past it, into its ``buffer``, are still lost with an error.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, or forget, ``text``; return its length."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self.forget(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write, or forget, ``lines`` one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered, or forget it."""
        try:
            self.stream.flush()
        except OSError as error:
            self.forget(error)

    def forget(self, error: OSError) -> None:
        """Lead the stream, its buffer and what other code writes to the same file nowhere."""
        if error.errno not in GONE:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        if name == "stream":  # a copy in the making has none yet
            raise AttributeError(name)
        return getattr(self.stream, name)
