"""Further figures of a split: metrics of torchmetrics, or of the user's own (trainer.metrics)."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from toyfcn.config.target import call, entries, find, names_of
from toyfcn.text import fault


class OwnMetrics:
    """Computes each metric of a list like that of trainer.metrics over a data set.

    A metric is made with num_classes= and ignore_index= (void) where it takes these. One that takes
    ignore_index= is updated with whole maps, prediction and target int64 (B, H, W); any other with
    the labeled pixels alone, int64 (N,). Several ``processes`` add up what Metric knows to add.

    Raises:
        ValueError: one cannot be made, or does not work on a small example.
    """

    def __init__(
        self, listed: Sequence[Any], classes: Sequence[str], void: int, processes: int = 1
    ) -> None:
        self.classes, self.void = tuple(classes), void
        self.metrics: dict[str, tuple[Any, bool]] = {}  # by name; whether it takes whole maps
        self.by_class: set[str] = set()  # those with more than one figure
        for key, (target, args) in zip(
            names_of(listed), entries("trainer.metrics", listed), strict=True
        ):
            told = f"trainer.metrics: {target}"
            maker = find(told, target)
            given = {"num_classes": len(classes), "ignore_index": void}
            taken = {*inspect.signature(maker).parameters} & {*given}
            made = call(told, maker, {name: given[name] for name in taken} | args)
            missing = [m for m in ("update", "compute", "reset") if not hasattr(made, m)]
            if missing:
                raise ValueError(f"{told} makes a {type(made).__name__} without {missing[0]}()")
            if processes > 1 and not isinstance(made, Metric):
                raise ValueError(f"{told} is no torchmetrics.Metric: it takes a single process")
            self.metrics[key] = made, "ignore_index" in taken
            self.try_out(key, told)

    def try_out(self, key: str, told: str) -> None:
        """Compute a metric of a small example."""
        labels = torch.arange(len(self.classes)).expand(1, 2, -1)
        beside = torch.full((1, 2, 1), self.void)
        target = torch.cat([labels, beside], -1).byte()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.update(target, target.masked_fill(target == self.void, 0), only=key)
                figure = self.figure(key)
        except Exception as error:  # whatever code of others may raise
            raise ValueError(
                f"{told} fails on labels 0 to {len(self.classes) - 1}: {fault(error)}"
            ) from error
        if isinstance(figure, dict):
            self.by_class.add(key)
        self.metrics[key][0].reset()

    def reset(self, device: torch.device) -> None:
        """Start anew, on a device."""
        for metric, _ in self.metrics.values():
            metric.reset()
            if isinstance(metric, torch.nn.Module):
                metric.to(device)

    def update(self, target: Tensor, prediction: Tensor, only: str | None = None) -> None:
        """Count a batch: integers (B, H, W), the target with void."""
        if not self.metrics:
            return
        whole = prediction.long(), target.long()
        labeled = target != self.void
        pixels = prediction[labeled].long(), target[labeled].long()
        for key, (metric, takes_whole) in self.metrics.items():
            if only in (None, key) and (takes_whole or len(pixels[0])):
                metric.update(*(whole if takes_whole else pixels))

    def compute(self) -> dict[str, Any]:
        """Return each metric's figure: a number, or numbers by class or name; None for NaN."""
        return {key: self.figure(key) for key in self.metrics}

    def figure(self, key: str) -> Any:
        """Compute one metric.

        Raises:
            ValueError: what it computes is not numbers.
        """
        found = self.metrics[key][0].compute()
        if isinstance(found, dict):
            return {str(name): plain(value) for name, value in found.items()}
        if isinstance(found, Tensor) and found.shape == (len(self.classes),):
            return dict(zip(self.classes, map(plain, found.tolist()), strict=True))
        return plain(found)


def plain(value: Any) -> float | None:
    """Return a number as a float; None where it is not finite.

    Raises:
        ValueError: it is no single number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        shape = tuple(getattr(value, "shape", ()))
        raise ValueError(
            f"it computes a {type(value).__name__} {shape or ''}: a number, one for each class or "
            "a dict of numbers is needed"
        ) from None
    return number if math.isfinite(number) else None
