"""Standard output and error that outlive their reader: ``| head`` ends no training."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


def keep_open() -> None:
    """From here on, what this process prints goes nowhere once its reader has gone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Outlet):  # None: no console at all
            setattr(sys, name, Outlet(stream))


class Outlet:
    """A text stream that takes a broken pipe for the end of interest, not for an error."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write, or forget, ``text``; return its length."""
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            self.forget()
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or forget it."""
        try:
            self.stream.flush()
        except BrokenPipeError:
            self.forget()

    def forget(self) -> None:
        """Lead the stream, its buffer and what other code writes to the same file nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
