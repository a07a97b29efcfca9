"""Kernels chosen by device change nothing but the time; a GPU is only pretended."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.kernels.by_device import Pointwise, choose_kernels

CPU = torch.device("cpu")
NETS: dict[str, dict[str, Any]] = {
    "fcn_lenet": {},
    "fcn_vgg16": {"stride": 8, "width": 0.1},
    "fcn_timm": {"stride": 8, "backbone": "test_efficientnet"},
    "unet": {"stride": 1, "width": 0.5},
}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def pointwise(net: nn.Module) -> list[Pointwise]:
    return [module for module in net.modules() if isinstance(module, Pointwise)]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", NETS)
def test_scores_and_gradients_stay(name: str) -> None:
    torch.manual_seed(0)
    net = build_network(ModelConfig(name=name, **NETS[name]), 5).eval()
    for layer in net.heads:  # which start at zero, and would let no gradient through
        nn.init.normal_(layer.weight, std=0.1)
    photo = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)

    def step() -> tuple[Tensor, list[Tensor]]:
        scores = net(photo)
        learned = [weight for weight in net.parameters() if weight.requires_grad]
        return scores, list(torch.autograd.grad(scores.square().sum(), learned))

    before, slopes = step()
    choose_kernels(net, CPU)
    assert pointwise(net)
    after, others = step()
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    for slope, other in zip(slopes, others, strict=True):
        scale = float(slope.abs().max())
        torch.testing.assert_close(other, slope, rtol=1e-3, atol=1e-3 * scale)


def test_a_gpu_has_pytorchs_own_and_filters_in_its_layout() -> None:
    net = build_network(ModelConfig(), 5)
    choose_kernels(net, CPU)
    choose_kernels(net, torch.device("cuda"))
    assert not pointwise(net)
    filters = net.get_parameter("trunk.c3_s4.0.weight")
    assert filters.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(1, 8, 40, 70), (1, 8, 4, 7), (2, 8, 4, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("threads")
def test_small_maps_and_doubles_take_no_slow_way(shape: tuple[int, ...], dtype: Any) -> None:
    """A dilated convolution that oneDNN does not take is PyTorch's slowest."""
    layer, x = nn.Conv2d(8, 5, 1).to(dtype), torch.randn(shape, dtype=dtype)
    expected = layer(x)
    choose_kernels(layer, CPU)
    with torch.no_grad(), profile() as seen:
        found = layer(x)
    torch.testing.assert_close(found, expected)
    names = {event.key for event in seen.key_averages()}
    assert "aten::slow_conv_dilated2d" not in names
    fast = dtype == torch.float32 and (shape[0] > 1 or torch.zeros(shape).numel() > 20_480)
    assert ("aten::mkldnn_convolution" in names) == fast or torch.get_num_threads() > 1


def test_an_export_takes_photos_of_all_sizes() -> None:
    """The choice by size is eager's: an exported program would be held to one side of it."""
    layer = nn.Conv2d(8, 5, 1)
    choose_kernels(layer, CPU)
    sizes = {"x": {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}}
    program = torch.export.export(layer, (torch.randn(1, 8, 60, 70),), dynamic_shapes=sizes)
    small = torch.randn(1, 8, 4, 7)
    torch.testing.assert_close(program.module()(small), layer(small))
