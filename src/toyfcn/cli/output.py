"""Standard output that outlives its reader: a run that is piped into ``head`` goes on."""

import errno
import io
import sys
from typing import Any


class Lasting(io.FileIO):
    """A file that loses what is written once its reader, a pipe or a terminal, has gone."""

    def write(self, data: Any) -> int:  # never None: it blocks
        """Write some bytes, or lose them; return how many they are."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return len(memoryview(data))


def keep_open() -> None:
    """Let standard output and error outlive their readers; what is no file stays as it is."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)  # python -u has no buffer between
        if isinstance(raw, io.FileIO) and not isinstance(raw, Lasting):
            file = io.BufferedWriter(Lasting(stream.fileno(), "wb", closefd=False))
            stream.flush()
            setattr(sys, name, io.TextIOWrapper(file, stream.encoding, line_buffering=True))
