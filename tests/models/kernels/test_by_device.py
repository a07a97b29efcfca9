"""Kernels chosen by device change nothing but the time; a GPU is only pretended."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.kernels.by_device import choose_kernels

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


def pointwise(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", NETS)
def test_scores_and_gradients_stay(name: str) -> None:
    torch.manual_seed(0)
    net = build_network(ModelConfig(name=name, **NETS[name]), 5).eval()
    for layer in pointwise(net):  # heads start at zero, and would let no gradient through
        nn.init.normal_(layer.weight, std=0.1)
    photo = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)

    def step() -> tuple[Tensor, list[Tensor]]:
        scores = net(photo)
        learned = [weight for weight in net.parameters() if weight.requires_grad]
        return scores, list(torch.autograd.grad(scores.square().sum(), learned))

    before, slopes = step()
    choose_kernels(net, CPU)
    assert pointwise(net) and all(layer.dilation == (2, 2) for layer in pointwise(net))
    after, others = step()
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    for slope, other in zip(slopes, others, strict=True):
        scale = float(slope.abs().max())
        torch.testing.assert_close(other, slope, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize(("device", "dtype"), [("cuda", torch.float32), ("cpu", torch.float64)])
def test_elsewhere_nothing_is_dilated(device: str, dtype: torch.dtype) -> None:
    net = build_network(ModelConfig(), 5)
    choose_kernels(net, CPU)
    choose_kernels(net.to(dtype), torch.device(device))
    assert all(layer.dilation == (1, 1) for layer in pointwise(net))
    filters = net.get_parameter("trunk.c3_s4.0.weight")
    assert device == "cpu" or filters.is_contiguous(memory_format=torch.channels_last)
