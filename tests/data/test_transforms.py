"""Photo and mask stay together, and masks are never mixed."""

import colorsys

import numpy as np
import pytest
import torch
from torch import Tensor

from toyfcn.data.resizing import resize_mask, working_size
from toyfcn.data.transforms import TrainTransform, largest_share, shift_hue


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """A photo whose red channel is its mask: blocks of 8 pixels with the labels 0, 40, … 200."""
    blocks = np.random.default_rng(0).integers(0, 6, (9, 12)).astype(np.uint8) * 40
    mask = torch.from_numpy(blocks.repeat(8, 0).repeat(8, 1))
    return torch.stack([mask, 255 - mask, mask]), mask


@pytest.mark.parametrize("seed", range(12))
def test_photo_and_mask_move_together(pair: tuple[Tensor, Tensor], seed: int) -> None:
    transform = TrainTransform(crop=(48, 40), scale=(0.7, 1.6), fill=(255, 0, 255))
    image, mask = transform(*pair, seed=seed)
    assert image.shape == (3, 48, 40) and mask.shape == (48, 40)
    assert set(mask.unique().tolist()) <= {0, 40, 80, 120, 160, 200, 255}  # nothing is mixed
    agree = (image[0].int() - mask.int()).abs() < 20  # but for pixels on edges, antialiased
    assert agree.float().mean() > 0.6
    again, labels = transform(*pair, seed=seed)
    assert torch.equal(again, image) and torch.equal(labels, mask)


def test_flip_only(pair: tuple[Tensor, Tensor]) -> None:
    image, mask = TrainTransform(flip=1.0)(*pair, seed=0)
    assert torch.equal(mask, pair[1].flip(-1)) and torch.equal(image, pair[0].flip(-1))
    image, mask = TrainTransform(flip=0.0)(*pair, seed=0)
    assert torch.equal(mask, pair[1]) and torch.equal(image, pair[0])


def test_padding_is_fill_and_void(pair: tuple[Tensor, Tensor]) -> None:
    image, mask = TrainTransform(crop=(100, 120), flip=0, fill=(1, 2, 3))(*pair, seed=4)
    void = mask == 255
    assert int((~void).sum()) == pair[1].numel()
    assert torch.equal(image[:, void].unique(dim=1), torch.tensor([[1], [2], [3]]).byte())


def test_a_share_limit_redraws_the_window() -> None:
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[:, 48:] = 1
    image = mask.expand(3, -1, -1)
    free = TrainTransform(crop=(16, 16), flip=0)
    limited = TrainTransform(crop=(16, 16), flip=0, max_share=0.9)
    shares = [
        [largest_share(t(image, mask, s)[1], 255) for s in range(60)] for t in (free, limited)
    ]
    assert np.mean(np.array(shares[1]) > 0.9) < 0.5 * np.mean(np.array(shares[0]) > 0.9)


def test_color_jitter_leaves_the_mask(pair: tuple[Tensor, Tensor]) -> None:
    image, mask = TrainTransform(flip=0, color=0.4)(*pair, seed=1)
    assert torch.equal(mask, pair[1]) and not torch.equal(image, pair[0])
    assert image.dtype == torch.uint8


def test_working_size_and_nearest_centers() -> None:
    assert working_size((375, 500), 64) == (64, 85)
    assert working_size((500, 375), None) == (500, 375)
    mask = torch.arange(8, dtype=torch.uint8)[None].repeat(8, 1)
    assert resize_mask(mask, (2, 4))[0].tolist() == [1, 3, 5, 7]  # centers 1, 3, 5, 7 (rounded up)


def test_quarter_turns_of_squares_and_half_turns_of_others(pair: tuple[Tensor, Tensor]) -> None:
    image, mask = pair
    turns = TrainTransform(flip=0, turn=True)
    seen = {tuple(turns(image, mask, s)[1][0, ::8].tolist()) for s in range(20)}
    assert seen == {tuple(m[0, ::8].tolist()) for m in (mask, mask.rot90(2))}
    square, photo = mask[:64, :64], image[:, :64, :64]
    results = [turns(photo, square, s) for s in range(30)]
    assert len({tuple(m.flatten().tolist()) for _, m in results}) == 4
    assert all(torch.equal(i[0], m) for i, m in results)


@pytest.mark.parametrize("turns", [0.0, 0.03, -0.04, 1 / 3, 0.5])
def test_hues_turn_as_in_pythons_own_colorsys(turns: float) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 20, 20), np.uint8)
    pixels[:, 0, :8] = [[0, 9, 255, 255, 0, 7, 255, 0]] * 3  # black, white and gray
    pixels[:, 1, :3] = np.eye(3) * 255
    turned = shift_hue(torch.from_numpy(pixels), turns)
    assert turned.dtype == torch.uint8
    for y, x in np.ndindex(20, 20):
        h, s, v = colorsys.rgb_to_hsv(*map(float, pixels[:, y, x]))
        wanted = colorsys.hsv_to_rgb((h + turns) % 1, s, v)
        assert np.abs(turned[:, y, x].numpy() - np.array(wanted)).max() <= 0.5001
