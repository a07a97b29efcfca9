"""How much memory a training step will need: followed on the meta device, nothing computed."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toyfcn.models.backbone import channels_of
from toyfcn.models.build import Network
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import UpsampledCrossEntropy, in_blocks
from toyfcn.models.losses import last_upsampling


@dataclass(frozen=True)
class StepMemory:
    """Bytes at the peak of a step: the weights, AdamW's two averages of them, and all of it."""

    weights: int
    optimizer: int
    peak: int


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Adds up the bytes of all tensors that live while it is on; ``peak`` is the highest sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it has made."""
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self.add(value)
        return made

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        if storage not in self.known:
            self.known.add(storage)
            weakref.finalize(storage, self.free, storage.nbytes())
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)

    def free(self, size: int) -> None:
        """Take off what was freed."""
        self.live -= size


def step_memory(net: Network, classes: int, batch: int, size: tuple[int, int]) -> StepMemory:
    """Estimate the peak of a step on a CPU, in float32, all weights learned by AdamW, fused head.

    ``net`` is on the meta device; ``size`` is (height, width) of its photos. What libraries take
    while they compute a layer is not counted: some convolutions need a copy of their weights.
    """
    counter = PeakMemory()
    for tensor in (*net.parameters(), *net.buffers()):
        counter.add(tensor)
    weights = counter.live
    learned = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
    net.train()
    with counter:
        photos = torch.zeros(batch, channels_of(net), *size, dtype=torch.uint8, device="meta")
        target = torch.zeros(batch, *size, dtype=torch.uint8, device="meta")
        if isinstance(net, FCN):
            ones = torch.ones(classes, device="meta")
            blocks, _ = in_blocks(last_upsampling(net, photos, target, ones, 255))
            loss, _ = UpsampledCrossEntropy.apply(blocks.cells, blocks.weight, blocks, True)
        else:
            loss = F.cross_entropy(net(photos), target.long())
        loss.backward()
    net.zero_grad()
    return StepMemory(weights, 2 * learned, counter.peak + 2 * learned)
