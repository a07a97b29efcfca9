"""Score a network on a split: the figures of one entry of metrics.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from toyfcn.config.trainer import Precision
from toyfcn.data.collate import Batch
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.resizing import resize_image, working_size
from toyfcn.evaluation.bootstrap import RESAMPLES, intervals
from toyfcn.evaluation.own_metrics import OwnMetrics
from toyfcn.evaluation.per_image import ImageCounts
from toyfcn.evaluation.pictures import Pixels, shown
from toyfcn.evaluation.scorer import Scorer
from toyfcn.hardware import device as device_of
from toyfcn.models.folding import folded
from toyfcn.models.kernels.by_device import choose_kernels


def score(
    net: nn.Module,
    classes: Sequence[str],
    void: int,
    loader: Iterable[list[Batch]],
    *,
    accelerator: str = "auto",
    precision: Precision = "32-true",
    test_views: int = 1,
    boundary: bool = True,
    fused: bool = True,
    resamples: int = RESAMPLES,
    own: OwnMetrics | None = None,
) -> tuple[dict[str, Any], ImageCounts]:
    """Score a network on all that a scoring loader (``SegmentationData.scoring_loader``) gives.

    ``precision`` is a value of trainer.precision; 16-mixed means bf16-mixed on a CPU, which has no
    float16. The network is left as it was found. ``resamples`` is how often the bootstrap draws;
    ``own`` are further metrics.

    Returns the figures of one entry of metrics.json, and what was counted on each photo.
    """
    device = device_of(accelerator)
    scorer = Scorer(
        classes,
        void,
        test_views=test_views,
        boundary=boundary,
        images=True,
        fused=fused,
        own=own,
    )
    scorer.reset(device)
    with prepared(net, device, precision) as inference_net, torch.inference_mode():
        for batches in loader:
            moved: list[Batch] = [
                {
                    "image": batch["image"].to(device, non_blocking=True),
                    "mask": batch["mask"].to(device, non_blocking=True),
                    "id": batch["id"],
                }
                for batch in batches
            ]
            with number_format(device, precision):
                scorer.update(inference_net, moved)
        found = ImageCounts.of(classes, scorer.rows, test_views)
        return scorer.compute() | {"intervals": intervals(found, resamples)}, found


@torch.no_grad()
def scored(net: nn.Module, photo: Tensor, size: torch.Size, short_side: int | None) -> Tensor:
    """Score a photo, uint8 (C, H, W), as validations see it: scores (1, C, *size)."""
    image = resize_image(photo, working_size(size, short_side))
    scores: Tensor = net(image[None].to(next(net.parameters()).device), tuple(size))
    return scores


def predictions(
    net: nn.Module, data: SegmentationData, ids: Iterable[str]
) -> Iterator[tuple[str, Pixels, Pixels, Pixels]]:
    """Predict photos of a data set: id, photo (H, W, 3), target and labels (H, W), all uint8.

    The photo is as pictures show it: see ``data.show_bands``.
    """
    for name in ids:
        photo, mask = data.source.pair(name)
        scores = scored(net, photo, mask.shape, data.short_side)
        labels = scores.max(1).indices[0].byte().cpu().numpy()
        yield name, shown(photo, data.config.show_bands), mask.numpy(), labels


@contextmanager
def prepared(net: nn.Module, device: torch.device, precision: Precision) -> Iterator[nn.Module]:
    """Bring a network into evaluation mode and to a device, and back where it was afterwards.

    Yields it with batch norms folded and kernels chosen, as validations have it.

    Deterministic algorithms are off meanwhile, as they are in toyfcn-eval: so a run's figures are
    those that toyfcn-eval finds for its checkpoint.
    """
    first = next(net.parameters())
    place, modes = (first.device, first.dtype), {m: m.training for m in net.modules()}
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.use_deterministic_algorithms(False)
        net.to(device, torch.float64 if precision == "64-true" else first.dtype).eval()
        inference_net = folded(net)
        choose_kernels(inference_net, device)
        yield inference_net
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        net.to(*place)
        for module, training in modes.items():
            module.training = training


def number_format(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Return a context in which a network computes in a precision."""
    if not precision.endswith("-mixed"):
        return nullcontext()
    half = torch.float16 if precision == "16-mixed" and device.type != "cpu" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, cache_enabled=False)
