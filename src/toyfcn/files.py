"""Files that appear whole or not at all, JSON, and one process a folder."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when the block ends, and not if it fails.

    It is written beside ``path``, synced and renamed: a kill or a power cut at any moment leaves
    the file of before or the new one, and two writers at once leave the last one's. What is not
    ``durable`` is not synced, which is quicker: a power cut may lose it.

    Raises:
        OSError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # what fails in writing has none
        raise
    finally:
        aside.unlink(missing_ok=True)
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, atomically; of a file's name that is no text, escapes."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def refuse_no_file(path: str | Path | None, option: str) -> None:
    """Check that the checkpoint or weights that an option names are there.

    Raises:
        ValueError: they are not, or are a folder.
    """
    if not path:
        raise ValueError(f"{option}= is missing: name a file, such as RUN/checkpoints/best.ckpt")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{option}={path} is a folder: name a file, such as checkpoints/best.ckpt")
    if not path.is_file():
        raise ValueError(f"{option}={path} does not exist")


@contextmanager
def write_errors(doing: str) -> Iterator[None]:
    """Turn an error of the disk into one line: cannot do this, and the reason.

    Raises:
        ValueError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot {doing}: {error.strerror or error}") from None


def atomic_copy(source: Path, target: Path) -> None:
    """Make ``target`` the file that ``source`` is now: a second link to it, or else a copy."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            os.link(source, aside)
        except OSError:  # a file system without links
            shutil.copyfile(source, aside)
        aside.replace(target)
    finally:  # renaming does nothing where both are one file already
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder last through a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(path: Path, seconds: float = 0) -> FileLock:
    """Return a lock for a ``with`` block; it is released when the process ends, however it does.

    Entering it raises ``filelock.Timeout`` if another process holds it for more than ``seconds``.
    """
    return FileLock(path, timeout=seconds)


def is_locked(path: Path) -> bool:
    """Tell whether another process holds the lock at ``path``."""
    if not path.exists():
        return False
    try:
        with lock(path):
            return False
    except (Timeout, OSError):
        return True
