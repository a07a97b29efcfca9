"""The moving average of the weights (recipe.average), kept where the network is."""

from __future__ import annotations

import itertools
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from toyfcn.data.collate import Batch


class Average(EMAWeightAveraging):
    """Lightning's callback with an update that no GPU is waited for: equal to its own, bit by bit.

    Lightning makes the average before the network comes to its device, and asks the device at every
    step whether it is the first.
    """

    @property
    def state_key(self) -> str:
        """Return the name in checkpoints: Lightning's, for what is kept is the same."""
        return EMAWeightAveraging.__qualname__

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
        self.decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the average on the device that the network comes to."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        """Move the average towards the weights; the first ones are its beginning."""
        if trainer.global_step <= self._latest_update_step:
            return
        kept, decay = self._average_model, self.decay if self._latest_update_step else 0.0
        assert kept is not None
        pairs = zip(
            itertools.chain(kept.module.parameters(), kept.module.buffers()),
            itertools.chain(pl_module.parameters(), pl_module.buffers()),
            strict=True,
        )
        for average, current in pairs:
            average.copy_(decay * average + (1 - decay) * current if decay else current)
        kept.n_averaged += 1
        self._latest_update_step = trainer.global_step
