"""Score a network on a split: the figures of one entry of metrics.json.

The loss is the mean cross-entropy over all labeled pixels, without class weights, whatever the
recipe trains with: the same in validations during training as in metrics.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toyfcn.config.trainer import Precision
from toyfcn.data.collate import Batch
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.transforms import resize_image, working_size
from toyfcn.evaluation.bootstrap import RESAMPLES, intervals
from toyfcn.evaluation.metrics import BoundaryIU, ConfusionMatrix, Scores, boundary, confusion
from toyfcn.evaluation.own_metrics import OwnMetrics
from toyfcn.evaluation.per_image import ImageCounts
from toyfcn.evaluation.pictures import Pixels, shown
from toyfcn.evaluation.test_time_augmentation import augmented_probabilities
from toyfcn.hardware import device as device_of
from toyfcn.hardware import process_count
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.kernels.upsampled_loss import upsampled_labels
from toyfcn.models.losses import can_be_fused, cross_entropy_sums, last_upsampling

Found = tuple[Tensor, Tensor, Tensor]
DISTANCE = 2  # pixels from a true boundary


class ImageCounter:
    """Counts photo by photo what a network predicts; see ``ImageCounts``."""

    def __init__(self, classes: Sequence[str], void: int) -> None:
        self.classes, self.void = tuple(classes), void
        self.rows: list[tuple[str, list[int], Tensor, Tensor, float]] = []

    def update(self, name: str, target: Tensor, prediction: Tensor, loss: float) -> None:
        """Count a photo: target uint8 (H, W), void included, and the labels predicted (H, W)."""
        wrong = (target != prediction) & (target != self.void)
        near = target[wrong & boundary(target[None], DISTANCE, ends=False)[0]]
        matrix = confusion(target, prediction, len(self.classes), self.void)
        counts = torch.bincount(near.long(), minlength=len(self.classes))
        self.rows.append((name, list(target.shape), matrix.cpu().int(), counts.cpu().int(), loss))

    def compute(self) -> ImageCounts:
        """Return the counts of all photos, by id: batches of other sizes bring another order."""
        rows = sorted(self.rows, key=lambda row: row[0])
        ids, sizes, matrices, near, losses = zip(*rows, strict=True)
        size, matrix, wrong = (np.stack(c).astype(np.int64) for c in (sizes, matrices, near))
        return ImageCounts(self.classes, ids, size, matrix, wrong, np.array(losses, float))


class Scorer(nn.Module):
    """Counts what a network predicts on a data set; in several processes, the sum over all.

    ``classes`` are the names by label; ``test_views`` is how often each image is seen (see
    ``test_time_augmentation.py``); ``boundary`` adds the boundary IU; ``images`` counts photo
    by photo too; ``fused`` takes labels and loss without storing scores at full size, where the
    network and the sizes allow it; ``own`` are further metrics.
    """

    def __init__(
        self,
        classes: Sequence[str],
        void: int,
        *,
        test_views: int = 1,
        boundary: bool = False,
        images: ImageCounter | None = None,
        fused: bool = True,
        own: OwnMetrics | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.void, self.own = tuple(classes), void, own
        self.test_views, self.images, self.fused = test_views, images, fused
        self.matrix = ConfusionMatrix(len(self.classes), void)
        self.boundary = BoundaryIU(len(self.classes), void) if boundary else None
        self.sums = torch.zeros(3, dtype=torch.float64)  # Σ ℓ, labeled pixels, images

    def reset(self) -> None:
        """Start counting anew."""
        self.matrix.reset()
        if self.boundary is not None:
            self.boundary.reset()
        if self.own is not None:
            self.own.reset(self.matrix.device)
        self.sums = torch.zeros_like(self.sums, device=self.matrix.device)

    @torch.compiler.set_stance("force_eager")  # images of all sizes, and figures that repeat
    def update(self, net: nn.Module, batches: Iterable[Batch]) -> None:
        """Count one loader batch: groups of images of one size.

        On the CPU they go through the network one by one: a batch is no faster there, takes more
        memory, and its last bits depend on its size. So figures are the same for every batch size.
        """
        for batch in batches:
            images, masks, count = batch["image"], batch["mask"], len(batch["id"])
            together = count if images.is_cuda else 1
            for start in range(0, count, together):
                image, target = images[start : start + together], masks[start : start + together]
                found = self.predict(net, image, target)
                prediction, total, pixels = found(slice(None))
                self.matrix.update(target, prediction)
                if self.boundary is not None:
                    self.boundary.update(target, prediction)
                if self.own is not None:
                    self.own.update(target, prediction)
                seen = torch.full_like(total, len(target))
                self.sums += torch.stack([total, pixels, seen]).double()
                if self.images is not None:
                    for i, name in enumerate(batch["id"][start : start + together]):
                        loss = total if len(target) == 1 else found(slice(i, i + 1))[1]
                        self.images.update(name, target[i], prediction[i], loss.item())

    def predict(self, net: nn.Module, image: Tensor, target: Tensor) -> Callable[[slice], Found]:
        """Run the network on a batch; return a function of the part of it that is asked for.

        It gives the labels of the highest scores, uint8 like the target; Σ ℓ; labeled pixels.
        """
        weights = torch.ones(len(self.classes), device=image.device)
        size = (target.shape[-2], target.shape[-1])
        if self.test_views > 1:
            ranked = augmented_probabilities(net, image, size, self.test_views)
            scores = ranked.log()
        elif self.fused and can_be_fused(net) and image.shape[-2:] == target.shape[-2:]:
            of = last_upsampling(net, image, target, weights, self.void)
            return lambda part: upsampled_labels(
                dataclasses.replace(of, scores=of.scores[part], target=target[part])
            )
        else:
            ranked = scores = net(image, size)
        return lambda part: (
            argmax_labels(ranked[part]),
            *cross_entropy_sums(scores[part], target[part], weights, self.void),
        )

    def confusion(self) -> Tensor:
        """Return the confusion matrix, int64 (C, C), rows the ground truth."""
        return self.matrix.compute()

    def compute(self) -> dict[str, Any]:
        """Return the figures as plain numbers, None where one is not defined."""
        sums = self.sums.clone()
        if process_count() > 1:
            torch.distributed.all_reduce(sums)
        figures = Scores.of(self.confusion()).as_dict(self.classes) | {
            "loss": (sums[0] / sums[1]).item() if sums[1] > 0 else None,
            "images": int(sums[2].item()),
        }
        if self.boundary is not None:
            figures["boundary_miou"] = self.boundary.compute()
        return figures | (self.own.compute() if self.own is not None else {})


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
    device, images = device_of(accelerator), ImageCounter(classes, void)
    scorer = Scorer(
        classes,
        void,
        test_views=test_views,
        boundary=boundary,
        images=images,
        fused=fused,
        own=own,
    ).to(device)
    scorer.reset()
    with prepared(net, device, precision), torch.inference_mode():
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
                scorer.update(net, moved)
        found = dataclasses.replace(images.compute(), views=test_views)
        return scorer.compute() | {"intervals": intervals(found, resamples)}, found


@torch.no_grad()
def scored(
    net: nn.Module, data: SegmentationData, ids: Iterable[str]
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Score photos of a data set: id, photo (C, H, W), target (H, W), scores (1, C, H, W)."""
    device = next(net.parameters()).device
    for name in ids:
        photo, mask = data.source.pair(name)
        image = resize_image(photo, working_size(mask.shape, data.short_side))
        yield name, photo, mask, net(image[None].to(device), tuple(mask.shape))


def predictions(
    net: nn.Module, data: SegmentationData, ids: Iterable[str]
) -> Iterator[tuple[str, Pixels, Pixels, Pixels]]:
    """Predict photos of a data set: id, photo (H, W, 3), target and labels (H, W), all uint8.

    The photo is as pictures show it: see ``data.show_bands``.
    """
    for name, photo, mask, scores in scored(net, data, ids):
        labels = scores.max(1).indices[0].byte().cpu().numpy()
        yield name, shown(photo, data.config.show_bands), mask.numpy(), labels


@contextmanager
def prepared(net: nn.Module, device: torch.device, precision: Precision) -> Iterator[None]:
    """Bring a network into evaluation mode and to a device, and back where it was afterwards.

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
        yield
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
