"""Kernel and deconvolution against the published formula and F.interpolate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from toyfcn.models.upsampling import Deconvolution, bilinear_kernel

STRIDES = (2, 4, 8, 16, 32)


def interpolate(scores, stride):
    return F.interpolate(scores, scale_factor=stride, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("size", range(2, 65))
def test_kernel_equals_the_formula(size):
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    expected = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            expected[i, j] = (1 - abs(i - center) / factor) * (1 - abs(j - center) / factor)
    np.testing.assert_allclose(bilinear_kernel(size).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["channel", "dense"])
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (1, 3)])
def test_equals_interpolate_everywhere(stride, kind, shape):
    scores = torch.randn(2, 3, *shape)
    up = Deconvolution(3, stride, kind)
    torch.testing.assert_close(up(scores), interpolate(scores, stride), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["channel", "dense"])
@pytest.mark.parametrize("stride", STRIDES)
def test_without_replicate_equals_interpolate_away_from_borders(stride, kind):
    scores, half = torch.randn(2, 3, 5, 6), stride // 2
    full = Deconvolution(3, stride, kind, replicate=False)(scores)
    assert full.shape[-2:] == (6 * stride, 7 * stride)
    same = full[..., half : half + 5 * stride, half : half + 6 * stride]
    expected, inside = interpolate(scores, stride), (..., slice(half, -half), slice(half, -half))
    torch.testing.assert_close(same[inside], expected[inside], rtol=0, atol=1e-5)
    assert (same - expected).abs().max() > 0.01  # zeros mixed in at the border


@pytest.mark.parametrize("learned", [True, False])
def test_learned_or_fixed(learned):
    (weight,) = Deconvolution(3, 4, learned=learned).parameters()
    assert weight.requires_grad is learned


@pytest.mark.parametrize(("kind", "count"), [("channel", 1_344), ("dense", 28_224)])
def test_weight_counts(kind, count):
    assert sum(p.numel() for p in Deconvolution(21, 4, kind).parameters()) == count


def test_dense_starts_without_mixing_but_may_learn_to():
    up = Deconvolution(3, 2, "dense")
    up(torch.randn(1, 3, 4, 4)).square().sum().backward()
    mixing = ~torch.eye(3, dtype=torch.bool)
    assert up.weight[mixing].eq(0).all()
    assert up.weight.grad[mixing].ne(0).all()


def test_random_start() -> None:
    up = Deconvolution(3, 4, "dense", init="random")
    assert up.weight.shape == (3, 3, 8, 8)
    bound = (3 * 8 * 8) ** -0.5  # PyTorch's own: 1 / √fan-in
    assert 0.9 * bound < up.weight.abs().max() <= bound
    assert not torch.equal(up.weight, Deconvolution(3, 4, "dense").weight)
