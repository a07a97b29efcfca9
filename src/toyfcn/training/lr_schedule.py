"""The learning-rate schedule: linear warm-up and half a cosine, constant, or one of torch's."""

from __future__ import annotations

import inspect
import math

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from toyfcn.config.recipe import SCHEDULES, RecipeConfig
from toyfcn.config.target import call, find

LENGTHS = ("total_iters", "total_steps", "T_max")  # what schedules call the steps of a training


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer, recipe: RecipeConfig, steps: int
) -> LRScheduler:
    """Return the schedule of the learning rate over a training of so many steps.

    Raises:
        ValueError: it is not one of toyfcn's, and cannot be made; the message says why.
    """
    schedule, warmup = recipe.schedule, recipe.warmup
    if schedule in SCHEDULES:
        return LambdaLR(optimizer, lambda step: lr_factor(step, steps, schedule, warmup))
    name = f"recipe.schedule={schedule}"
    maker = find(name, schedule, "torch.optim.lr_scheduler")
    known = {key: steps for key in LENGTHS if key in inspect.signature(maker).parameters}
    made = call(name, maker, {"optimizer": optimizer} | known | (recipe.schedule_args or {}))
    if not isinstance(made, LRScheduler) or "metrics" in inspect.signature(made.step).parameters:
        raise ValueError(f"{name} is no schedule by steps: a torch.optim.lr_scheduler.LRScheduler")
    return made


def lr_factor(step: int, total: int, schedule: str, warmup: float) -> float:
    """Return the factor on the learning rate at a step: linear warm-up, then half a cosine."""
    if schedule == "constant":
        return 1.0
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, total - rising))))
