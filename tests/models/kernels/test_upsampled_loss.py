"""Upsampling and loss in one pass against the plain formulation: upsample, crop, cross-entropy."""

import math

import pytest
import torch

from toyfcn.models.kernels import upsampled_loss
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.kernels.upsampled_loss import (
    Upsampling,
    upsampled_cross_entropy,
    upsampled_labels,
)
from toyfcn.models.losses import cross_entropy_sums
from toyfcn.models.upsampling import Deconvolution

GEOMETRIES = {"same": (True, 0), "paper": (False, 19)}


def plain(scores, up, target, weights, void, offset):
    height, width = target.shape[-2:]
    full = up(scores)[..., offset : offset + height, offset : offset + width]
    return cross_entropy_sums(full, target, weights, void)


def in_one_pass(*given):
    return upsampled_cross_entropy(Upsampling(*given))


def outcome(loss, scores, up, target, weights, void=255, offset=0, scale=0.3):
    """Both sums, and the gradients of a multiple of the first."""
    scores = scores.detach().clone().requires_grad_()
    up.weight.grad = None
    total, weight = loss(scores, up, target, weights, void, offset)
    (total * scale).backward()
    assert not weight.requires_grad
    return total.detach(), weight, scores.grad, up.weight.grad


def assert_equal(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        if b is None:
            assert a is None
        else:
            scale = b.double().abs().max().clamp(min=1e-3)
            assert a.dtype == b.dtype
            assert ((a.double() - b.double()).abs().max() / scale).item() < tolerance


def case(kind, stride, replicate, offset, size, learned=True, classes=5, batch=3, seed=0):
    """Scores that cover a target of ``size``, a tenth of it void; weights that are not bilinear."""
    torch.manual_seed(seed)
    up = Deconvolution(classes, stride, kind, learned, replicate)
    with torch.no_grad():
        up.weight += 0.05 * torch.randn_like(up.weight)
    cells = [-(-(n + offset) // stride) for n in size]
    scores = 3 * torch.randn(batch, classes, *cells)
    target = torch.randint(0, classes, (batch, *size), dtype=torch.uint8)
    target[torch.rand(target.shape) < 0.1] = 255
    return scores, up, target, torch.rand(classes) * 3


@pytest.mark.parametrize("chunk", [1, 3000, 1 << 20])
@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("kind", ["channel", "dense"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("stride", "size"), [(4, (21, 34)), (2, (7, 1)), (8, (8, 40))])
def test_equals_the_plain_one(monkeypatch, chunk, learned, kind, geometry, stride, size):
    monkeypatch.setitem(upsampled_loss.CHUNK, "cpu", chunk)
    replicate, offset = GEOMETRIES[geometry]
    scores, up, target, weights = case(kind, stride, replicate, offset, size, learned)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        args = scores.to(dtype), up.to(dtype), target, weights.to(dtype), 255, offset
        assert_equal(outcome(in_one_pass, *args), outcome(plain, *args), tolerance)


@pytest.mark.parametrize("stride", [16, 32])
def test_equals_the_plain_one_at_large_strides(stride):
    args = *case("channel", stride, True, 0, (45, 70)), 255, 0
    assert_equal(outcome(in_one_pass, *args), outcome(plain, *args), 1e-5)


def test_gradients_by_finite_differences():
    scores, up, target, weights = case("dense", 2, True, 0, (5, 6), classes=3, batch=2)
    up = up.double()

    def loss(cells, weight):
        layer = Deconvolution(3, 2, "dense").double()
        del layer.weight
        layer.weight = weight
        return in_one_pass(cells, layer, target, weights.double(), 255)[0]

    inputs = scores.double().requires_grad_(), up.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs)


def test_only_void_gives_a_loss_of_zero():
    scores, up, target, weights = case("channel", 4, True, 0, (9, 9))
    total, weight, *grads = outcome(in_one_pass, scores, up, target.fill_(255), weights)
    assert (total.item(), weight.item()) == (0, 0)
    assert all(grad.eq(0).all() for grad in grads)


def test_void_may_be_a_label_below_the_classes():
    args = *case("channel", 4, True, 0, (9, 9)), 0, 0
    args[2][args[2] == 255] = 1
    assert_equal(outcome(in_one_pass, *args), outcome(plain, *args), 1e-5)


def test_a_label_beyond_the_classes_is_refused():
    scores, up, target, weights = case("channel", 4, True, 0, (9, 9))
    target[0, 0, 0] = 7
    with pytest.raises((IndexError, RuntimeError)):
        in_one_pass(scores, up, target, weights, 255)


def test_large_scores_neither_overflow_nor_vanish():
    args = *case("channel", 4, True, 0, (9, 9)), 255, 0
    args = args[0] * 1000, *args[1:]
    assert_equal(outcome(in_one_pass, *args), outcome(plain, *args), 1e-5)


@pytest.mark.parametrize("size", [1, 65, 69, 70, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_and_large_scores_give_finite_losses(size, dtype):
    """100 bits are 69.3 in powers of e; sums are finite even where all classes are far below 0."""
    scores, _, target, weights = case("channel", 4, True, 0, (9, 9))
    scores, up, weights = scores.to(dtype), Deconvolution(5, 4).to(dtype), weights.to(dtype)
    for sign in (1, -1):
        spread = scores.clamp(-1, 1) * size
        far = spread if sign == 1 else torch.full_like(spread, -size) + spread / 100
        args = far, up, target, weights, 255, 0
        near = 1e-5 if dtype == torch.float32 else 1e-9
        assert_equal(outcome(in_one_pass, *args), outcome(plain, *args), near)


@pytest.mark.parametrize("sign", [1, -1])
def test_powers_of_small_scores_are_finite_in_float32(sign):
    """255 classes, all just below the bound, and just above it."""
    cells, weight = torch.full((255, 1, 2, 2), sign * 1.0), torch.full((255, 1, 4), 0.25)
    assert upsampled_loss.known_small(99 * cells, weight) and not upsampled_loss.known_small(
        101 * cells, weight
    )
    sums = (99 * cells).exp2().sum(0)
    assert torch.isfinite(sums).all()
    assert (sums.log2() - sign * 99 - math.log2(255)).abs().max() < 1e-4
    assert not upsampled_loss.known_small((99 * cells).to("meta"), weight)  # no CPU


def test_repeats_bit_for_bit():
    args = case("channel", 4, True, 0, (60, 70))
    first, second = (outcome(in_one_pass, *args) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_under_autocast_it_computes_in_float32():
    scores, up, target, weights = case("channel", 4, True, 0, (20, 30))
    half = scores.bfloat16()
    expected = outcome(plain, half.float(), up, target, weights)
    with torch.autocast("cpu", torch.bfloat16):
        got = outcome(in_one_pass, half, up, target, weights)
    assert got[2].dtype == torch.bfloat16
    assert_equal([*got[:2], got[3]], [*expected[:2], expected[3]], 1e-5)


def test_without_gradient_only_the_loss_is_computed():
    scores, up, target, weights = case("channel", 4, True, 0, (20, 30))
    with torch.no_grad():
        total, _ = in_one_pass(scores, up, target, weights, 255)
    assert not total.requires_grad
    expected = plain(scores, up, target, weights, 255, 0)[0].item()
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 3000, 1 << 20])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_labels_and_sums_for_scoring(monkeypatch, geometry, chunk):
    monkeypatch.setitem(upsampled_loss.CHUNK, "cpu", chunk)
    replicate, offset = GEOMETRIES[geometry]
    scores, up, target, weights = case("channel", 4, replicate, offset, (21, 34))
    labels, *sums = upsampled_labels(Upsampling(scores, up, target, weights, 255, offset))
    full = up(scores)[..., offset : offset + 21, offset : offset + 34]
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, full.argmax(1).byte())
    assert_equal(sums, cross_entropy_sums(full, target, weights, 255), 1e-5)


def test_labels_do_not_depend_on_the_batch():
    scores, up, target, weights = case("channel", 4, True, 0, (60, 70))
    together, *_ = upsampled_labels(Upsampling(scores, up, target, weights, 255))
    for i in range(len(scores)):
        one = Upsampling(scores[i : i + 1], up, target[i : i + 1], weights, 255)
        alone, *_ = upsampled_labels(one)
        assert torch.equal(alone[0], together[i])


def test_argmax_labels_equal_argmax():
    for classes in (1, 2, 21, 255):
        scores = torch.randn(2, classes, 30, 41)
        assert torch.equal(argmax_labels(scores), scores.argmax(1).byte())
    assert argmax_labels(torch.zeros(1, 3, 2, 2)).eq(0).all()  # the first of equals
    assert argmax_labels(torch.full((1, 3, 2, 2), torch.nan)).eq(0).all()
    rows = torch.randn(1, 2, 700, 300)  # in several chunkes
    assert torch.equal(argmax_labels(rows), rows.argmax(1).byte())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["channel", "dense"])
def test_equals_the_cpu_on_a_gpu(kind):
    scores, up, target, weights = case(kind, 4, True, 0, (60, 70))
    expected = outcome(in_one_pass, scores, up, target, weights)
    on_gpu = [x.cuda() for x in (scores, up, target, weights)]
    torch.use_deterministic_algorithms(True)
    try:
        got = [x.cpu() for x in outcome(in_one_pass, *on_gpu)]
        again = [x.cpu() for x in outcome(in_one_pass, *on_gpu)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert_equal(got, expected, 1e-4)
    assert all(torch.equal(a, b) for a, b in zip(got, again, strict=True))
