"""The learning-rate schedule: linear warm-up and half a cosine, or constant."""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR

from toyfcn.config.recipe import RecipeConfig


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer, recipe: RecipeConfig, steps: int
) -> LambdaLR:
    """Return the schedule of the learning rate over a training of so many steps."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, steps, recipe.schedule, recipe.warmup))


def lr_factor(step: int, total: int, schedule: str, warmup: float) -> float:
    """Return the factor on the learning rate at a step: linear warm-up, then half a cosine."""
    if schedule == "constant":
        return 1.0
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, total - rising))))
