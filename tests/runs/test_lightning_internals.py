"""What toyfcn touches of Lightning's private parts is where it was, and does what it did."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from toyfcn.runs import lightning_internals

MOVED = (
    f"PyTorch Lightning {pl.__version__} has moved or changed a private part that toyfcn uses: "
    "adapt src/toyfcn/runs/lightning_internals.py, or use an older version. It is "
)


class Task(pl.LightningModule):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[tuple[int, int]] = []
        self.validated: list[int] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.trained.append((self.global_step, self.current_epoch))
        return (self.weight - 1).square().sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(self.global_step)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Start(pl.Callback):
    """Goes to step 6, and validates there."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        lightning_internals.set_step(trainer, 6)
        lightning_internals.validate(trainer)


@pytest.fixture
def task() -> Task:
    return Task()


def fit(task: Task, *callbacks: pl.Callback) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=10,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.zeros(4, 1))  # type: ignore[arg-type]  # an epoch has four steps
    trainer.fit(task, loader, DataLoader(torch.zeros(1, 1)))  # type: ignore[arg-type]
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_goes_on_at_a_step(task: Task) -> None:
    try:
        trainer = fit(task, Start())
    except AttributeError as error:
        pytest.fail(f"{MOVED}one of set_step or validate: {error}")
    assert task.trained[0] == (6, 1), f"{MOVED}one of set_step: the step or the epoch is another"
    assert [step for step, _ in task.trained] == [6, 7, 8, 9], f"{MOVED}one of set_step"
    assert task.validated == [6, 10], f"{MOVED}val_loop.run or a counter behind val_check_interval"
    assert trainer.global_step == 10


@pytest.mark.filterwarnings("ignore")
def test_averaged_weights_are_swapped(task: Task) -> None:
    seen: list[tuple[float, float]] = []

    class Swap(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
            before = float(module.weight)
            lightning_internals.swap_average(trainer, module)
            seen.append((before, float(module.weight)))
            lightning_internals.swap_average(trainer, module)
            assert float(module.weight) == before

    try:
        fit(task, WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(0.9)), Swap())
    except AttributeError as error:
        pytest.fail(f"{MOVED}WeightAveraging._swap_models: {error}")
    assert all(average < weight for weight, average in seen[1:]), f"{MOVED}_swap_models"


def test_signals_are_asked_about_nowhere_else() -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    asks = getattr(trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor", None)
    assert callable(asks), f"{MOVED}_broadcast_sigterm_tensor, which asks in every step"
    lightning_internals.leave_signals_alone(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None


def test_private_parts_stand_in_one_module() -> None:
    """None of the names below is used anywhere else in the package."""
    root = Path(inspect.getfile(lightning_internals)).parents[1]
    names = (
        *("_swap_models", "_logger_connector", "_batches_that_stepped", "val_loop", ".fit_loop"),
        *("_broadcast_sigterm_tensor", "_average_model", "_latest_update_step"),
    )
    found = {
        f"{path.name}: {name}"
        for path in root.rglob("*.py")
        if path.name != "lightning_internals.py"
        for name in names
        if name in path.read_text(encoding="utf-8")
    }
    assert not found
