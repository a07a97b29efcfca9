"""A data set: an object with classes, ids(split), image(id) and mask(id)."""

import numpy as np
from numpy.typing import NDArray


class Rectangles:
    """Rectangles of a random color on noise, drawn when they are asked for."""

    classes = ("ground", "rectangle")

    def __init__(self, count: int = 200, side: int = 64) -> None:
        self.counts, self.side = {"train": count, "val": 30}, side

    def ids(self, split: str) -> list[str]:
        """Return the ids of a split."""
        return [f"{split}-{number}" for number in range(self.counts[split])]

    def _random(self, name: str) -> np.random.Generator:
        split, _, number = name.partition("-")
        return np.random.default_rng([sorted(self.counts).index(split), int(number)])

    def mask(self, name: str) -> NDArray[np.uint8]:
        """Return the labels (H, W): 1 within the rectangle."""
        top, left, height, width = self._random(name).integers(8, self.side // 2, 4)
        labels = np.zeros((self.side, self.side), np.uint8)
        labels[top : top + height, left : left + width] = 1
        return labels

    def image(self, name: str) -> NDArray[np.uint8]:
        """Return the photo (H, W, 3)."""
        random = self._random(name)
        noise = random.integers(0, 160, (self.side, self.side, 3), np.uint8)
        noise[self.mask(name) == 1] = random.integers(120, 256, 3, np.uint8)
        return noise
