"""Photo and mask together: the working resolution, and the augmentations of training.

Photos are uint8 RGB (3, H, W) and stay so; normalisation belongs to the network. Masks are uint8
(H, W) and are only ever picked by the nearest pixel, never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as V


def working_size(size: Sequence[int], short_side: int | None) -> tuple[int, int]:
    """Return the (height, width) at which the network sees a photo: its short side is given."""
    height, width = size
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 photo (3, H, W) bilinearly, antialiased."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    resized: Tensor = V.resize_image(image, list(size), antialias=True)
    return resized


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 mask (H, W) by the nearest pixel centre."""
    if tuple(mask.shape) == tuple(size):
        return mask
    return F.interpolate(mask[None, None], size=size, mode="nearest-exact")[0, 0]


# what ``Choices.colours`` numbers
COLOURS = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)


class Choices(NamedTuple):
    """What is done to one window: all that was drawn at random for it, but the window itself."""

    size: tuple[int, int]  # (height, width) that it is resized to
    corner: tuple[int, int]  # (y, x) of its place on the fill, where it is smaller than the crop
    flip: bool
    quarters: int  # of a turn
    colours: tuple[tuple[int, float], ...]  # (which of COLOURS, its factor), in order


@dataclass(frozen=True)
class TrainTransform:
    """Scale jitter, crop, flip and colour jitter, joint for photo and mask.

    ``short_side``: pixels of the photo's short side before jitter (None: as it is);
    ``scale``: the range of the jitter's factor; ``crop``: (height, width) of what is cut out, with
    padding where the photo is smaller (None: the whole photo); ``max_share``: a crop in which one
    class fills more than this share of the labelled pixels is drawn again, up to 10 times;
    ``flip``: probability of a mirror image; ``turn``: random quarter turns (half turns where the
    picture is not square); ``colour``: strength of brightness, contrast and
    saturation jitter (factors from 1 - colour to 1 + colour), and a tenth of it for hue.
    """

    short_side: int | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    max_share: float = 1.0
    flip: float = 0.5
    turn: bool = False
    colour: float = 0.0
    void: int = 255
    fill: tuple[int, int, int] = (124, 116, 104)

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Transform a photo (3, H, W) and its mask (H, W), all randomness from ``seed`` alone."""
        return self.apply(*self.draw(image, mask, seed))

    def draw(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor, Choices]:
        """Cut a window out of a pair, as views, and choose what ``apply`` is to do to it.

        The cheap half, where the photo was read: it looks at the mask.
        """
        rng = np.random.default_rng(seed)
        target = working_size(mask.shape, self.short_side)
        low, high = self.scale
        if (low, high) != (1.0, 1.0):
            factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            target = max(1, round(target[0] * factor)), max(1, round(target[1] * factor))
        shape, size, corner = target, target, (0, 0)
        if self.crop is not None:
            shape, size = self.crop, (min(self.crop[0], target[0]), min(self.crop[1], target[1]))
            image, mask = self._window(image, mask, target, size, rng)
            if size != shape:
                y, x = (int(rng.integers(c - i + 1)) for c, i in zip(shape, size, strict=True))
                corner = y, x
        flip, quarters = bool(rng.random() < self.flip), 0
        if self.turn:
            quarters = int(rng.integers(4)) if shape[0] == shape[1] else 2 * int(rng.integers(2))
        colours = []
        for i in rng.permutation(3) if self.colour > 0 else ():
            colours.append((int(i), float(rng.uniform(1 - self.colour, 1 + self.colour))))
        if self.colour > 0:
            hue = self.colour / 10
            colours.append((3, float(rng.uniform(-hue, hue))))
        return image, mask, Choices(size, corner, flip, quarters, tuple(colours))

    def apply(self, image: Tensor, mask: Tensor, choices: Choices) -> tuple[Tensor, Tensor]:
        """Do what ``draw`` has chosen, on the device where the pair is; a GPU is not waited for."""
        size = choices.size
        image, mask = resize_image(image, size), resize_mask(mask, size)
        if self.crop is not None and size != self.crop:
            (y, x), (height, width) = choices.corner, size
            canvas = filled(self.fill, self.crop, image.device)
            labels = torch.full(self.crop, self.void, dtype=torch.uint8, device=image.device)
            canvas[:, y : y + height, x : x + width] = image
            labels[y : y + height, x : x + width] = mask
            image, mask = canvas, labels
        if choices.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        if self.turn:
            quarters = choices.quarters
            image, mask = image.rot90(quarters, (-2, -1)), mask.rot90(quarters, (-2, -1))
        for i, factor in choices.colours:
            image = COLOURS[i](image, factor)
        return image, mask

    def _window(
        self,
        image: Tensor,
        mask: Tensor,
        target: tuple[int, int],
        inside: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cut what will be ``inside`` pixels large once the pair is resized as to ``target``.

        The window is cut from the original pixels and only then resized: the same picture for a
        fraction of the work. A photo smaller than the crop is placed at random on the fill.
        """
        height, width = (
            max(1, round(n * i / t)) for n, i, t in zip(mask.shape, inside, target, strict=True)
        )
        for _ in range(10):
            top = int(rng.integers(mask.shape[0] - height + 1))
            left = int(rng.integers(mask.shape[1] - width + 1))
            window = mask[top : top + height, left : left + width]
            if self.max_share >= 1 or largest_share(window, self.void) <= self.max_share:
                break
        return image[:, top : top + height, left : left + width], window


def filled(fill: Sequence[int], size: tuple[int, int], device: torch.device) -> Tensor:
    """Return a picture of one colour, uint8 (3, H, W)."""
    return torch.stack([torch.full(size, c, dtype=torch.uint8, device=device) for c in fill])


def largest_share(mask: Tensor, void: int) -> float:
    """Return the share of the commonest class among the labelled pixels of a mask (0 if none)."""
    counts = torch.bincount(mask.flatten(), minlength=256)
    counts[void] = 0
    return float(counts.max() / counts.sum().clamp(min=1))
