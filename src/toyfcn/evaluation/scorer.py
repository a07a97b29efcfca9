"""What a network predicts on a data set, counted.

The loss is the mean cross-entropy over all labeled pixels, without class weights, whatever the
recipe trains with: the same in validations during training as in metrics.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from toyfcn.data.collate import Batch
from toyfcn.evaluation.metrics import (
    Scores,
    boundary_counts,
    boundary_iu,
    count_pairs,
    matrix_of,
)
from toyfcn.evaluation.own_metrics import OwnMetrics
from toyfcn.evaluation.per_image import ImageRow, count_image
from toyfcn.evaluation.test_time_augmentation import augmented_probabilities
from toyfcn.hardware import process_count
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.kernels.upsampled_loss import upsampled_labels
from toyfcn.models.losses import (
    can_be_fused,
    cross_entropy_sums,
    labels_and_loss,
    last_upsampling,
    log_loss,
)

Found = tuple[Tensor, Tensor, Tensor]


class Counts(NamedTuple):
    """What is counted on photos, and is added up over photos and processes.

    ``pairs`` int64 (256, C) and ``bands`` int64 (3, C): see ``count_pairs``, ``boundary_counts``;
    ``sums`` float64 (3,), float32 on Apple's GPUs: the loss, labeled pixels, photos.
    """

    pairs: Tensor
    bands: Tensor
    sums: Tensor


class Scorer:
    """Counts what a network predicts on a data set; in several processes, the sum over all.

    ``classes`` are the names by label; ``test_views`` is how often each image is seen (see
    ``test_time_augmentation.py``); ``boundary`` adds the boundary IU; with ``images`` what is
    counted photo by photo is kept in ``rows``; ``fused`` takes labels and loss without storing
    scores at full size, where the network and the sizes allow it; ``own`` are further metrics.
    """

    def __init__(
        self,
        classes: Sequence[str],
        void: int,
        *,
        test_views: int = 1,
        boundary: bool = False,
        images: bool = False,
        fused: bool = True,
        own: OwnMetrics | None = None,
    ) -> None:
        self.classes, self.void, self.own = tuple(classes), void, own
        self.test_views, self.boundary, self.images = test_views, boundary, images
        self.fused = fused
        self.reset(torch.device("cpu"))

    def reset(self, device: torch.device) -> None:
        """Start counting anew, on a device."""
        count = len(self.classes)
        exact = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs lack
        self.counts = Counts(
            torch.zeros(256, count, dtype=torch.int64, device=device),
            torch.zeros(3, count, dtype=torch.int64, device=device),
            torch.zeros(3, dtype=exact, device=device),
        )
        self.rows: list[ImageRow] = []
        if self.own is not None:
            self.own.reset(device)

    @torch.compiler.set_stance("force_eager")  # images of all sizes, and figures that repeat
    def update(self, net: nn.Module, batches: Iterable[Batch]) -> None:
        """Count batches: groups of images of one size.

        On the CPU they go through the network one by one: a batch is no faster there, takes more
        memory, and its last bits depend on its size. So figures are the same for every batch size.
        """
        for batch in batches:
            images, masks, names = batch["image"], batch["mask"], batch["id"]
            together = len(names) if images.is_cuda else 1
            for start in range(0, len(names), together):
                part = slice(start, start + together)
                self.count(net, images[part], masks[part], names[part])

    def count(self, net: nn.Module, image: Tensor, target: Tensor, names: Sequence[str]) -> None:
        """Count images (B, C, H, W) and their targets that go through the network together."""
        classes, found = len(self.classes), self.predict(net, image, target)
        prediction, total, pixels = found(slice(None))
        self.counts.pairs.add_(count_pairs(target, prediction, classes))
        sums = torch.stack([total, pixels, torch.full_like(total, len(target))])
        self.counts.sums.add_(sums.to(self.counts.sums.dtype))
        if self.boundary:
            self.counts.bands.add_(boundary_counts(target, prediction, classes, self.void))
        if self.own is not None:
            self.own.update(target, prediction)
        for i, name in enumerate(names if self.images else ()):
            loss = (total if len(target) == 1 else found(slice(i, i + 1))[1]).item()
            row = count_image(name, target[i], prediction[i], loss, classes, self.void)
            self.rows.append(row)

    def predict(self, net: nn.Module, image: Tensor, target: Tensor) -> Callable[[slice], Found]:
        """Run the network on a batch; return a function of the part of it that is asked for.

        It gives the labels of the highest scores, uint8 like the target; Σ ℓ; labeled pixels.
        """
        weights = torch.ones(len(self.classes), device=image.device)
        size = (target.shape[-2], target.shape[-1])
        if self.test_views > 1:
            shares = augmented_probabilities(net, image, size, self.test_views)
            return lambda part: (
                argmax_labels(shares[part]),
                *log_loss(shares[part], target[part], self.void),
            )
        if self.fused and can_be_fused(net) and image.shape[-2:] == target.shape[-2:]:
            of = last_upsampling(net, image, target, weights, self.void)
            return lambda part: upsampled_labels(
                dataclasses.replace(of, scores=of.scores[part], target=target[part])
            )
        scores = net(image, size)
        if self.fused:
            return lambda part: labels_and_loss(scores[part], target[part], weights, self.void)
        return lambda part: (
            argmax_labels(scores[part]),
            *cross_entropy_sums(scores[part], target[part], weights, self.void),
        )

    def total(self) -> Counts:
        """Return the counts of all processes."""
        if process_count() > 1:
            found = Counts(*(part.clone() for part in self.counts))
            for part in found:
                torch.distributed.all_reduce(part)
            return found
        return self.counts

    def confusion(self) -> Tensor:
        """Return the confusion matrix, int64 (C, C), rows the ground truth.

        Raises:
            ValueError: a mask held a label outside the classes.
        """
        return matrix_of(self.total().pairs, self.void)

    def compute(self) -> dict[str, Any]:
        """Return the figures as plain numbers, None where one is not defined.

        Raises:
            ValueError: a mask held a label outside the classes.
        """
        pairs, bands, sums = self.total()
        figures = Scores.of(matrix_of(pairs, self.void)).as_dict(self.classes) | {
            "loss": (sums[0] / sums[1]).item() if sums[1] > 0 else None,
            "images": int(sums[2].item()),
        }
        if self.boundary:
            figures["boundary_miou"] = boundary_iu(bands)
        return figures | (self.own.compute() if self.own is not None else {})
