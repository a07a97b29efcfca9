"""Stops a training whose loss is not a finite number, and keeps the batch it happened on."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from toyfcn.data.collate import Batch, names

log = logging.getLogger(__name__)

LAG = 2  # steps that a GPU may be behind: their losses are being copied


class FiniteLoss(Callback):
    """Checks every loss before its gradients are taken; on a GPU two steps later, not to wait."""

    def __init__(self, folder: Path, name: str = "nonfinite.pt") -> None:
        self.path = folder / name
        self.batch: Batch | list[Batch] | None = None
        self.pending: deque[tuple[Any, Tensor, dict[str, Any]]] = deque()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self.batch = batch

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Check the loss, or have it copied from the GPU."""
        assert self.batch is not None
        step, lr = trainer.global_step + 1, trainer.optimizers[0].param_groups[0]["lr"]
        held = {"parts": self.batch} if isinstance(self.batch, list) else self.batch
        facts = {"step": step, "lr": float(lr), **held, "id": names(self.batch)}
        value = loss.detach()
        if not value.is_cuda:
            self._check(value, facts)
            return
        told = torch.empty_like(value, device="cpu", pin_memory=True)
        told.copy_(value, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has it without types
        done.record()
        self.pending.append((done, told, facts))
        self._drain(LAG)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Nothing is saved before all losses were seen."""
        self._drain(0)

    def _drain(self, left: int) -> None:
        while len(self.pending) > left:
            done, told, facts = self.pending.popleft()
            done.synchronize()
            self._check(told, facts)

    def _check(self, loss: Tensor, facts: dict[str, Any]) -> None:
        if torch.isfinite(loss):
            return
        plain = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in facts.items()}
        try:
            torch.save(plain | {"loss": loss.cpu()}, self.path)
            where = f"the batch is in {self.path}"
        except (OSError, RuntimeError):
            where = f"the batch could not be saved to {self.path}"
        ids = ", ".join(facts["id"][:8]) + ", …" * (len(facts["id"]) > 8)
        raise ValueError(
            f"the loss is {loss.item()} at step {facts['step']} (lr {facts['lr']:.3g}; images "
            f"{ids}): lower recipe.lr or set recipe.clip; {where}"
        )
