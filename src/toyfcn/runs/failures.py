"""What breaks a run from outside, told in one line: memory, disks, loader workers."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from toyfcn.text import first_line

log = logging.getLogger(__name__)

NO_PLACE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}  # to write to
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|Cannot allocate memory",
    re.IGNORECASE,
)
WORKER = re.compile(r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\).*", re.DOTALL)
FROM_WORKER = re.compile(r"Caught \w+ in DataLoader worker process")


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Warn of what goes wrong meanwhile: pictures, plots and tables must not end a run."""
    try:
        yield
    except Exception as error:
        log.warning("%s could not be made: %s: %s", what, type(error).__name__, first_line(error))


def of_disk(error: OSError) -> bool:
    """Tell whether an error is about a disk that is full, read-only or broken."""
    return error.errno in DISK


def told(error: BaseException) -> ValueError | None:
    """Return an error as one line for people; None where it is none of these.

    An error of a loader worker comes with its traceback as text, of which the last line counts.
    """
    text = str(error)
    if FROM_WORKER.match(text):
        text = text.strip().splitlines()[-1]
        if isinstance(error, ValueError):
            return ValueError(text.removeprefix("ValueError: "))
    if isinstance(error, MemoryError) or NO_MEMORY.search(text):
        return ValueError(
            "out of memory: lower data.batch_size, data.crop, model.short_side or model.width, set "
            "trainer.precision=bf16-mixed, or lower data.workers where it is the machine's memory"
        )
    if WORKER.match(text):
        why = "the system may be short of memory: lower data.workers"
        return ValueError(f"a loader worker ended unasked; {why} ({text.splitlines()[0][:120]})")
    if isinstance(error, OSError) and (of_disk(error) or error.errno in NO_PLACE):
        return ValueError(f"{error.filename or 'a file'} cannot be written: {error.strerror}")
    return None
