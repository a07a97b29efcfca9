"""Losses, summed over the labeled pixels, so that batches and processes add up.

Cross-entropy is the FCN's; others are a library's or the user's own.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from functools import partial
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.target import call, find
from toyfcn.models.custom import CustomNetwork
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels import compiled
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.kernels.upsampled_loss import Upsampling, weight_by_label
from toyfcn.models.upsampling import Deconvolution
from toyfcn.text import fault

LIBRARY = "segmentation_models_pytorch.losses:"
LOSSES = {  # of the library, by recipe.loss
    "focal": "FocalLoss",
    "dice": "DiceLoss",
    "jaccard": "JaccardLoss",
    "lovasz": "LovaszLoss",
}


class CustomLoss(nn.Module):
    """A loss of a library or of the user's own, weighted by the labeled pixels it was taken over.

    It is made with ``recipe.loss_args``, and, where its signature has them, with ``ignore_index``,
    and with the class weights as ``weight`` (a tensor) or ``class_weights`` (a list). Made with an
    ignore index it is called with scores (B, C, H, W) and labels int64 (B, H, W), void included;
    without one with those of the labeled pixels alone, (N, C) and (N,).

    Raises:
        ValueError: it cannot be made, or there are class weights that it does not take.
    """

    def __init__(self, recipe: RecipeConfig, void: int, class_weights: Tensor | None) -> None:
        super().__init__()
        self.name, self.void = f"recipe.loss={recipe.loss}", void
        target, args = recipe.loss, dict(recipe.loss_args or {})
        if target in LOSSES:
            if importlib.util.find_spec(LIBRARY.partition(".")[0]) is None:
                raise ValueError(f"pip install 'toyfcn[losses]' brings what {self.name} needs")
            target, args = LIBRARY + LOSSES[target], {"mode": "multiclass"} | args
        maker = find(self.name, target)
        takes = inspect.signature(maker).parameters
        self.takes_void = "ignore_index" in takes
        if self.takes_void:
            args = {"ignore_index": void} | args
        if class_weights is not None:
            weights = {"weight": class_weights.float(), "class_weights": class_weights.tolist()}
            key = next((key for key in weights if key in takes), None)
            if key is None:
                raise ValueError(
                    f"{self.name} takes no class weights: set recipe.class_weights=none"
                )
            args = {key: weights[key]} | args
        self.loss = call(self.name, maker, args)
        if not callable(self.loss):
            raise ValueError(f"{self.name} returns {self.loss!s:.40}, which cannot be called")

    def forward(self, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (ℓ·n, n) of a batch with n labeled pixels, in float32 or wider; see the class.

        ``scores`` are float (B, C, H, W), ``target`` uint8 (B, H, W).

        Raises:
            ValueError: the loss fails, or is no scalar that depends on the scores.
        """
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        labels, labeled = target.long(), target != self.void
        count = labeled.sum()
        if not count:
            return 0 * scores.sum(), count
        if not self.takes_void:
            scores, labels = scores.permute(0, 2, 3, 1)[labeled], labels[labeled]
        try:
            loss = self.loss(scores, labels)
        except Exception as error:  # whatever code of others may raise
            raise ValueError(f"{self.name} fails: {fault(error)}") from error
        if not isinstance(loss, Tensor) or loss.ndim:
            shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"{self.name} returns {shape}, not one number")
        if scores.requires_grad and not loss.requires_grad:
            raise ValueError(f"{self.name} returns a number without a gradient")
        return loss * count, count


def cross_entropy_sums(
    scores: Tensor, target: Tensor, class_weights: Tensor, void: int
) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w): cross-entropy summed over the labeled pixels, and their weights.

    ``scores`` float (B, C, H, W), ``target`` uint8 (B, H, W), ``class_weights`` float (C,). Void
    pixels count in neither sum, so the mean over a batch of void alone is 0 and not NaN. Computed
    in float32, or in float64 where the scores are. FCN paper, sections 3.4 and 4.3.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    classes, scores, labels = scores.shape[1], scores.to(dtype), target.long()
    if scores.is_cuda:  # the 2d loss has no deterministic backward on CUDA, the flat one has
        scores, labels = scores.permute(0, 2, 3, 1).reshape(-1, classes), labels.flatten()
    else:  # and here the 2d loss is fastest on contiguous scores
        scores = scores.contiguous()
    weights = class_weights.to(dtype)
    loss = partial(F.cross_entropy, scores, labels, weights, ignore_index=void)
    # a GPU takes the sum of a flat loss in one block of threads
    total = loss(reduction="none").sum() if scores.is_cuda else loss(reduction="sum")
    return total, weight_by_label(weights, void)[labels].sum()


def labels_and_loss(
    scores: Tensor, target: Tensor, class_weights: Tensor, void: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the labels of the highest scores, uint8 (B, H, W), and ``cross_entropy_sums``.

    Takes what that takes. On a CPU both are read off in one pass, where C can be compiled.
    """
    if not compiled.can_take(scores):
        return argmax_labels(scores), *cross_entropy_sums(scores, target, class_weights, void)
    labels = torch.empty_like(target)
    lookup = weight_by_label(class_weights, void)
    sums = torch.zeros(2, dtype=torch.float64)
    for image, found, wanted in zip(scores.contiguous().flatten(2), labels, target, strict=True):
        sums += torch.tensor(compiled.labels_and_loss(image, found, wanted, lookup))
    return labels, *sums.to(scores.dtype)


def log_loss(probabilities: Tensor, target: Tensor, void: int) -> tuple[Tensor, Tensor]:
    """Return the sums of ``cross_entropy_sums``, unweighted, of probabilities (B, C, H, W)."""
    labeled = target != void
    labels = target.long().masked_fill(~labeled, 0)
    of_target = probabilities.gather(1, labels[:, None])[:, 0]
    return -of_target.log().masked_fill(~labeled, 0).sum(), labeled.sum()


def can_be_fused(net: nn.Module) -> TypeGuard[FCN | CustomNetwork]:
    """Tell whether a network ends with an upsampling that the loss can be fused with."""
    return isinstance(net, FCN) or (isinstance(net, CustomNetwork) and len(net.ups) > 0)


def last_upsampling(
    net: FCN | CustomNetwork,
    image: Tensor,
    target: Tensor,
    class_weights: Tensor,
    void: int,
    features: Sequence[Tensor] | None = None,
) -> Upsampling:
    """Return the scores at the network's output stride, and what is left to do with them.

    The functions of ``kernels/upsampled_loss.py`` take it, for images (B, 3, H, W) whose target
    uint8 (B, H, W) is of the same size. ``features`` are the images', where they are known.
    """
    if features is None:
        scores = net.score_map(image)
    else:
        assert isinstance(net, FCN)
        scores = net.fuse(features)
    up = net.ups[-1]
    assert isinstance(up, Deconvolution)
    return Upsampling(scores, up, target, class_weights, void, net.offset)
