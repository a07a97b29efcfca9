"""Untrusted files of tensors: nothing in them is executed, and none can exhaust the memory."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from toyfcn.text import first_line

MAX_PICKLE = 64 << 20  # bytes, of everything but the tensors; 20,000 photos take 0.3 MB


def read_tensors(path: Path, option: str, old_format: bool = False) -> Any:
    """Return the content of a file written by ``torch.save``: tensors and plain values, on the CPU.

    ``option`` is the option that named the file (``ckpt``), for messages; ``old_format`` allows
    files of PyTorch before 1.6, which are not zip archives.

    Raises:
        ValueError: the file does not exist or cannot be read safely; the message says why.
    """
    if path.is_dir():
        raise ValueError(f"{option}={path} is a folder: name a file, such as checkpoints/best.ckpt")
    if not path.is_file():
        raise ValueError(f"{option}={path} does not exist")
    try:
        if zipfile.is_zipfile(path) or not old_format:
            refuse_zip_bomb(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        reason = first_line(error, 120)
        raise ValueError(f"{option}={path} cannot be read safely: {reason}") from None


def refuse_zip_bomb(path: Path) -> None:
    """Check that a file needs no more memory than it has bytes: ``torch.save`` compresses nothing.

    Raises:
        ValueError: it needs more, or is not a zip archive.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a zip archive, as torch.save writes them")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("it claims to hold more bytes than it has")
    if any(member.file_size > MAX_PICKLE for member in members if member.filename.endswith(".pkl")):
        raise ValueError(f"its list of contents has more than {MAX_PICKLE >> 20} MiB")
