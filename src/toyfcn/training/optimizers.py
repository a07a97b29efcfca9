"""A recipe's optimizer, and which parameters it treats alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from toyfcn.config.recipe import RecipeConfig
from toyfcn.training.muon import Muon


def make_optimizer(
    net: nn.Module, recipe: RecipeConfig, fused: bool = True
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all that learns in a network; ``fused`` is AdamW's."""
    assert recipe.lr is not None  # TrainConfig has put the paper's in
    lr, groups = recipe.lr, parameter_groups(net, recipe)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=lr, momentum=recipe.momentum)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=lr, betas=(recipe.momentum, 0.999), fused=fused)


def parameter_groups(net: nn.Module, recipe: RecipeConfig) -> list[dict[str, Any]]:
    """Group what learns: no weight decay on biases, norms and deconvolutions.

    Muon takes the backbone's filters, and AdamW the rest at a learning rate of its own.
    """
    assert recipe.lr is not None
    muon = recipe.optimizer == "muon"
    filters: list[nn.Parameter] = []
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        if muon and name.startswith("trunk.") and parameter.ndim > 1:
            filters.append(parameter)
        elif name.endswith("bias"):
            biases.append(parameter)
        elif parameter.ndim > 1 and not name.startswith("ups."):
            weights.append(parameter)
        else:
            others.append(parameter)
    lr, decay = recipe.lr, recipe.weight_decay
    rest = lr * recipe.adam_lr_factor if muon else lr
    groups: list[dict[str, Any]] = [
        {"params": filters, "lr": lr, "weight_decay": decay, "orthogonal": True},
        {"params": weights, "lr": rest, "weight_decay": decay},
        {"params": biases, "lr": rest * recipe.bias_lr_factor, "weight_decay": 0},
        {"params": others, "lr": rest, "weight_decay": 0},
    ]
    return [group for group in groups if group["params"]]
