"""Training on a GPU at 256x256: ours beside a plain PyTorch loop, and the GPU's own limits.

    python benchmarks/gpu.py [--batch 32] [--steps 20] [--workers 8]

For FCN-LeNet, FCN-8s and FCN-8s on EfficientNet-Lite0, in float32 (with TF32) and bf16: images/s of
our step, with the fused loss and without, and of a plain loop with the same network
(``F.cross_entropy`` on scores of full size, channels_last, fused AdamW), all on photos that are on
the GPU; then both fed by a loader from the same JPEGs, ours and torchvision's transforms v2, with
equal workers. In turns; medians of five. Ours as shares of the GPU's limits: arithmetic against a
matrix product in the same number format, and the bytes that its operations read and write (counted
by a dispatch mode) against a copy's speed. Without deterministic mode, moving average, logs and
callbacks; of our two the faster one is compared. Prints JSON. ``--device cpu`` tries the program.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from losses import CLASSES, VOID, gflop_an_image, network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from toyfcn import hardware
from toyfcn.config.data import ShapesConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.data.source import Source
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import upsampled_cross_entropy
from toyfcn.models.losses import cross_entropy_sums, last_upsampling

SIDE = 256
NETS = {
    "FCN-LeNet": ModelConfig(name="fcn_lenet", stride=4),
    "FCN-8s": ModelConfig(name="fcn_vgg16", stride=8),
    "FCN-8s, EfficientNet-Lite0": ModelConfig(
        name="fcn_timm", stride=8, backbone="tf_efficientnet_lite0"
    ),
}
FORMATS = {"float32": torch.float32, "bf16": torch.bfloat16}
Step = Callable[[], Any]


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has it without types
    """Adds up the bytes of what operations read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            parts = torch.utils._pytree.tree_leaves([args, kwargs, result])
            self.moved += sum(part.nbytes for part in parts if isinstance(part, Tensor))
        return result


class Clock:
    """Times calls on a device."""

    def __init__(self, device: str, steps: int) -> None:
        self.on_gpu, self.steps = device == "cuda", steps

    def time(self) -> float:
        """Return seconds, when all that was asked of the device is done."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def rates(self, variants: dict[str, Step], work: float) -> dict[str, float]:
        """Return ``work``, that of one call, per second: in turns, medians of five."""
        taken: dict[str, list[float]] = {name: [] for name in variants}
        for turn, (name, step) in itertools.product(range(6), variants.items()):
            start = self.time()
            for _ in range(self.steps):
                step()
            seconds = self.time() - start
            taken[name] += [seconds] if turn else []  # the first warms up
        return {name: work * self.steps / statistics.median(s) for name, s in taken.items()}


def limits(device: str, clock: Clock, dtype: torch.dtype) -> dict[str, float]:
    """Return GFLOP/s of a matrix product in a number format, and GB/s of a copy."""
    side, size = (8192, 1 << 28) if device == "cuda" else (256, 1 << 20)
    a = torch.rand(side, side, device=device, dtype=dtype)
    block = torch.empty(size, dtype=torch.uint8, device=device)
    into = torch.empty_like(block)
    product = clock.rates({"of": lambda: torch.mm(a, a)}, 2 * side**3 / 1e9)["of"]
    copy = clock.rates({"of": lambda: into.copy_(block)}, 2 * size / 1e9)["of"]
    return {"matrix_gflops": product, "memory_gb_s": copy}


def training_step(
    config: ModelConfig, loss: Callable[[FCN, Tensor, Tensor], Tensor], device: str, dtype: Any
) -> tuple[FCN, Callable[[Tensor, Tensor], None]]:
    """Return a network, and a step of it on photos and targets that are on the device."""
    net = network(config).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    half = dtype == torch.bfloat16

    def step(image: Tensor, target: Tensor) -> None:
        with torch.autocast(device, dtype=dtype) if half else nullcontext():
            value = loss(net, image, target)
        torch.autograd.backward(value)
        optimizer.step()
        optimizer.zero_grad()

    return net, step


def fused(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return our loss in one pass."""
    weights = torch.ones(CLASSES, device=image.device)
    total, count = upsampled_cross_entropy(last_upsampling(net, image, target, weights, VOID))
    return total / count


def unfused(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return our loss with trainer.fused=false."""
    weights = torch.ones(CLASSES, device=image.device)
    total, count = cross_entropy_sums(net(image), target, weights, VOID)
    return total / count


def plain(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return the loss as one writes it."""
    return F.cross_entropy(net(image), target.long(), ignore_index=VOID)


class Standard(Dataset[tuple[Tensor, Tensor]]):
    """The photos of a source through torchvision's transforms v2: crop, scale, flip, colors."""

    def __init__(self, source: Source, ids: tuple[str, ...]) -> None:
        self.source, self.ids = source, ids
        self.transform = v2.Compose([
            v2.ScaleJitter((SIDE, SIDE), (0.5, 2.0)),
            v2.RandomCrop(
                (SIDE, SIDE), pad_if_needed=True, fill={tv_tensors.Mask: VOID, "others": 0}
            ),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3, 0.03),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        photo, mask = self.source.pair(self.ids[index])
        image, target = self.transform(tv_tensors.Image(photo), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor), target.as_subclass(Tensor)


def forever(loader: Any) -> Iterator[Any]:
    """Yield a loader's batches without end."""
    while True:
        yield from loader


def loaders(
    folder: str, images: int, batch: int, workers: int
) -> dict[str, Iterator[tuple[Tensor, Tensor]]]:
    """Return batches of drawn photos of 375x500 without end, by our loader and a standard one."""
    config = ShapesConfig(
        root=str(Path(folder, "shapes")), train_images=images, val_images=1, test_images=1,
        size=[375, 500], crop=[SIDE, SIDE], scale=[0.5, 2.0], colour=0.3, batch_size=batch,
        workers=workers,
    )  # fmt: skip
    data = SegmentationData(open_source(config), config)
    standard = DataLoader(
        Standard(data.source, data.split_ids("train")), batch, shuffle=True, num_workers=workers,
        pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0,
    )  # fmt: skip
    ours = ((part["image"], part["mask"]) for part in forever(data.train_dataloader()))
    return {"ours": ours, "plain loop": forever(standard)}


def measure(name: str, dtype: Any, args: argparse.Namespace) -> dict[str, float]:
    """Return images/s of each variant of a network, and ours as shares of the limits."""
    device, clock, batch = args.device, Clock(args.device, args.steps), args.batch
    photos = [torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8) for _ in range(4)]
    masks = [torch.randint(0, CLASSES, (batch, SIDE, SIDE), dtype=torch.uint8) for _ in range(4)]
    ready = list(zip((p.to(device) for p in photos), (m.to(device) for m in masks), strict=True))
    turn = itertools.cycle(ready)
    steps, net = {}, None
    for variant, loss in {"ours": fused, "ours, unfused": unfused, "plain loop": plain}.items():
        net, steps[variant] = training_step(NETS[name], loss, device, dtype)
    made: dict[str, Step] = {
        variant: partial(lambda step: step(*next(turn)), step) for variant, step in steps.items()
    }
    found = clock.rates(made, batch)
    with tempfile.TemporaryDirectory() as folder:
        feeds = loaders(folder, args.epoch * batch, batch, args.workers)

        def fed(variant: str) -> None:
            image, mask = next(feeds[variant])
            steps[variant](image.to(device, non_blocking=True), mask.to(device, non_blocking=True))

        found |= {
            f"{variant}, fed by its loader": rate
            for variant, rate in clock.rates(
                {variant: partial(fed, variant) for variant in feeds}, batch
            ).items()
        }
    bound = limits(device, clock, dtype)
    faster = max("ours", "ours, unfused", key=lambda variant: found[variant])
    with Traffic() as traffic:
        steps[faster](*ready[0])
    assert net is not None
    gflop = gflop_an_image(net, ready[0][0][:1])
    best = found[faster]
    return found | {
        "ours / plain loop": best / found["plain loop"],
        "share of the matrix limit": best * gflop / bound["matrix_gflops"],
        "share of the memory limit": best * traffic.moved / batch / 1e9 / bound["memory_gb_s"],
        **bound,
    }


def main() -> None:
    """Measure the networks, or say that there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epoch", type=int, default=64, help="batches in an epoch of the loaders")
    parser.add_argument("--workers", type=int, default=8, help="of each loader")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=NETS, help="one of the networks")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py measures a GPU, and there is none here")
    hardware.set_tf32(True)
    found = {
        f"{name}, {kind}": measure(name, dtype, args)
        for name, (kind, dtype) in itertools.product(NETS, FORMATS.items())
        if args.only in (None, name)
    }
    place = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(json.dumps({"device": place, **found}, indent=1))


if __name__ == "__main__":
    main()
