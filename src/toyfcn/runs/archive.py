"""Archives of weights that would take more memory than they say."""

from __future__ import annotations

import zipfile
from pathlib import Path

MAX_PICKLE = 64 << 20  # bytes of what stands beside the tensors; 20,000 photos take 0.3 MB


def refuse_bomb(path: Path) -> None:
    """See that a checkpoint takes no more memory than its file has bytes; torch.save packs nothing.

    Raises:
        ValueError: it would, or is no zip archive.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive, as torch.save writes them")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("it claims to hold more bytes than it has")
    if any(member.file_size > MAX_PICKLE for member in members if member.filename.endswith(".pkl")):
        raise ValueError(f"its list of contents has more than {MAX_PICKLE >> 20} MiB")
