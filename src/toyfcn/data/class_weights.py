"""What the training masks hold, and the class weights that follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from toyfcn.data.cache import fingerprint
from toyfcn.data.source import FileSource, Source
from toyfcn.files import write_json


def count_pixels(source: Source, ids: tuple[str, ...]) -> Tensor:
    """Read all masks and count the pixels of each class, void left out: int64 (C,)."""
    counts = torch.zeros(256, dtype=torch.int64)
    for name in ids:
        counts += torch.bincount(source.mask(name).flatten(), minlength=256)
    counts[source.void] = 0  # which may be one of the classes' labels
    return counts[: len(source.classes)]


def cached_counts(source: Source, ids: tuple[str, ...], folder: Path) -> Tensor:
    """Count the pixels of each class once; later calls read what the first one wrote."""
    if not isinstance(source, FileSource):
        return count_pixels(source, ids)  # whose changes nobody would notice
    # not .counts.json, as earlier versions called it: there void was counted
    path = folder / f"{source.name}-{fingerprint(source, ids)}.class_counts.json"
    try:
        counts = torch.tensor(json.loads(path.read_text()), dtype=torch.int64)
        if counts.shape == (len(source.classes),):
            return counts
    except (OSError, ValueError, TypeError):
        pass  # not there, or not whole: count
    counts = count_pixels(source, ids)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, counts.tolist())
    return counts


def listed_weights(weights: list[float], classes: tuple[str, ...]) -> Tensor:
    """Return the user's own loss weights: float64 (C,).

    Raises:
        ValueError: there are not as many as classes.
    """
    if len(weights) != len(classes):
        raise ValueError(
            f"recipe.class_weights lists {len(weights)} numbers, but there are {len(classes)} "
            f"classes: {', '.join(classes)}"
        )
    return torch.tensor(weights, dtype=torch.float64)


def class_weights(counts: Tensor, kind: str) -> Tensor:
    """Return loss weights, float64 (C,), from pixel counts (C,): clipped to [1/4, 4].

    ``sqrt``: the square root of the inverse frequency, relative to the median class; ``median``:
    median frequency balancing, without the root. A class that never occurs gets weight 1.
    """
    weights = torch.ones(len(counts), dtype=torch.float64)
    if kind == "none":
        return weights
    seen = counts > 0
    inverse = counts[seen].double().median() / counts[seen].double()
    weights[seen] = (inverse.sqrt() if kind == "sqrt" else inverse).clamp(0.25, 4)
    return weights


def loss_weights(
    kind: str | list[float], source: Source, ids: tuple[str, ...], folder: Path
) -> Tensor | None:
    """Return the loss weights (C,) that recipe.class_weights asks for; None: all alike.

    ``ids`` are the photos to count; ``folder`` keeps the counts for the next run.
    """
    if kind == "none":
        return None
    if isinstance(kind, list):
        return listed_weights(kind, source.classes)
    return class_weights(cached_counts(source, ids, folder), kind)
