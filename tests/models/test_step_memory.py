"""What a step is said to need, against what PyTorch's profiler has seen it take."""

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import upsampled_cross_entropy
from toyfcn.models.losses import cross_entropy_sums, last_upsampling
from toyfcn.models.step_memory import step_memory

SIZE, BATCH, CLASSES = (96, 128), 4, 21


def measured(config: ModelConfig) -> int:
    """Return the bytes at the peak of the second of two steps with AdamW, weights included."""
    net = build_network(config, CLASSES).train()
    optimizer = torch.optim.AdamW(net.parameters())
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, CLASSES, (BATCH, *SIZE), generator=generator).to(torch.uint8)
    weights = torch.ones(CLASSES)

    def step() -> None:
        photos = torch.zeros(BATCH, 3, *SIZE, dtype=torch.uint8)
        if isinstance(net, FCN):
            rest = last_upsampling(net, photos, target, weights, 255)
            total, _ = upsampled_cross_entropy(rest)
        else:
            total, _ = cross_entropy_sums(net(photos), target, weights, 255)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
        step()
    events: Any = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = [event for event in events if event.name() == "[memory]"]
    live = peak = sum(t.nbytes for t in (*net.parameters(), *net.buffers()))
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(stride=2),
        ModelConfig(name="unet", stride=1, width=0.5),
        ModelConfig(name="fcn_vgg16", stride=8, width=0.125, norm="batch"),
    ],
    ids=lambda config: config.name,
)
def test_the_peak_of_a_step_is_foreseen(config: ModelConfig, one_thread: None) -> None:
    with torch.device("meta"):
        net = build_network(config, CLASSES)
    found = step_memory(net, CLASSES, BATCH, SIZE)
    assert found.weights == sum(t.nbytes for t in (*net.parameters(), *net.buffers()))
    assert found.peak == pytest.approx(measured(config), rel=0.15)
