"""A batch: what it holds, and how samples become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import default_collate

from toyfcn.data.resizing import filled


class Batch(TypedDict):
    """Photos of one size with their masks.

    ``image``: uint8 (B, C, h, w) at the working resolution; ``mask``: uint8 (B, H, W), void
    included, in training of the photo's size, in scoring of the original's; ``id``: B names.
    """

    image: Tensor
    mask: Tensor
    id: list[str]


Sample = tuple[Tensor, Tensor, str]


def names(batch: Batch | list[Batch]) -> list[str]:
    """Return the ids of a batch, or of a list of such."""
    return [name for part in (batch if isinstance(batch, list) else [batch]) for name in part["id"]]


def group_by_size(samples: list[Sample]) -> list[Batch]:
    """Stack samples of equal sizes, in order of first appearance: nothing is padded."""
    sizes: dict[tuple[torch.Size, torch.Size], list[Sample]] = {}
    for sample in samples:
        sizes.setdefault((sample[0].shape, sample[1].shape), []).append(sample)
    return [_stack(alike) for alike in sizes.values()]


def pad_and_stack(samples: list[Sample], fill: Sequence[int], void: int) -> Batch:
    """Stack the samples of a training batch, all padded to the largest height and width.

    The padding, at the right and below, has the color ``fill`` in the photo and is ``void`` in the
    mask, so that it enters neither loss nor metrics. Of a small batch, one of several processes
    may have no share: (0, C, 0, 0).
    """
    if len({image.shape for image, _, _ in samples}) == 1:
        return _stack(samples)
    height, width = (max((mask.shape[i] for _, mask, _ in samples), default=0) for i in (0, 1))
    size, count = (height, width), len(samples)
    batch: Batch = {
        "image": filled(fill, size).expand(count, -1, -1, -1).clone(),
        "mask": torch.full((count, *size), void, dtype=torch.uint8),
        "id": [name for _, _, name in samples],
    }
    for i, (image, mask, _) in enumerate(samples):
        batch["image"][i, :, : mask.shape[0], : mask.shape[1]] = image
        batch["mask"][i, : mask.shape[0], : mask.shape[1]] = mask
    return batch


def _stack(samples: list[Sample]) -> Batch:
    images, masks, ids = map(list, zip(*samples, strict=True))
    # in a worker, default_collate stacks straight into shared memory
    return {"image": default_collate(images), "mask": default_collate(masks), "id": list(ids)}
