"""A recipe's optimizer, and which parameters it treats alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.target import call, find
from toyfcn.models.kernels.by_device import laid_out_as
from toyfcn.training.muon import Muon


def make_optimizer(
    net: nn.Module, recipe: RecipeConfig, fused: bool = True
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all that learns in a network, a fused one if it may be.

    Raises:
        ValueError: it is not one of toyfcn's, and cannot be made or is fused; the message says why.
    """
    assert recipe.lr is not None  # TrainConfig has put the paper's in
    lr, groups = recipe.lr, parameter_groups(net, recipe)
    if recipe.optimizer == "muon":
        return Muon(groups, lr=lr, momentum=recipe.momentum)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(recipe.momentum, 0.999), fused=fused)
    name = f"recipe.optimizer={recipe.optimizer}"
    maker = find(name, recipe.optimizer, "torch.optim")
    # all have the groups' learning rates, which a schedule multiplies
    optimizer = call(name, maker, {"params": groups, "lr": lr} | (recipe.optimizer_args or {}))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(
            f"{name} returns a {type(optimizer).__name__}, not a torch.optim.Optimizer"
        )
    if not fused and getattr(optimizer, "_step_supports_amp_scaling", False):
        raise ValueError(
            f"{name} is fused, and Lightning clips no gradients of such a one in mixed precision: "
            "leave fused out of recipe.optimizer_args, or set recipe.clip=null"
        )
    return optimizer


def lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Bring what an optimizer keeps of each weight into the weight's layout in memory.

    A run that goes on on another device brings that one's layout (VGG's is another on a GPU). A
    fused AdamW refuses it on a GPU, and on a CPU pairs weights with the numbers of others.
    """
    for weight, kept in optimizer.state.items():
        for key, value in kept.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                kept[key] = laid_out_as(weight, value)


def parameter_groups(net: nn.Module, recipe: RecipeConfig) -> list[dict[str, Any]]:
    """Group what learns: no weight decay on biases, norms and deconvolutions.

    Muon takes the backbone's filters, and AdamW the rest at a learning rate of its own. A backbone
    with a learning rate of its own has groups of its own, which come last.
    """
    assert recipe.lr is not None
    muon = recipe.optimizer == "muon"
    kinds: dict[tuple[bool, str], list[nn.Parameter]] = {
        (apart, kind): []
        for apart in (False, True)
        for kind in ("filters", "weights", "biases", "others")
    }
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        in_backbone = name.startswith("trunk.")
        if muon and in_backbone and parameter.ndim > 1:
            kind = "filters"
        elif name.endswith("bias"):
            kind = "biases"
        elif parameter.ndim > 1 and not name.startswith("ups."):
            kind = "weights"
        else:
            kind = "others"
        kinds[in_backbone and recipe.backbone_lr_factor != 1, kind].append(parameter)
    groups: list[dict[str, Any]] = []
    for (apart, kind), parameters in kinds.items():
        lr = recipe.lr * (recipe.backbone_lr_factor if apart else 1)
        if muon and kind != "filters":
            lr *= recipe.adam_lr_factor
        if kind == "biases":
            lr *= recipe.bias_lr_factor
        decay = recipe.weight_decay if kind in ("filters", "weights") else 0
        group: dict[str, Any] = {"params": parameters, "lr": lr, "weight_decay": decay}
        if kind == "filters":
            group["orthogonal"] = True
        groups += [group] if parameters else []
    return groups
