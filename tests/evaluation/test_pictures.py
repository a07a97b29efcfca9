"""Overlays: what is painted, and how large they get."""

import numpy as np
import pytest

from toyfcn.data.palettes import palette
from toyfcn.evaluation.pictures import LARGEST, legend, overlay

RED = [200, 0, 0, *palette()[3:]]


@pytest.mark.parametrize(
    ("name", "colors", "painted"),
    [("background", RED, False), ("sky", RED, True), ("sky", palette(), False)],
)
def test_label_0_is_painted_unless_it_is_background(
    name: str, colors: list[int], painted: bool
) -> None:
    photo, mask = np.full((20, 200, 3), 100, np.uint8), np.zeros((20, 200), np.uint8)
    mask[:, 100:] = 1
    drawn = np.asarray(overlay(photo, mask, [name, "x"], colors))
    clear, other = drawn[5, 5].tolist(), drawn[5, 150].tolist()
    assert clear == ([155, 45, 45] if painted else [100, 100, 100])
    assert other == [int(0.45 * 100 + 0.55 * c) for c in colors[3:6]]


def test_hidden_labels_stay_clear_and_out_of_the_legend() -> None:
    photo, mask = np.full((20, 200, 3), 100, np.uint8), np.ones((20, 200), np.uint8)
    mask[:, 100:] = 2
    names = ["sky", "a", "b"]
    drawn = np.asarray(overlay(photo, mask, names, RED, hidden=[1]))
    assert (drawn[:20, :100] == 100).all()
    assert drawn[5, 150].tolist() == [int(0.45 * 100 + 0.55 * c) for c in RED[6:9]]
    alone = overlay(photo, np.full_like(mask, 2), names, RED)
    assert (drawn[20:] == np.asarray(alone)[20:]).all()


def test_a_large_photo_has_an_overlay_of_limited_size() -> None:
    photo, mask = np.zeros((1000, 4000, 3), np.uint8), np.zeros((1000, 4000), np.uint8)
    mask[:, 2000:] = 7
    drawn = overlay(photo, mask, [*map(str, range(8))], palette())
    key = legend(["a"], palette(), 1600, 2).height
    assert drawn.size == (LARGEST, 400 + key + 8) and key == 44
    assert np.asarray(drawn)[200, 1599].tolist() == [int(0.55 * c) for c in palette()[21:24]]
    tall = overlay(photo.swapaxes(0, 1), mask.T, [*map(str, range(8))], palette())
    assert tall.width == 400 and tall.height < LARGEST + 100
