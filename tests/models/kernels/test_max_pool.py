"""The pool that saves memory equals PyTorch's own, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from toyfcn.models.kernels.max_pool import MaxPool


@pytest.mark.parametrize("size", [(3, 2), (5, 7), (6, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_the_plain_pool(size: tuple[int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    # few values, so that windows hold equal maxima
    x = torch.randint(0, 3, (2, 3, *size)).float().contiguous(memory_format=layout)
    found = []
    for pool in (MaxPool(), nn.MaxPool2d(2, ceil_mode=True)):
        given = x.clone().requires_grad_()
        pooled = pool(given)
        pooled.backward(torch.arange(pooled.numel()).view_as(pooled).float())
        assert given.grad is not None
        found.append((pooled.detach(), pooled.stride(), given.grad, given.grad.stride()))
    ours, plain = found
    assert torch.equal(ours[0], plain[0]) and torch.equal(ours[2], plain[2])
    assert ours[1] == plain[1] and ours[3] == plain[3]


def test_gradient_is_the_difference_quotient() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MaxPool(), (x,))


def test_keeps_less_than_the_plain_pool() -> None:
    x = torch.randn(1, 4, 64, 64, requires_grad=True)

    def kept(pool: nn.Module) -> int:
        seen = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: seen.append(tensor) or tensor, lambda tensor: tensor
        ):
            pool(x)
        return sum(tensor.nbytes for tensor in seen)

    assert kept(MaxPool()) == 4 * 32 * 32 * 4  # an int32 a window
    assert kept(nn.MaxPool2d(2, ceil_mode=True)) == 2 * kept(MaxPool()) + x.nbytes
