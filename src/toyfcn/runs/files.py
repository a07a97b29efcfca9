"""Checkpoints appear at once and whole, or the one before stays: written aside, synced, renamed."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from toyfcn.runs.checkpoint import read


class AtomicIO(CheckpointIO):
    """Checkpoints are written aside, synced and renamed; they are read by ``keeper.read`` alone."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Put a checkpoint in the place of the one before, or leave that as it is."""
        path, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp")
        try:
            with aside.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of ours."""
        return read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def copy_aside(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` is now, at once and whole."""
    aside = target.with_suffix(".tmp")
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
    except OSError:  # a file system without links
        try:
            shutil.copyfile(source, aside)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
    aside.replace(target)
    aside.unlink(missing_ok=True)  # renaming does nothing where both are one file already
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power loss."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
