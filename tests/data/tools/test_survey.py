"""What a plan of a training looks at: objects, as scipy finds them, and sizes of photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from toyfcn.config.data import VOCConfig
from toyfcn.data.datasets import open_source
from toyfcn.data.tools.survey import object_sizes, reduced, survey


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_those_that_scipy_finds(seed: int) -> None:
    noise = np.random.default_rng(seed).random((40, 56))
    mask = np.digitize(ndimage.gaussian_filter(noise, 1.5), [0.48, 0.52]).astype(np.uint8)
    mask[:3] = 255
    expected = []
    for label in (0, 2):
        numbers, _ = ndimage.label(mask == label, np.ones((3, 3)))
        expected += list(np.sqrt(np.bincount(numbers.ravel())[1:]) / 40)
    assert len(expected) > 10
    found = object_sizes(torch.from_numpy(mask), without=(1, 255))
    assert sorted(found) == pytest.approx(sorted(expected))


def test_a_large_mask_is_reduced_and_keeps_its_labels() -> None:
    mask = torch.zeros(375, 500, dtype=torch.uint8)
    mask[100:200, 100:300] = 7
    small = reduced(mask)
    assert small.shape == (128, 171) and set(small.unique().tolist()) == {0, 7}
    (size,) = object_sizes(small, without=(0,))
    assert size == pytest.approx((100 * 200) ** 0.5 / 375, rel=0.02)


def test_a_survey_of_known_photos(tiny_voc: Path) -> None:
    source = open_source(VOCConfig(root=str(tiny_voc)))
    seen = survey(source, source.ids("trainval"))
    assert (seen.photos, seen.sizes, seen.short) == (6, 2, 32)
    assert seen.objects == 12  # a rectangle and a pixel in each mask
    assert seen.object_size == pytest.approx((1 / 32 + (12 * 14) ** 0.5 / 32) / 2)
    assert sum(seen.shares.values()) == pytest.approx(1)
    assert seen.shares["background"] == max(seen.shares.values())
