"""The layers for channels_last maps equal PyTorch's own, gradients and layout included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from toyfcn.models.kernels import channels_last
from toyfcn.models.kernels.channels_last import BatchNorm, Convolution
from toyfcn.models.lenet import LeNetBackbone


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the kernels whose gradient was taken as matrix products."""
    kernels: list[int] = []
    plain = channels_last.weight_gradient

    def counted(x: Tensor, grad: Tensor, kernel: int, padding: int) -> Tensor:
        kernels.append(kernel)
        return plain(x, grad, kernel, padding)

    monkeypatch.setattr(channels_last, "weight_gradient", counted)
    return kernels


def both(ours: nn.Module, plain: nn.Module, x: Tensor) -> list[list[Tensor]]:
    """Return each layer's output for x, and the gradients by x and by its parameters."""
    plain.load_state_dict(ours.state_dict())
    found = []
    for layer in (ours, plain):
        given = x.clone().requires_grad_()
        out = layer(given)
        out.backward(torch.linspace(-1, 1, out.numel(), dtype=x.dtype).view_as(out))
        assert given.grad is not None
        found.append([out.detach(), given.grad, *(p.grad for p in layer.parameters())])
    return found


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "padding", "size"),
    [
        (16, 7, 5, 2, (9, 12)),
        (16, 5, 5, 0, (5, 6)),
        (27, 4, 3, 1, (1, 1)),
        (20, 3, 4, 5, (6, 2)),
        (1, 3, 81, 40, (3, 4)),
    ],
)
def test_convolution_equals_pytorchs(
    taken: list[int],
    dtype: torch.dtype,
    near: float,
    bias: bool,
    inputs: int,
    outputs: int,
    kernel: int,
    padding: int,
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, inputs, *size, dtype=dtype).contiguous(memory_format=torch.channels_last)
    ours = Convolution(inputs, outputs, kernel, padding, bias).to(dtype)
    plain = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias).to(dtype)
    for one, other in zip(*both(ours, plain, x), strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= near * other.abs().max().clamp(min=1)
    assert taken == [kernel]


def test_convolution_gradient_is_the_difference_quotient(taken: list[int]) -> None:
    torch.manual_seed(0)
    layer = Convolution(16, 2, 5, 2).double()
    x = torch.randn(1, 16, 3, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(),))
    assert taken


def test_frozen_weights_and_inputs_without_gradient(taken: list[int]) -> None:
    x = torch.randn(2, 16, 6, 6).contiguous(memory_format=torch.channels_last)
    layer = Convolution(16, 4, 5, 2)
    layer(x).sum().backward()  # as in a first layer: the photo needs no gradient
    assert taken == [5] and layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    assert taken == [5] and x.grad is not None


def test_left_to_pytorch_where_that_is_faster_or_necessary(taken: list[int]) -> None:
    x = torch.randn(2, 16, 6, 6)
    channels_last_x = x.contiguous(memory_format=torch.channels_last)
    Convolution(16, 4, 5, 2)(x).sum().backward()  # contiguous
    Convolution(16, 4, 1)(channels_last_x).sum().backward()
    Convolution(16, 4, 3, 1)(channels_last_x).sum().backward()  # 48 columns
    half = Convolution(16, 4, 5, 2).to(torch.bfloat16)
    half(channels_last_x.to(torch.bfloat16)).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        out = Convolution(16, 4, 5, 2)(channels_last_x)
    out.sum().backward()
    assert out.dtype == torch.bfloat16 and taken == []


@pytest.mark.parametrize("channels", [1, 6, 15, 16, 20])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_equals_pytorchs(channels: int, training: bool) -> None:
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(4, channels, 5, 7, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)
    ours, plain = BatchNorm(channels).double(), nn.BatchNorm2d(channels).double()
    nn.init.uniform_(ours.weight, -1, 1)
    ours.train(training)
    plain.train(training)
    for one, other in zip(*both(ours, plain, x), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9)
        assert one.ndim < 4 or one.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "contiguous"), [(1, True), (15, True), (16, False)])
def test_few_channels_are_normalized_in_contiguous_layout(channels: int, contiguous: bool) -> None:
    x = torch.randn(2, channels, 4, 4).contiguous(memory_format=torch.channels_last)
    norm = BatchNorm(channels)
    assert (type(norm(x).grad_fn).__name__ == "ChangeLayoutBackward") is contiguous
    assert type(norm.eval()(x).grad_fn).__name__ != "ChangeLayoutBackward"


@pytest.mark.parametrize(("channels", "side"), [(1, 4), (6, 1)])
def test_batch_norm_of_maps_in_both_layouts(channels: int, side: int) -> None:
    """The next layer works in place: the result must not be a tensor that the norm has saved."""
    x = torch.randn(3, channels, side, side, dtype=torch.float64)
    ours, plain = (
        nn.Sequential(norm(channels), nn.ReLU(inplace=True)).double()
        for norm in (BatchNorm, nn.BatchNorm2d)
    )
    for one, other in zip(*both(ours, plain, x), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-9)


def test_a_backbone_uses_them(taken: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """C5 has 5 · 16 = 80 columns; with PyTorch's layers all gradients are the same."""
    torch.manual_seed(0)
    backbone = LeNetBackbone(activation="relu", norm="batch").double()
    x = torch.randn(2, 3, 20, 24, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)

    def gradients() -> list[Tensor]:
        backbone.zero_grad()
        backbone(x)[-1].square().sum().backward()
        return [p.grad.clone() for p in backbone.parameters() if p.grad is not None]

    ours = gradients()
    assert taken == [5]
    monkeypatch.setattr(Convolution, "MIN_COLUMNS", 10**9)
    monkeypatch.setattr(BatchNorm, "MIN_CHANNELS", 0)
    for one, other in zip(ours, gradients(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)
    assert taken == [5]
