"""python -m unittest"""

import unittest

import numpy as np
import torch
from mycode.data import Rectangles
from mycode.networks import Small


class TestMyCode(unittest.TestCase):
    """What training relies on."""

    def test_scores_have_half_the_size(self) -> None:
        """The network's stride is 2."""
        scores = Small(classes=5)(torch.zeros(2, 3, 32, 64))
        assert scores.shape == (2, 5, 16, 32)

    def test_photos_and_masks_fit(self) -> None:
        """Each photo has a mask of its size, and the same one when read again."""
        data = Rectangles(count=3)
        for name in data.ids("train"):
            photo, mask = data.image(name), data.mask(name)
            assert photo.shape == (*mask.shape, 3)
            assert set(np.unique(mask)) == {0, 1}
            assert np.array_equal(photo, data.image(name))
