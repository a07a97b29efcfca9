"""A fine-tuning step of model=fcn_timm against a plain loop with the same timm network.

    python benchmarks/finetune.py [--rounds 5] [--backbone tf_efficientnet_lite0]

Both see 8 photos of 224x224, with frozen batch-norm statistics, and end in the same FCN-8s: score
layers on timm's features, bilinear enlargement. The plain loop uses ``features_only``,
``F.interpolate`` and ``F.cross_entropy`` on scores of full size. Each step runs in a process of its
own (allocators), in turns; medians over the rounds. Prints time and memory, and their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from losses import CLASSES, VOID
from step import memory
from torch import Tensor, nn

from toyfcn.config.model import ModelConfig
from toyfcn.config.trainer import TrainerConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import upsampled_cross_entropy
from toyfcn.models.losses import last_upsampling
from toyfcn.training.device import keep_memory

Loss = Callable[[Tensor, Tensor], Tensor]
BATCH, SIDE, STEPS = 8, 224, 7


class Plain(nn.Module):
    """An FCN-8s as one writes it with timm."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        net: Any = timm.create_model(backbone, features_only=True, out_indices=(2, 3, 4))
        self.net = net
        self.heads = nn.ModuleList(
            nn.Conv2d(count, CLASSES, 1) for count in net.feature_info.channels()
        )

    def forward(self, photo: Tensor) -> Tensor:
        """Score photos, float (B, 3, H, W)."""
        maps = self.net(photo)
        scores: Tensor = self.heads[-1](maps[-1])
        for features, head in zip(maps[-2::-1], list(self.heads)[-2::-1], strict=True):
            skip = head(features)
            scores = skip + F.interpolate(scores, size=skip.shape[-2:], mode="bilinear")
        return F.interpolate(scores, size=photo.shape[-2:], mode="bilinear")


def plain(backbone: str) -> tuple[nn.Module, Loss]:
    """Return the plain loop's network and loss."""
    net = Plain(backbone)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.5,) * 3, (0.5,) * 3))

    def loss(image: Tensor, target: Tensor) -> Tensor:
        scores = net((image.float() / 255 - mean) / std)
        return F.cross_entropy(scores, target.long(), ignore_index=VOID)

    return net, loss


def ours(backbone: str) -> tuple[nn.Module, Loss]:
    """Return toyfcn's network and loss, with memory reuse as in experiment=voc2007_finetune."""
    keep_memory(TrainerConfig(reuse_memory=True))
    config = ModelConfig(
        name="fcn_timm",
        backbone=backbone,
        stride=8,
        last_learned=False,
        conv_head=False,
        dropout=0,
    )
    net, weights = build_network(config, CLASSES), torch.ones(CLASSES)
    assert isinstance(net, FCN)

    def loss(image: Tensor, target: Tensor) -> Tensor:
        total, weight = upsampled_cross_entropy(last_upsampling(net, image, target, weights, VOID))
        return total / weight

    return net, loss


def measure(variant: str, backbone: str) -> dict[str, float]:
    """Take steps; return ms an image, and the peak of memory above what was there before, MB."""
    torch.manual_seed(0)
    net, loss = {"plain": plain, "ours": ours}[variant](backbone)
    for module in net.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    image = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
    target = torch.randint(0, CLASSES, (BATCH, SIDE, SIDE), dtype=torch.uint8)
    target[:, :, ::20] = VOID

    def step(count: int = BATCH, side: int = SIDE) -> None:
        torch.autograd.backward(loss(image[:count, :, :side, :side], target[:count, :side, :side]))
        optimizer.step()
        optimizer.zero_grad()

    step(2, 64)  # load libraries and allocate moments before memory is measured
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    for _ in range(3):
        step()
    taken = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    ms = 1000 * statistics.median(taken) / BATCH
    return {"ms_an_image": ms, "peak_mb": memory("VmHWM") - before}


def main() -> None:
    """Measure one variant, or both in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--variant", choices=("plain", "ours"), help="in this process")
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(measure(args.variant, args.backbone)))
        return
    found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for _ in range(args.rounds):
        for variant, runs in found.items():
            words = [__file__, "--variant", variant, "--backbone", args.backbone]
            done = subprocess.run(
                [sys.executable, *words], capture_output=True, text=True, check=True
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    pairs = list(zip(found["plain"], found["ours"], strict=True))
    for key, bar in (("ms_an_image", "≥ 1.15"), ("peak_mb", "≥ 1.25")):
        each = [statistics.median(run[key] for run in runs) for runs in found.values()]
        ratio = statistics.median(one[key] / other[key] for one, other in pairs)
        print(f"{key:<12} plain {each[0]:8.1f}   ours {each[1]:8.1f}   ratio {ratio:.2f} ({bar})")


if __name__ == "__main__":
    main()
