"""How Lightning's checkpoints are written and read: whole, and running nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from toyfcn.files import atomic_write
from toyfcn.models.weights_file import read_tensors
from toyfcn.text import first_line


def refuse_unreadable(states: dict[str, Any]) -> None:
    """Check that the states of callbacks are what checkpoints are read with: nothing that runs.

    Raises:
        ValueError: naming the callback.
    """
    for name, state in states.items():
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except Exception as error:
            raise ValueError(
                f"the state of the callback {name[:80]} cannot be kept: plain numbers, texts, "
                f"lists, dicts and tensors can ({first_line(error)})"
            ) from None


class AtomicIO(CheckpointIO):
    """Reads and writes the files: a checkpoint appears whole, or the one before stays."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Put a checkpoint in the place of the one before, or leave that as it is.

        Raises:
            ValueError: a callback's state could not be read again.
        """
        refuse_unreadable(checkpoint.get("callbacks", {}))
        path, buffer = Path(path), io.BytesIO()
        torch.save(checkpoint, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint, on the CPU; nothing in it is run."""
        content: dict[str, Any] = read_tensors(Path(path), "ckpt")
        return content

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)
