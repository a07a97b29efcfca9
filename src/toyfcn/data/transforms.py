"""Photo and mask together: the working resolution, and the augmentations of training.

Photos are uint8 RGB (3, H, W) and stay so; normalisation belongs to the network. Masks are uint8
(H, W) and are only ever picked by the nearest pixel, never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        rng = np.random.default_rng(seed)
        height, width = image.shape[-2:]
        target = working_size((height, width), self.short_side)
        low, high = self.scale
        if (low, high) != (1.0, 1.0):
            factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            target = max(1, round(target[0] * factor)), max(1, round(target[1] * factor))
        if self.crop is None:
            image, mask = resize_image(image, target), resize_mask(mask, target)
        else:
            image, mask = self._crop(image, mask, target, self.crop, rng)
        if rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        if self.turn:
            quarters = (
                int(rng.integers(4)) if mask.shape[0] == mask.shape[1] else 2 * int(rng.integers(2))
            )
            image, mask = image.rot90(quarters, (-2, -1)), mask.rot90(quarters, (-2, -1))
        if self.colour > 0:
            image = self._jitter(image, rng)
        return image, mask

    def _crop(
        self,
        image: Tensor,
        mask: Tensor,
        target: tuple[int, int],
        crop: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cut a window of ``crop`` out of the pair as if it had first been resized to ``target``.

        The window is cut from the original pixels and only then resized: the same picture for a
        fraction of the work. A photo smaller than the crop is placed at random on the fill.
        """
        (height, width), inside = mask.shape, [min(c, t) for c, t in zip(crop, target, strict=True)]
        size = [
            max(1, round(n * i / t))
            for n, i, t in zip((height, width), inside, target, strict=True)
        ]
        for _ in range(10):
            top = int(rng.integers(height - size[0] + 1))
            left = int(rng.integers(width - size[1] + 1))
            window = mask[top : top + size[0], left : left + size[1]]
            if self.max_share >= 1 or largest_share(window, self.void) <= self.max_share:
                break
        image = resize_image(
            image[:, top : top + size[0], left : left + size[1]], (inside[0], inside[1])
        )
        mask = resize_mask(window, (inside[0], inside[1]))
        if (inside[0], inside[1]) == crop:
            return image, mask
        y, x = (int(rng.integers(c - i + 1)) for c, i in zip(crop, inside, strict=True))
        canvas = torch.tensor(self.fill, dtype=torch.uint8)[:, None, None].repeat(1, *crop)
        labels = torch.full(crop, self.void, dtype=torch.uint8)
        canvas[:, y : y + inside[0], x : x + inside[1]] = image
        labels[y : y + inside[0], x : x + inside[1]] = mask
        return canvas, labels

    def _jitter(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        steps = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)
        for i in rng.permutation(len(steps)):
            image = steps[i](image, float(rng.uniform(1 - self.colour, 1 + self.colour)))
        hue = self.colour / 10
        shifted: Tensor = V.adjust_hue(image, float(rng.uniform(-hue, hue)))
        return shifted


def largest_share(mask: Tensor, void: int) -> float:
    """Return the share of the commonest class among the labelled pixels of a mask (0 if none)."""
    counts = torch.bincount(mask.flatten(), minlength=256)
    counts[void] = 0
    return float(counts.max() / counts.sum().clamp(min=1))
