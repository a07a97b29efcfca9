"""FCN-VGG16, forward + loss + backward of one photo, against the paper's net computed plainly.

The plain one is written here as in the Caffe release: photo padded by 100, dense deconvolutions,
crops by the published offsets, cross-entropy of the full score map. Ours has the same weights, in
'paper' and in 'same' geometry, with upsampling and loss in one pass. All take turns in one process;
ratios are medians over the turns, followed by their quartiles.

    python benchmarks/vgg.py                  # full width: minutes and about 8 GB
    python benchmarks/vgg.py --width 0.25 --repeats 5
    python benchmarks/vgg.py --memory         # peak memory instead, each variant in a fresh process
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import Upsampling, upsampled_cross_entropy
from toyfcn.models.upsampling import Deconvolution

CLASSES, VOID = 21, 255
OFFSETS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}  # as published
KINDS = ("plain", "paper", "same")


class Plain(nn.Module):
    """FCN-32s/16s/8s as in the prototxts, with the weights of one of ours."""

    def __init__(self, net: FCN, stride: int) -> None:
        super().__init__()
        self.net, self.offsets = net, OFFSETS[stride]
        self.ups = nn.ModuleList()
        for up in net.ups:
            assert isinstance(up, Deconvolution)
            dense = Deconvolution(CLASSES, up.stride, "dense", up.weight.requires_grad, False)
            self.ups.append(dense)

    def upsampled(self, features: list[Tensor], photo: Tensor) -> Tensor:
        """Score features, finest first, at the photo's size."""
        net = self.net
        scores: Tensor = net.heads[0](features[-1])
        for up, head, feature, offset in zip(
            self.ups, net.heads[1:], features[-2::-1], self.offsets, strict=False
        ):
            scores = up(scores)
            finer = head(feature)
            finer = finer[..., offset : offset + scores.shape[2], offset : offset + scores.shape[3]]
            scores = scores + finer
        scores, offset = self.ups[-1](scores), self.offsets[-1]
        return scores[..., offset : offset + photo.shape[2], offset : offset + photo.shape[3]]

    def forward(self, photo: Tensor) -> Tensor:
        """Score a photo at its own size."""
        features = self.net.backbone(self.net.normalize(photo).contiguous())
        return self.upsampled(features, photo)


def network(geometry: str, stride: int, width: float) -> FCN:
    """Return one of our networks; all have the same weights, and score layers that are not zero."""
    torch.manual_seed(0)
    config = ModelConfig("fcn_vgg16", stride, width, norm="none", geometry=geometry, dropout=0.0)
    net = build_network(config, CLASSES)
    assert isinstance(net, FCN)
    for head in net.heads:
        assert isinstance(head, nn.Conv2d)
        nn.init.normal_(head.weight, std=0.01)
    return net


def loss_of(kind: str, stride: int, width: float, target: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function that maps a photo to its loss."""
    weights = torch.ones(CLASSES)
    if kind == "plain":
        plain = Plain(
            network("paper", stride, width).to(memory_format=torch.contiguous_format), stride
        )
        return lambda photo: F.cross_entropy(
            plain(photo), target.long(), ignore_index=VOID, reduction="sum"
        )
    net = network(kind, stride, width)
    up = net.ups[-1]
    assert isinstance(up, Deconvolution)

    def ours(photo: Tensor) -> Tensor:
        left = Upsampling(net.score_map(photo), up, target, weights, VOID, net.offset)
        return upsampled_cross_entropy(left)[0]

    return ours


def backward(compute: Callable[[Tensor], Tensor], photo: Tensor) -> None:
    """Take a photo's loss, forward and backward."""
    torch.autograd.backward(compute(photo))


def head_of(kind: str, stride: int, target: Tensor) -> Callable[[], None]:
    """Return a function that runs only the last upsampling and the loss, forward and backward."""
    weights = torch.ones(CLASSES)
    net = network("paper" if kind == "plain" else kind, stride, 0.02)
    photo = torch.zeros(1, 3, *target.shape[1:])
    with torch.no_grad():
        scores = torch.randn_like(net.score_map(photo))
    scores = scores.contiguous().requires_grad_()
    offset, up = net.offset, net.ups[-1]
    assert isinstance(up, Deconvolution)
    if kind == "plain":
        dense = Deconvolution(CLASSES, up.stride, "dense", True, False)

        def run() -> None:
            full = dense(scores)
            full = full[..., offset : offset + target.shape[1], offset : offset + target.shape[2]]
            loss = F.cross_entropy(full, target.long(), ignore_index=VOID, reduction="sum")
            torch.autograd.backward(loss)

    else:

        def run() -> None:
            left = Upsampling(scores, up, target, weights, VOID, offset)
            torch.autograd.backward(upsampled_cross_entropy(left)[0])

    return run


def median_ratio(times: dict[str, list[float]], of: str, to: str) -> str:
    """Tell how many times as long one variant takes as another: median and quartiles."""
    ratios = [a / b for a, b in zip(times[of], times[to], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{of}/{to} {middle:.2f} ({low:.2f}–{high:.2f})"


def turns(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Run all variants in turn; return the seconds of each, without the first turn."""
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for turn in range(repeats + 1):
        for kind, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[kind].append(time.perf_counter() - start)
    return times


def pair(size: list[int]) -> tuple[Tensor, Tensor]:
    """Return a random photo (1, 3, *size) and target (1, *size)."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, CLASSES, (1, *size), dtype=torch.uint8, generator=generator)
    return photo, target


def peaks(stride: int, width: float, size: list[int]) -> str:
    """Tell the peak memory of each variant, each in a process of its own."""
    sides = [str(side) for side in size]
    command = [sys.executable, __file__, "--width", str(width), "--size", *sides]
    found = {
        kind: int(subprocess.check_output([*command, "--one", kind, str(stride)])) for kind in KINDS
    }
    return f"{stride}s peak RSS, MB: " + ", ".join(f"{kind} {mb}" for kind, mb in found.items())


def speeds(stride: int, width: float, size: list[int], repeats: int) -> Iterator[str]:
    """Tell the seconds of a step of each variant, and the ratios of its last part alone."""
    photo, target = pair(size)
    losses = {kind: loss_of(kind, stride, width, target) for kind in KINDS}
    values = {kind: compute(photo).item() for kind, compute in losses.items()}
    assert abs(values["paper"] / values["plain"] - 1) < 1e-4, values
    times = turns(
        {kind: partial(backward, compute, photo) for kind, compute in losses.items()}, repeats
    )
    seconds = ", ".join(f"{kind} {statistics.median(t):.2f} s" for kind, t in times.items())
    ratios = median_ratio(times, "plain", "same"), median_ratio(times, "paper", "plain")
    yield f"{stride}s step: {seconds}; {'; '.join(ratios)}"
    del losses
    times = turns({kind: head_of(kind, stride, target) for kind in KINDS}, 3 * repeats)
    ratios = median_ratio(times, "plain", "same"), median_ratio(times, "plain", "paper")
    yield f"{stride}s upsampling + loss: {'; '.join(ratios)}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=[375, 500])
    parser.add_argument("--strides", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--memory", action="store_true", help="peak memory of each variant")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "STRIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        kind, stride = given.one[0], int(given.one[1])
        photo, target = pair(given.size)
        compute = loss_of(kind, stride, given.width, target)
        for _ in range(2):
            backward(compute, photo)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    for stride in given.strides:
        if given.memory:
            print(peaks(stride, given.width, given.size), flush=True)
        else:
            for line in speeds(stride, given.width, given.size, given.repeats):
                print(line, flush=True)


if __name__ == "__main__":
    main()
