"""What the training masks hold, and the class weights that follow from it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import torch
from torch import Tensor

from toyfcn.data.cache import fingerprint
from toyfcn.data.source import Source


def count_pixels(source: Source, ids: tuple[str, ...]) -> Tensor:
    """Read all masks and count the labelled pixels of each class: int64 (C,)."""
    counts = torch.zeros(256, dtype=torch.int64)
    for name in ids:
        counts += torch.bincount(source.mask(name).flatten(), minlength=256)
    return counts[: len(source.classes)]


def cached_counts(source: Source, ids: tuple[str, ...], folder: Path) -> Tensor:
    """Count the pixels of each class once; later calls read what the first one wrote."""
    path = folder / f"{source.name}-{fingerprint(source, ids)}.counts.json"
    try:
        counts = torch.tensor(json.loads(path.read_text()), dtype=torch.int64)
        if counts.shape == (len(source.classes),):
            return counts
    except (OSError, ValueError, TypeError):
        pass  # not there, or not whole: count
    counts = count_pixels(source, ids)
    folder.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    aside.write_text(json.dumps(counts.tolist()))
    aside.replace(path)
    return counts


def listed_weights(weights: list[float], classes: tuple[str, ...]) -> Tensor:
    """Return the user's own loss weights (C,).

    Raises:
        ValueError: there are not as many as classes.
    """
    if len(weights) != len(classes):
        raise ValueError(
            f"recipe.class_weights lists {len(weights)} numbers, but there are {len(classes)} "
            f"classes: {', '.join(classes)}"
        )
    return torch.tensor(weights, dtype=torch.float32)


def class_weights(counts: Tensor, kind: str) -> Tensor:
    """Return loss weights (C,) from pixel counts (C,): mild, clipped to [1/4, 4], 1 by default.

    ``sqrt``: the square root of the inverse frequency, relative to the median class; ``median``:
    median frequency balancing, without the root. A class that never occurs gets weight 1.
    """
    weights = torch.ones(len(counts))
    if kind == "none":
        return weights
    seen = counts > 0
    inverse = counts[seen].double().median() / counts[seen].double()
    weights[seen] = (inverse.sqrt() if kind == "sqrt" else inverse).clamp(0.25, 4).float()
    return weights
