"""Training on a GPU at 256x256: ours beside a plain PyTorch loop, and the GPU's own limits.

    python benchmarks/gpu.py [--batch 32] [--steps 20] [--workers 8]

For FCN-LeNet and FCN-8s: images/s of the fused step with uint8 photos from pinned memory, and of
the naive step fed by a standard loader of float photos; of the fused step fed by toyfcn's own
loader, with the transforms in it or on the GPU; the arithmetic as a share of a matrix product's
speed, and the bytes of the photos and activations as a share of a copy's. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from losses import CLASSES, VOID, gflop_an_image, network
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from toyfcn.config.data import ShapesConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import Upsampling, upsampled_cross_entropy
from toyfcn.models.upsampling import Deconvolution

SIZE = (256, 256)
NETS = {
    "FCN-LeNet": ModelConfig(name="fcn_lenet", stride=4),
    "FCN-8s": ModelConfig(name="fcn_vgg16", stride=8),
}


def rate(step: Callable[[], Any], work: float, steps: int) -> float:
    """Return ``work``, which is that of one call, per second, after a warm-up of three calls."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return work * steps / (time.perf_counter() - start)


def limits() -> dict[str, float]:
    """Return GFLOP/s of a float32 matrix product as the step's (no TF32), and GB/s of a copy."""
    a = torch.rand(8192, 8192, device="cuda")
    block = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    into = torch.empty_like(block)
    return {
        "matrix_gflops": rate(lambda: torch.mm(a, a), 2 * 8192**3 / 1e9, 10),
        "memory_gb_s": rate(lambda: into.copy_(block), 2 * block.numel() / 1e9, 20),
    }


def world(folder: str, batch: int, workers: int) -> SegmentationData:
    """Return drawn photos of 375x500, cropped, resized and color-jittered at random."""
    config = ShapesConfig(
        root=f"{folder}/shapes", train_images=8 * batch, val_images=1, test_images=1,
        size=[375, 500], crop=list(SIZE), scale=[0.5, 2.0], colour=0.3, batch_size=batch,
        workers=workers, cache="disk", cache_folder=folder,
    )  # fmt: skip
    return SegmentationData(open_source(config), config)


def forever(loader: Any) -> Iterator[Any]:
    """Yield a loader's batches without end."""
    while True:
        yield from loader


def fused_step(net: FCN) -> Callable[[Tensor, Tensor], None]:
    """Return our training step on photos and targets that are on the GPU."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    weights = torch.ones(CLASSES, device="cuda")

    def step(image: Tensor, target: Tensor) -> None:
        up = net.ups[-1]
        assert isinstance(up, Deconvolution)
        total, weight = upsampled_cross_entropy(
            Upsampling(net.score_map(image), up, target, weights, VOID, net.offset)
        )
        torch.autograd.backward(total / weight)
        optimizer.step()
        optimizer.zero_grad()

    return step


def naive_loop(
    config: ModelConfig, images: Tensor, masks: Tensor, batch: int
) -> Callable[[], None]:
    """Return the naive step, fed by a standard loader of float photos."""
    net = network(config).to(memory_format=torch.contiguous_format).cuda().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    batches = forever(DataLoader(TensorDataset(images.float(), masks.long()), batch))

    def step() -> None:
        image, target = (part.cuda() for part in next(batches))
        loss = F.cross_entropy(net(image), target, ignore_index=VOID)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return step


def fed_by_our_loader(
    step: Callable[[Tensor, Tensor], None], data: SegmentationData
) -> Callable[[], None]:
    """Return a step fed by toyfcn's own loader."""
    batches = forever(data.train_dataloader())

    def fed() -> None:
        batch = next(batches)
        step(batch["image"].cuda(non_blocking=True), batch["mask"].cuda(non_blocking=True))

    return fed


def measure(config: ModelConfig, batch: int, steps: int, workers: int) -> dict[str, float]:
    """Return images/s of each variant, and ours as shares of the limits."""
    bound = limits()
    images = torch.randint(0, 256, (4 * batch, 3, *SIZE), dtype=torch.uint8)
    masks = torch.randint(0, CLASSES, (4 * batch, *SIZE), dtype=torch.uint8)
    net = network(config).cuda().train()
    step = fused_step(net)
    pinned = forever(DataLoader(TensorDataset(images, masks), batch, pin_memory=True))

    def ours() -> None:
        image, target = (part.cuda(non_blocking=True) for part in next(pinned))
        step(image, target)

    plain = naive_loop(config, images, masks, batch)
    found = {"ours": rate(ours, batch, steps), "plain loop": rate(plain, batch, steps)}
    with tempfile.TemporaryDirectory() as folder:
        fed = fed_by_our_loader(step, world(folder, batch, workers))
        found["ours, with its loader"] = rate(fed, batch, steps)
    gflop = gflop_an_image(net, images[:1].cuda())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ours()
    moved = 2 * (torch.cuda.max_memory_allocated() - before) / batch / 1e9  # written and read
    return found | {
        "ours / plain loop": found["ours"] / found["plain loop"],
        "share of the matrix limit": found["ours"] * gflop / bound["matrix_gflops"],
        "share of the memory limit": found["ours"] * moved / bound["memory_gb_s"],
        **bound,
    }


def main() -> None:
    """Measure both networks, or say that there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=8, help="of toyfcn's own loader")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py measures a GPU, and there is none here")
    found = {
        name: measure(config, args.batch, args.steps, args.workers) for name, config in NETS.items()
    }
    print(json.dumps({"gpu": torch.cuda.get_device_name(), **found}, indent=1))


if __name__ == "__main__":
    main()
