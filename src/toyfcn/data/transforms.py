"""Photo and mask together: the working resolution, and the augmentations of training.

Photos are uint8 (C, H, W), RGB if C is 3, and stay so; normalization belongs to the network. Masks
are uint8 (H, W) and are only ever resized by nearest neighbor, never interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from toyfcn.data.resizing import filled, resize_image, resize_mask, working_size

# in the order of the random permutation's indices; hue always comes last
COLOR_CHANGES = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)


@dataclass(frozen=True)
class TrainTransform:
    """Scale jitter, crop, flip and color jitter, joint for photo and mask.

    ``short_side``: pixels of the photo's short side before jitter (None: as it is);
    ``scale``: the range of the jitter's factor; ``crop``: (height, width) of what is cut out, with
    padding where the photo is smaller (None: the whole photo); ``max_share``: a crop in which one
    class fills more than this share of the labeled pixels is drawn again, up to 10 times;
    ``flip``: probability of a mirror image; ``turn``: random quarter turns (half turns where the
    picture is not square); ``color``: strength of brightness, contrast and
    saturation jitter (factors from 1 - color to 1 + color), and a tenth of it for hue.
    """

    short_side: int | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    max_share: float = 1.0
    flip: float = 0.5
    turn: bool = False
    color: float = 0.0
    void: int = 255
    fill: tuple[int, ...] = (124, 116, 104)

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Transform a photo (C, H, W) and its mask (H, W), all randomness from ``seed`` alone."""
        rng = np.random.default_rng(seed)
        size = working_size(mask.shape, self.short_side)
        low, high = self.scale
        if (low, high) != (1.0, 1.0):
            factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            size = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        if self.crop is None:
            image, mask = resize_image(image, size), resize_mask(mask, size)
        else:
            image, mask = self._crop(image, mask, size, self.crop, rng)
        if rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        if self.turn:
            square = mask.shape[0] == mask.shape[1]
            quarters = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
            image, mask = image.rot90(quarters, (-2, -1)), mask.rot90(quarters, (-2, -1))
        if self.color > 0:
            for i in rng.permutation(len(COLOR_CHANGES)):
                factor = float(rng.uniform(1 - self.color, 1 + self.color))
                image = COLOR_CHANGES[i](image, factor)
            hue = self.color / 10
            image = shift_hue(image, float(rng.uniform(-hue, hue)))
        return image, mask

    def _crop(
        self,
        image: Tensor,
        mask: Tensor,
        size: tuple[int, int],
        crop: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cut ``crop`` pixels out of the pair resized to ``size``, or place it on the fill."""
        inside = min(crop[0], size[0]), min(crop[1], size[1])
        image, mask = self._window(image, mask, size, inside, rng)
        image, mask = resize_image(image, inside), resize_mask(mask, inside)
        if inside == crop:
            return image, mask
        y, x = (int(rng.integers(c - i + 1)) for c, i in zip(crop, inside, strict=True))
        canvas, labels = filled(self.fill, crop), torch.full(crop, self.void, dtype=torch.uint8)
        canvas[:, y : y + inside[0], x : x + inside[1]] = image
        labels[y : y + inside[0], x : x + inside[1]] = mask
        return canvas, labels

    def _window(
        self,
        image: Tensor,
        mask: Tensor,
        target: tuple[int, int],
        inside: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cut the part that has ``inside`` pixels once the pair is resized to ``target``.

        It is cut from the original pixels and only then resized: the same picture for a fraction
        of the work. One with too much of one class (``max_share``) is drawn again.
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


def shift_hue(image: Tensor, turns: float) -> Tensor:
    """Turn the hues of a photo, uint8 (3, H, W), around the color wheel; rounded, not cut off.

    In HSV with the value V, the chroma C and the hue h in sixths of a turn, red, green and blue are
    V - C·max(0, min(k, 4 - k, 1)) with k = (n + h) mod 6 and n = 5, 3, 1. This is 5 times as fast
    as torchvision's ``adjust_hue``, which takes three quarters of all color jitter.
    """
    red, green, blue = photo = image.float()
    value = photo.amax(0)
    chroma = value - photo.amin(0)
    unit = chroma.clamp(min=1)  # a gray pixel has no hue, and needs none
    hue = torch.where(
        value == red,
        (green - blue) / unit,
        torch.where(value == green, (blue - red) / unit + 2, (red - green) / unit + 4),
    )
    turned = torch.empty_like(image)
    for channel, n in zip(turned, (5, 3, 1), strict=True):
        k = (hue + (n + 6 * turns)).remainder_(6)
        part = torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma)
        channel.copy_((value - part).round_())
    return turned


def largest_share(mask: Tensor, void: int) -> float:
    """Return the share of the most frequent class in a mask's labeled pixels (0 if none)."""
    counts = torch.bincount(mask.flatten(), minlength=256)
    counts[void] = 0
    return float(counts.max() / counts.sum().clamp(min=1))
