"""The LightningModule: loss, steps, metrics. The only place where model and data meet."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.config.recipe import RecipeConfig
from toyfcn.data.collate import Batch
from toyfcn.data.loader import sample_seed
from toyfcn.evaluation.metrics import BoundaryIU, ConfusionMatrix, Scores
from toyfcn.evaluation.test_time_augmentation import mean_of_views
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.kernels.upsampled_loss import (
    Upsampling,
    upsampled_cross_entropy,
    upsampled_labels,
)
from toyfcn.models.unet import UNet
from toyfcn.models.upsampling import Deconvolution
from toyfcn.training.optimizers import make_optimizer, make_schedule

log = logging.getLogger(__name__)

COLLAPSED = 0.999  # share of the pixels given to one class that counts as all


def pixel_loss(scores: Tensor, truth: Tensor, weight: Tensor, void: int) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w): cross-entropy summed over the labelled pixels, and their weights.

    ``scores`` float (B, C, H, W), ``truth`` uint8 (B, H, W), ``weight`` float (C,), one a class.
    Void pixels count in neither sum, so the mean over a batch of void alone is 0 and not NaN.
    Computed in float32, or in float64 where the scores are.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    classes, scores, target = scores.shape[1], scores.to(dtype), truth.long()
    if scores.is_cuda:  # the 2d loss has no deterministic backward on CUDA, the flat one has
        scores, target = scores.permute(0, 2, 3, 1).reshape(-1, classes), target.flatten()
    else:  # and here planes of scores are what the 2d loss is quickest on
        scores = scores.contiguous()
    total = F.cross_entropy(scores, target, weight.to(dtype), ignore_index=void, reduction="sum")
    lookup = torch.zeros(256, dtype=dtype, device=weight.device)
    lookup[:classes] = weight
    lookup[void] = 0
    return total, lookup[target].sum()


def processes() -> int:
    """Return how many processes train together."""
    alone = not torch.distributed.is_initialized()
    return 1 if alone else torch.distributed.get_world_size()


class SegmentationTask(pl.LightningModule):
    """Trains and scores a network that maps photos to class scores.

    ``card`` is what the checkpoint tells about itself in plain builtins (see checkpoint.py);
    ``class_weights`` is float (C,), one weight a class in the loss; ``total_steps`` is the length
    of the lr schedule; ``fused`` trains without storing scores at full size (see models/fused.py);
    ``views`` is how often a photo is seen when it is scored (see models/views.py).
    """

    def __init__(
        self,
        net: nn.Module,
        recipe: RecipeConfig,
        card: dict[str, Any],
        class_weights: Tensor | None = None,
        total_steps: int = 1,
        seed: int = 0,
        fused: bool = True,
        boundary: bool = False,
        views: int = 1,
    ) -> None:
        super().__init__()
        self.net, self.recipe, self.card, self.fused = net, recipe, card, fused
        self.views = views
        self.total_steps, self.seed = total_steps, seed
        classes, self.void = len(card["classes"]), int(card["void"])
        weights = torch.ones(classes) if class_weights is None else class_weights.float()
        # no buffers: the weights' moving average would take them for something learned
        self.class_weights = weights
        self.matrix = ConfusionMatrix(classes, self.void)
        self.boundary = BoundaryIU(classes, self.void) if boundary else None
        self.collapsed = False  # the last validation saw one class predicted everywhere
        self.loss_sums = torch.zeros(3, dtype=torch.float64)  # Σ w·ℓ, Σ w, images being scored
        self.results: dict[str, Any] = {}

    def on_train_start(self) -> None:
        """Bring the class weights to where the network is."""
        self.class_weights = self.class_weights.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and the like from (seed, step), so that a resumed run repeats it."""
        process = f" of {self.global_rank}" if self.global_rank else ""
        seed = sample_seed(self.seed, self.global_step, f"step{process}")
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        if self.recipe.freeze == "trunk":
            self.freeze_backbone(self.global_step < (self.recipe.freeze_steps or math.inf))

    def freeze_backbone(self, frozen: bool) -> None:
        """Keep the backbone as it is, the statistics of its norms included, or let it learn."""
        assert isinstance(self.net, FCN | UNet)
        for module in self.net.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(not frozen)
        self.net.backbone.requires_grad_(not frozen)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: Σ w·ℓ / max(Σ w, ε), or Σ w·ℓ where the recipe sums.

        Of several processes each has a share of the batch: Σ w is then that of all, and Σ w·ℓ its
        own times their number, since DDP takes the mean of their gradients. So the gradient is that
        of one process with the whole batch, however unequal the shares.
        """
        total, weight = self.loss_sums_of(batch)
        whole = total.detach()
        if (count := processes()) > 1:
            sums = torch.stack([whole, weight.to(whole)])
            torch.distributed.all_reduce(sums)
            total, (whole, weight) = total * count, sums.unbind()
        weight = weight.clamp(min=1e-6)
        # tensors of the CPU: Lightning would copy plain numbers to a GPU, and wait for it
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)  # there is one
        self.log("step", torch.tensor(self.global_step + 1.0))  # the x-axis: batches trained on
        self.log("lr", torch.tensor(optimizer.param_groups[0]["lr"]), batch_size=1)
        self.log("train/loss", whole / weight, batch_size=1)
        return total if self.recipe.loss == "sum" else total / weight

    def loss_sums_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (Σ w·ℓ, Σ w) of a training batch, by the fused head where the network has one."""
        image, truth = batch["image"], batch["mask"]
        if not len(image):  # no share: yet the other processes wait for this one's gradients
            learned = [weight.sum() for weight in self.net.parameters() if weight.requires_grad]
            nothing = 0 * torch.stack(learned).sum()
            return nothing, nothing.detach()
        if self.recipe.sample < 1:
            left_out = torch.rand(truth.shape, device=truth.device) >= self.recipe.sample
            truth = truth.masked_fill(left_out, self.void)
        if not self.fused or not isinstance(self.net, FCN):
            return pixel_loss(self.net(image), truth, self.class_weights, self.void)
        return upsampled_cross_entropy(self.upsampling(self.net, image, truth))

    def scored(self, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the labels of the highest scores, uint8 like the truth, and (Σ w·ℓ, Σ w)."""
        as_it_is = image.shape[-2:] == truth.shape[-2:]
        if self.views > 1:
            size = (truth.shape[-2], truth.shape[-1])
            mean = mean_of_views(self.net, image, size, self.views)
            return argmax_labels(mean), *pixel_loss(
                mean.log(), truth, self.class_weights, self.void
            )
        if self.fused and as_it_is and isinstance(self.net, FCN):
            return upsampled_labels(self.upsampling(self.net, image, truth))
        scores = self.net(image, tuple(truth.shape[-2:]))
        sums = pixel_loss(scores, truth, self.class_weights, self.void)
        return argmax_labels(scores), *sums

    def upsampling(self, net: FCN, image: Tensor, truth: Tensor) -> Upsampling:
        """Return what is left to do of a batch when it is scored at the network's stride."""
        scores, up = net.score_map(image), net.ups[-1]
        assert isinstance(up, Deconvolution)
        return Upsampling(scores, up, truth, self.class_weights, self.void, net.offset)

    def on_validation_epoch_start(self) -> None:
        """Start counting anew; several processes score with the first one's norms, as it saves."""
        for buffer in self.net.buffers() if processes() > 1 else ():
            torch.distributed.broadcast(buffer, 0)
        self.matrix.reset()
        if self.boundary is not None:
            self.boundary.reset()
        self.class_weights = self.class_weights.to(self.device)
        self.loss_sums = torch.zeros_like(self.loss_sums, device=self.device)

    @torch.compiler.set_stance("force_eager")
    def validation_step(self, batches: list[Batch], batch_idx: int) -> None:
        """Count one loader batch: groups of photos of one size.

        On the CPU they go through the network one by one: a batch is no quicker there, takes more
        memory, and its last bits depend on its size. So figures are the same for every batch size.
        """
        for batch in batches:
            images, masks, count = batch["image"], batch["mask"], len(batch["id"])
            together = count if images.is_cuda else 1
            for start in range(0, count, together):
                image, truth = images[start : start + together], masks[start : start + together]
                prediction, total, weight = self.scored(image, truth)
                self.matrix.update(truth, prediction)
                if self.boundary is not None:
                    self.boundary.update(truth, prediction)
                seen = torch.full_like(total, len(truth))
                self.loss_sums += torch.stack([total, weight, seen]).double()

    def on_validation_epoch_end(self) -> None:
        """Log what was counted, and keep it as plain numbers in ``results``."""
        sums = self.loss_sums.clone()
        if processes() > 1:
            torch.distributed.all_reduce(sums)
        matrix = self.matrix.compute()
        if self.trainer.state.fn == "fit" and self.trainer.is_global_zero:
            self.warn_of_collapse(matrix)
        scores = Scores.of(matrix)
        loss = (sums[0] / sums[1].clamp(min=1e-6)).item()
        self.results = scores.as_dict(self.card["classes"]) | {
            "loss": loss,
            "images": int(sums[2].item()),
        }
        if self.boundary is not None:
            self.results["boundary_miou"] = self.boundary.compute()
        named = {"loss": loss, "miou": scores.miou, "pixel_acc": scores.pixel_acc}
        for key, value in named.items():
            self.log(f"val/{key}", value, prog_bar=key == "miou", batch_size=1)
        self.log("step", float(self.global_step))  # the x-axis, counted as training counts it
        for name, iou in self.results["iou"].items():
            self.log(f"val_iou/{name}", float("nan") if iou is None else iou, batch_size=1)

    def warn_of_collapse(self, matrix: Tensor) -> None:
        """Say so, once, when all but every pixel is given to one class of several."""
        predicted, truth = matrix.sum(0), matrix.sum(1)
        label = int(predicted.argmax())
        share = float(predicted[label] / predicted.sum().clamp(min=1))
        collapsed = share >= COLLAPSED and int((truth > 0).sum()) > 1
        if collapsed and not self.collapsed:
            log.warning(
                "predictions have collapsed to one class: %.1f %% of the pixels are %s",
                100 * share,
                self.card["classes"][label],
            )
        self.collapsed = collapsed

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimizer, and the course of its learning rate by steps."""
        optimizer = make_optimizer(self.net, self.recipe)
        schedule = make_schedule(optimizer, self.recipe, self.total_steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step", "name": "lr"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the card into the checkpoint: prediction needs nothing beside it."""
        checkpoint["toyfcn"] = self.card
