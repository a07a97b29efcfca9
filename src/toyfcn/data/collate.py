"""A batch: what it holds, and how samples become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.utils.data import default_collate

from toyfcn.data.transforms import Choices, filled


class Batch(TypedDict):
    """Photos of one size with their masks.

    ``image``: uint8 RGB (B, 3, h, w) at the working resolution; ``mask``: uint8 (B, H, W), void
    included, in training of the photo's size, in scoring of the original's; ``id``: B names.
    """

    image: Tensor
    mask: Tensor
    id: list[str]


class CutBatch(NamedTuple):
    """A training batch on its way to the device, where it becomes a ``Batch``.

    ``images``: uint8 (3, h, w), of any sizes; ``masks``: uint8 (h, w); ``id``: names; ``choices``:
    what is done to each.
    """

    images: list[Tensor]
    masks: list[Tensor]
    id: list[str]
    choices: list[Choices]


Sample = tuple[Tensor, Tensor, str]
CutSample = tuple[Tensor, Tensor, str, Choices]


def group(samples: list[Sample]) -> list[Batch]:
    """Put samples of like sizes together, in order of first appearance: nothing is padded."""
    sizes: dict[tuple[torch.Size, torch.Size], list[Sample]] = {}
    for sample in samples:
        sizes.setdefault((sample[0].shape, sample[1].shape), []).append(sample)
    return [_stack(alike) for alike in sizes.values()]


def single(samples: list[Sample], fill: Sequence[int], void: int) -> Batch:
    """Stack the samples of a training batch, all brought to the largest height and width.

    What is added, at the right and below, has the colour ``fill`` in the photo and is ``void`` in
    the mask, so that it enters neither loss nor metrics. Of a small batch, one of several processes
    may have no share: (0, 3, 0, 0).
    """
    if len({image.shape for image, _, _ in samples}) == 1:
        return _stack(samples)
    height, width = (max((mask.shape[i] for _, mask, _ in samples), default=0) for i in (0, 1))
    device = samples[0][1].device if samples else torch.device("cpu")
    size, count = (height, width), len(samples)
    batch: Batch = {
        "image": filled(fill, size, device).expand(count, -1, -1, -1).clone(),
        "mask": torch.full((count, *size), void, dtype=torch.uint8, device=device),
        "id": [name for _, _, name in samples],
    }
    for i, (image, mask, _) in enumerate(samples):
        batch["image"][i, :, : mask.shape[0], : mask.shape[1]] = image
        batch["mask"][i, : mask.shape[0], : mask.shape[1]] = mask
    return batch


def _stack(samples: list[Sample]) -> Batch:
    images, masks, names = map(list, zip(*samples, strict=True))
    # in a worker, default_collate stacks straight into shared memory
    return {"image": default_collate(images), "mask": default_collate(masks), "id": list(names)}


def together(samples: list[CutSample]) -> CutBatch:
    """Put cut samples into one batch as they are."""
    return CutBatch(
        images=[image for image, _, _, _ in samples],
        masks=[mask for _, mask, _, _ in samples],
        id=[name for _, _, name, _ in samples],
        choices=[choices for _, _, _, choices in samples],
    )
