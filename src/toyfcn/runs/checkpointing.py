"""What a run saves of itself: last.ckpt and best.ckpt, and how a trainer resumes from them.

Lightning restores weights, optimizer, learning-rate schedule and callbacks exactly, but not its
position within the epochs. That is computed here: a checkpoint is of a step, with everything of
that step done, and a resumed trainer has its counters set as if it had come there by itself.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

from toyfcn.data.collate import Batch
from toyfcn.files import atomic_copy
from toyfcn.runs import checkpoint
from toyfcn.runs.interrupt import Interrupted, Interruption
from toyfcn.runs.lightning_internals import (
    callbacks_of,
    end_workers,
    leave_signals_alone,
    set_step,
    swap_average,
    validate,
)
from toyfcn.runs.resume import refuse_other
from toyfcn.text import first_line

log = logging.getLogger(__name__)

VERSION = 1
KEY = "toyfcn_run"  # of what this file adds to a checkpoint


def read(path: Path, config: dict[str, Any], ids: str, steps: int) -> dict[str, Any]:
    """Read a checkpoint to continue from, and check that this run has written it.

    ``config`` is a ``resume.fingerprint``, ``ids`` the digest of the ids to train on, ``steps`` the
    length of the training.

    Raises:
        ValueError: it cannot be read safely, is of another kind or version, or of another run.
    """
    content = checkpoint.read(path)
    position = content.get(KEY)
    if not isinstance(position, dict):
        raise ValueError(
            f"{path} was not written by a toyfcn-train that can resume: it has weights alone, "
            "which ckpt= starts a new run from"
        )
    if position.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {str(position.get('version'))[:20]} of what a run keeps, "
            f"this toyfcn-train reads version {VERSION}"
        )
    refuse_other(position.get("config"), config, path)
    if position.get("ids") != ids:
        raise ValueError(f"{path} was trained on other photos than the list names now")
    step = position.get("step")
    if type(step) is not int or not 0 <= step <= steps:
        raise ValueError(f"{path} is damaged: step {str(step)[:20]} of {steps}")
    return content


class RunCheckpoints(Checkpoint):  # Lightning calls callbacks of this kind after all others
    """Saves after every validation, every ``every`` steps, and before a run is left in between.

    ``position`` is {"config": …, "ids": …} as ``read`` compares them; ``watched`` is the figure of
    the best validation, and whether lower is better. A save that fails leaves the old file; the run
    then goes on, or stops where ``stop_on_failure``.
    """

    def __init__(
        self,
        folder: Path,
        position: dict[str, Any],
        interruption: Interruption,
        watched: tuple[str, bool] = ("miou", False),
        every: int | None = None,
        stop_on_failure: bool = False,
    ) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.interruption, self.every, self.stop_on_failure = interruption, every, stop_on_failure
        # of last.ckpt; ``best`` says that what it holds is the best so far
        start = {"step": 0, "validated": True, "stopped": False, "best": False}
        self.figure, self.sign = watched[0], -1 if watched[1] else 1
        self.position = position | {"version": VERSION, "figure": self.figure} | start
        self.score: float | None = None  # of best.ckpt; higher is better
        self.started = False
        self.group: Any = None  # in which several processes agree to leave
        self.between_steps = False  # so that all that a checkpoint holds is of one step
        self.swapped = False  # within a validation: the averaged weights are in the network

    # ---- saving ----
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the position into a checkpoint, instead of Lightning's loops."""
        del checkpoint["loops"]
        checkpoint[KEY] = self.position | {"score": self.score}

    def save(self, trainer: pl.Trainer, validated: bool = True, best: bool = False) -> bool:
        """Write last.ckpt, of ``trainer.global_step``; tell whether that went well."""
        self.position |= {
            "step": trainer.global_step,
            "validated": validated,
            "stopped": trainer.should_stop,
            "best": best,
        }
        try:
            for logger in trainer.loggers if trainer.is_global_zero else ():
                logger.save()  # so that the curves have no gap
            trainer.save_checkpoint(self.last, weights_only=False)
        except OSError as error:
            trainer.strategy.barrier()  # where the other processes wait for the file
            self._failed(error)
            return False
        return True

    def _failed(self, error: OSError) -> None:
        message = f"{self.last.parent} could not be saved into: {error.strerror or error}"
        if self.stop_on_failure:
            self.between_steps = False  # not tried again on the way out
            raise ValueError(f"{message} (trainer.save_failed=stop)") from None
        log.warning("%s; the checkpoint before stays, the run goes on", message)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and keep the checkpoint as the best one if it is."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        before = self.score
        score = self.sign * float(trainer.callback_metrics[f"val/{self.figure}"])
        # the last one counts where the figure does not exist, as for masks of void alone
        better = before is None or math.isnan(before) or score > before
        self.score = score if better else before
        saved = self.save(trainer, best=better)
        if better and trainer.is_global_zero:
            try:
                if saved:
                    atomic_copy(self.last, self.best)
            except OSError as error:
                saved = False
                self._failed(error)
        if not saved:
            self.score = before

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Between two steps, logs and validations included: leave or save, if it is time to."""
        self._leave_if_due(trainer)
        step = trainer.global_step
        if self.every and step % self.every == 0 and step > self.position["step"]:
            self.save(trainer)
        self.between_steps = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        """The step is done."""
        self.between_steps = True

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The averaged weights, if any, were put into the network just now."""
        self.swapped = True

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation is left where it is, and done again when the run goes on."""
        if self.started:
            self._leave_if_due(trainer)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """They were taken out again."""
        self.swapped = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last validation has saved, if there are any; a signal since ends the run here."""
        if not trainer.limit_val_batches and self.save(trainer) and trainer.is_global_zero:
            atomic_copy(self.last, self.best)
        if self.score is not None and math.isnan(self.score) and trainer.is_global_zero:
            log.warning(
                "val/%s is not defined in any validation: best.ckpt holds the last weights",
                self.figure,
            )
        self.between_steps = False
        self._leave_if_due(trainer)
        self.interruption.patient = False

    def _leave_if_due(self, trainer: pl.Trainer) -> None:
        due = self.interruption.due
        if trainer.world_size > 1:  # all processes leave at one step; their GPUs are not asked
            asked = torch.tensor(int(due))
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, self.group)
            due = bool(asked)
        if due:
            raise Interrupted(self.interruption.number)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save where a run is left between steps, by a signal or by data that cannot be read."""
        alone = trainer.world_size == 1 or isinstance(exception, Interrupted)
        if not (self.between_steps and alone) or getattr(exception, "at_once", False):
            return
        pending = trainer.validating
        if self.swapped:
            swap_average(trainer, pl_module)
        done = {"step": trainer.global_step, "validated": not pending}
        if done.items() <= self.position.items() and self.last.exists():
            return  # saved already
        self.save(trainer, validated=not pending)

    # ---- going on ----
    def fit(self, trainer: pl.Trainer, task: pl.LightningModule, data: Any, resumed: bool) -> None:
        """Train, from last.ckpt where ``resumed``.

        Raises:
            ValueError: what that holds does not fit.
        """
        path = str(self.last) if resumed else None
        if trainer.is_global_zero:
            for half in self.last.parent.glob(".*.tmp"):  # written when a run was killed
                half.unlink()
        try:
            trainer.fit(task, datamodule=data, ckpt_path=path, weights_only=True)
        except Exception as error:
            if not resumed or self.started:
                raise
            raise ValueError(f"{path} is damaged: {first_line(error)}") from error
        finally:
            end_workers(trainer)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the position from a checkpoint that ``read`` has looked through.

        Raises:
            ValueError: a part is missing, which Lightning would pass over.
        """
        callbacks = callbacks_of(trainer)
        parts = {c.state_key for c in callbacks if c.state_dict()} - set(checkpoint["callbacks"])
        if any(isinstance(c, WeightAveraging) for c in callbacks):
            parts |= {"current_model_state", "averaging_state"} - set(checkpoint)
        parts |= {k for k in ("optimizer_states", "lr_schedulers") if len(checkpoint[k]) != 1}
        if parts:
            raise ValueError(f"it has no {', '.join(sorted(parts))}")
        self.position |= {"figure": "miou"} | checkpoint[KEY]
        self.score = self.position.pop("score", None)
        if self.position["figure"] != self.figure:  # an older version went by mean IU
            self.position["figure"], self.score = self.figure, None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the counters to the step, and validate if that is still due at it."""
        self.interruption.take()
        self.interruption.patient = True
        if trainer.world_size > 1:
            leave_signals_alone(trainer)
            self.group = torch.distributed.new_group(backend="gloo")
        step = int(self.position["step"])
        set_step(trainer, step)
        trainer.should_stop = bool(self.position["stopped"])
        self.started, self.between_steps = True, step > 0
        if self.position["best"] and trainer.is_global_zero:
            atomic_copy(self.last, self.best)  # a kill may have come between these two
        if not self.position["validated"]:
            validate(trainer)
