"""Private parts of PyTorch Lightning, touched here alone and nowhere else.

``tests/runs/test_lightning_internals.py`` fails with a clear message where a version moves one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch import Tensor


def callbacks_of(trainer: pl.Trainer) -> list[Callback]:
    """Return all callbacks of a trainer. Lightning sets them without declaring them."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def set_step(trainer: pl.Trainer, step: int) -> None:
    """Set the counters of a trainer that is about to train as if it had done so many steps.

    Lightning's own loops restore their position only in part, and not within an epoch: so it is
    left out of checkpoints (``drop_position``) and computed from the step.
    """
    loop = trainer.fit_loop
    done = {"ready": step, "started": step, "processed": step, "completed": step}
    batches, steps = loop.epoch_loop, loop.epoch_loop.automatic_optimization.optim_progress
    vars(batches.batch_progress.total).update(done)
    vars(steps.optimizer.step.total).update(ready=step, completed=step)
    batches._batches_that_stepped = step
    epoch = step // int(loop.max_batches)
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        vars(progress).update(dict.fromkeys(done, epoch))


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Spare each step the question of Lightning's SIGTERM handler, for which GPUs are waited.

    Ours has taken its place (``runs/interrupt.py``), and asks the processes without their GPUs.
    """
    loop = trainer.fit_loop.epoch_loop
    assert callable(loop._broadcast_sigterm_tensor)
    loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def validate(trainer: pl.Trainer) -> None:
    """Validate now, between two steps of a training, as its loop does when a validation is due.

    ``Trainer.validate`` would end the training's own state.
    """
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
    trainer._logger_connector._first_loop_iter = None


def swap_average(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Put the averaged weights in the place of the others, or back.

    Where a validation is left by an exception, Lightning leaves the averaged ones in the network.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, WeightAveraging):
            callback._swap_models(module)


def averaged(callback: WeightAveraging, module: pl.LightningModule) -> list[tuple[Tensor, Tensor]]:
    """Return each averaged weight and buffer, with the module's own."""
    average = callback._average_model
    assert average is not None
    both = [itertools.chain(m.parameters(), m.buffers()) for m in (average.module, module)]
    return list(zip(*both, strict=True))


def average_step(
    callback: WeightAveraging,
    module: pl.LightningModule,
    step: int,
    average_all: Callable[[Any, Any, Any], None],
) -> bool:
    """Let the averaged weights take in a step's, as the callback does; False if it is the first.

    torch asks a GPU in every step how many steps they have taken in: known here without.
    """
    average = callback._average_model
    if average is None or not callback._latest_update_step:
        return False
    if step > callback._latest_update_step:
        pairs = [(kept.detach(), own.detach()) for kept, own in averaged(callback, module)]
        for kind in (True, False):
            alike = [pair for pair in pairs if pair[0].is_floating_point() is kind]
            if alike:
                average_all([kept for kept, _ in alike], [own for _, own in alike], None)
        average.n_averaged += 1
        callback._latest_update_step = step
    return True


def end_workers(trainer: pl.Trainer) -> None:
    """End the loader workers of a training.

    Where a validation is left by an exception, Lightning ends those of the validation alone.
    """
    trainer.fit_loop.teardown()
