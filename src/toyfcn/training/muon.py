"""Muon (Jordan et al. 2024): momentum whose steps turn a filter bank without favoring directions.

A gradient's matrix is dominated by few singular directions. Muon takes the momentum's nearest
semi-orthogonal matrix instead, so that all directions learn equally fast, which helps a small
network trained from scratch most. torch.optim.Muon takes matrices only, and computes in bfloat16,
which CPUs are slow at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)  # of the iteration: steep at 0, near 1 between 0.7 and 1.2


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of a matrix (N, M) near 1 (0.6 to 1.2), and keep its directions.

    A Newton-Schulz iteration X ← (a + b·XXᵀ + c·(XXᵀ)²) X from X / |X|. All its factors are
    polynomials of the small Gram matrix XXᵀ, so the large matrix is multiplied twice only.
    """
    a, b, c = QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    gram = wide @ wide.T
    product = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product, gram = factor @ product, factor @ gram @ factor
    found: Tensor = product @ wide
    return found.T if found.shape != matrix.shape else found


class Muon(torch.optim.AdamW):
    """Muon for the parameter groups with ``orthogonal=True``, AdamW for all others.

    An orthogonal group holds convolution filters (O, I, kh, kw), seen as matrices (O, I·kh·kw);
    ``momentum`` is Nesterov's, and a step's length is ``lr`` · √max(1, O / (I·kh·kw)) a direction.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        for group in groups:
            group.setdefault("orthogonal", False)
        super().__init__(groups, lr=lr)
        self.defaults["orthogonal"] = False
        self.momentum = momentum

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, as ``load_state_dict`` does.

        Adam's own method asks each parameter's state for its ``step``: those of orthogonal groups
        have none, and are put back behind it.
        """
        momenta = {p: kept for p, kept in state["state"].items() if "momentum" in kept}
        adams = {p: kept for p, kept in state["state"].items() if p not in momenta}
        super().__setstate__(state | {"state": defaultdict(dict, adams)})
        self.state.update(momenta)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure`` computes the loss and the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._orthogonal_step(parameter, group["lr"], group["weight_decay"])
                        parameter.grad = None  # AdamW leaves alone what has no gradient
        super().step()
        return loss

    def _orthogonal_step(self, filters: Tensor, lr: float, weight_decay: float) -> None:
        assert filters.grad is not None
        state = self.state[filters]
        if not state:
            state["momentum"] = torch.zeros_like(filters)
        state["momentum"].mul_(self.momentum).add_(filters.grad)
        ahead = filters.grad.add(state["momentum"], alpha=self.momentum).flatten(1)
        length = lr * max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
        filters.mul_(1 - lr * weight_decay)
        filters.add_(orthogonalize(ahead).view_as(filters), alpha=-length)
