"""What the photos and masks of a training split are like: what a training is planned by."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from toyfcn.data.progress import progress
from toyfcn.data.source import Source

LOOKED_AT = 200  # photos, spread evenly over the split
SHORT = 128  # pixels of the short side at which objects are looked for
SPECK = 0.02  # of the short side: smaller ones are slivers beside void, and no objects


@dataclass(frozen=True)
class Survey:
    """What was seen; sizes of objects are shares of their photo's short side.

    An object is what is connected in a mask, corners included, of one class other than the most
    frequent one; its size is the square root of its area.
    """

    photos: int  # of the split; the rest is of at most LOOKED_AT of them
    short: float  # pixels of the short side: median
    sizes: int  # different ones
    shares: dict[str, float]  # of the labeled pixels, by class
    objects: int
    object_size: float  # median

    def lines(self) -> list[str]:
        """Say it in sentences."""
        most, *_, least = sorted(filter(None, self.shares.values()), reverse=True)
        return [
            f"{self.photos} photos to train on, {min(self.photos, LOOKED_AT)} looked at: of "
            f"{'one size' if self.sizes == 1 else f'{self.sizes} sizes'}, median short side "
            f"{self.short:g} pixels",
            f"{len(self.shares)} classes, of {100 * least:.2g} to {100 * most:.3g} % of the pixels",
            f"{self.objects} objects of a median size of {100 * self.object_size:.3g} % of the "
            "short side",
        ]


def survey(source: Source, ids: tuple[str, ...]) -> Survey:
    """Read photos' sizes and masks of a split.

    Raises:
        ValueError: a file cannot be read, or the masks hold a single class.
    """
    looked_at = ids[:: -(-len(ids) // LOOKED_AT)]
    counts, sizes = torch.zeros(256, dtype=torch.int64), []
    masks = []
    with progress("reading masks") as advance:
        for done, name in enumerate(looked_at, 1):
            mask = source.mask(name)
            counts += torch.bincount(mask.flatten(), minlength=256)
            sizes.append((mask.shape[0], mask.shape[1]))
            masks.append(reduced(mask))
            advance(done, len(looked_at))
    counts[source.void] = 0
    found: list[float] = []
    for mask in masks:
        found += object_sizes(mask, without=(int(counts.argmax()), source.void))
    found = [size for size in found if size >= SPECK]
    if not found:
        raise ValueError(f"data={source.name}: its masks hold a single class, or specks of others")
    shares = (counts / counts.sum()).tolist()
    return Survey(
        photos=len(ids),
        short=statistics.median(min(size) for size in sizes),
        sizes=len(set(sizes)),
        shares={name: shares[label] for label, name in enumerate(source.classes)},
        objects=len(found),
        object_size=statistics.median(found),
    )


def reduced(mask: Tensor) -> Tensor:
    """Bring the short side of a mask (H, W) down to SHORT pixels, if it is longer."""
    factor = SHORT / min(mask.shape)
    if factor >= 1:
        return mask
    size = [max(1, round(factor * side)) for side in mask.shape]
    return F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]


def object_sizes(mask: Tensor, without: tuple[int, ...]) -> list[float]:
    """Return the sizes of the objects in a mask uint8 (H, W), but of some labels: see ``Survey``.

    Every pixel has a number of its own, and takes the highest among its neighbors of the same label
    until nothing changes: those of an object are then equal.
    """
    sizes: list[float] = []
    for label in torch.unique(mask).tolist():
        if label in without:
            continue
        inside = mask == label
        numbers = torch.arange(1.0, mask.numel() + 1).view(mask.shape) * inside
        while True:
            higher = F.max_pool2d(numbers[None], 3, stride=1, padding=1)[0] * inside
            if torch.equal(higher, numbers):
                break
            numbers = higher
        areas = torch.unique(numbers[inside], return_counts=True)[1]
        sizes += (areas.sqrt() / min(mask.shape)).tolist()
    return sizes
