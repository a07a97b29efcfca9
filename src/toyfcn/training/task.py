"""The LightningModule: loss, steps, validation. The only place where model and data meet."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from toyfcn.config.recipe import RecipeConfig
from toyfcn.data.collate import Batch
from toyfcn.data.loader import sample_seed
from toyfcn.evaluation.own_metrics import OwnMetrics
from toyfcn.evaluation.scorer import Scorer
from toyfcn.hardware import process_count
from toyfcn.models.build import Network
from toyfcn.models.fcn import FCN
from toyfcn.models.folding import folded
from toyfcn.models.kernels.by_device import choose_kernels
from toyfcn.models.kernels.upsampled_loss import upsampled_cross_entropy
from toyfcn.models.losses import CustomLoss, can_be_fused, cross_entropy_sums, last_upsampling
from toyfcn.training.feature_cache import FeatureCache
from toyfcn.training.lr_schedule import learning_rate_schedule
from toyfcn.training.optimizers import lay_out_state, make_optimizer

log = logging.getLogger(__name__)

COLLAPSED = 0.999  # share of the pixels given to one class that counts as all


class SegmentationTask(pl.LightningModule):
    """Trains and validates a network that maps images to class scores.

    It goes into ``toyfcn.train``'s trainer or any other ``pl.Trainer``, with ``SegmentationData``.
    ``net`` maps images uint8 (B, 3, H, W) to scores (B, C, H, W); ``classes`` are the names by
    label, ``void`` is the ignore index. ``class_weights`` is float (C,), one weight a class in the
    training loss; ``total_steps`` is the length of the learning-rate schedule; ``fused`` trains
    without storing scores at full size (see ``models/kernels/upsampled_loss.py``). ``watched`` is
    the figure of a validation that is logged beside loss, mean IU and pixel accuracy. With
    ``keep_features`` a frozen backbone computes each photo once: batches are lists then.
    ``metadata`` is what checkpoints say about themselves (see ``runs/checkpoint.py``); ``own`` are
    further metrics of the validations.

    >>> config = VOCConfig(root="voc", batch_size=2, crop=[32, 32], test_split=None)
    >>> data = toyfcn.SegmentationData.open(config)
    >>> net = toyfcn.FCN(LeNetBackbone(), classes=21, stride=2)
    >>> task = toyfcn.SegmentationTask(net, data.source.classes, total_steps=2)
    >>> quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    >>> trainer = pl.Trainer(max_steps=2, logger=CSVLogger("own"), **quiet)
    >>> trainer.fit(task, datamodule=data)
    >>> trainer.global_step, sorted(task.results)[:3]
    (2, ['baseline_class', 'baseline_miou', 'fwiou'])
    """

    def __init__(
        self,
        net: nn.Module,
        classes: Sequence[str],
        recipe: RecipeConfig | None = None,
        *,
        void: int = 255,
        class_weights: Tensor | None = None,
        total_steps: int = 1,
        seed: int = 0,
        fused: bool = True,
        keep_features: bool = False,
        watched: str = "miou",
        metadata: dict[str, Any] | None = None,
        own: OwnMetrics | None = None,
    ) -> None:
        super().__init__()
        self.net, self.recipe, self.fused = net, recipe or RecipeConfig(), fused
        self.classes, self.void, self.metadata = tuple(classes), void, metadata
        self.total_steps, self.seed = total_steps, seed
        self.cache = FeatureCache() if keep_features else None
        weights = torch.ones(len(classes)) if class_weights is None else class_weights
        # no buffer: the moving average of the weights would average it too
        self.class_weights = weights
        names = own.metrics if own is not None else ()
        self.figures = dict.fromkeys(("loss", "miou", "pixel_acc", watched, *names))
        self.loss = None
        if self.recipe.loss != "cross_entropy":
            self.loss = CustomLoss(self.recipe, void, class_weights)
        self.scorer = Scorer(
            classes, void, boundary=watched == "boundary_miou", fused=fused, own=own
        )
        self.results: dict[str, Any] = {}  # of the last validation, as in metrics.json
        self.collapsed = False  # the last validation saw one class predicted everywhere

    def on_fit_start(self) -> None:
        """Choose what the device computes fastest."""
        choose_kernels(self.net, self.device)

    def on_train_start(self) -> None:
        """Bring the class weights to where the network is, in double precision if that is.

        What a resumed run's optimizer has kept comes into this device's layout.
        """
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        self.class_weights = self.class_weights.to(self.device, dtype)
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert not isinstance(optimizer, list)  # there is one
        lay_out_state(optimizer)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and the like from (seed, step), so that a resumed run repeats it."""
        process = f" of {self.global_rank}" if self.global_rank else ""
        seed = sample_seed(self.seed, self.global_step, f"step{process}")
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        if self.recipe.freeze or self.recipe.freeze_norm:
            self.freeze_backbone()

    def freeze_backbone(self) -> None:
        """Keep the backbone, or the statistics of its norms alone, as the recipe says."""
        assert isinstance(self.net, Network)
        until = (self.recipe.freeze_steps or math.inf) if self.recipe.freeze else 0
        frozen = self.global_step < until
        for module in self.net.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # SyncBatchNorm is one too
                module.train(not (frozen or self.recipe.freeze_norm))
        if self.recipe.freeze:
            self.net.backbone.requires_grad_(not frozen)

    def training_step(self, batch: Batch | list[Batch], batch_idx: int) -> Tensor:
        """Return the loss of a batch: Σ w·ℓ / max(Σ w, ε), or Σ w·ℓ where the recipe sums.

        Of several processes each has a share of the batch: Σ w is then that of all, and Σ w·ℓ its
        own times their number, since DDP takes the mean of their gradients. So the gradient is that
        of one process with the whole batch, however unequal the shares.
        """
        total, weight = self.loss_sums_of(batch)
        whole = total.detach()
        if (count := process_count()) > 1:
            sums = torch.stack([whole, weight.to(whole)])
            torch.distributed.all_reduce(sums)
            whole, weight = sums.unbind()
            # what one process has that is not finite stops all of them, at the same step
            total = total * count + 0 * whole
        weight = weight.clamp(min=1e-6)
        # tensors of the CPU: Lightning would copy plain numbers to a GPU, and wait for it
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)  # there is one
        self.log("step", torch.tensor(self.global_step + 1.0))  # the x-axis: batches trained on
        self.log("lr", torch.tensor(optimizer.param_groups[0]["lr"]), batch_size=1)
        self.log("train/loss", whole / weight, batch_size=1)
        return total if self.recipe.reduction == "sum" else total / weight

    def loss_sums_of(self, batch: Batch | list[Batch]) -> tuple[Tensor, Tensor]:
        """Return (Σ w·ℓ, Σ w) of a training batch; cross-entropy by the fused head where it can.

        With a cache of features the batch is a list of such, each of photos of one size.
        """
        if isinstance(batch, list):
            totals, weights = zip(*map(self.loss_sums_of, batch), strict=True)
            return sum(totals), sum(weights)
        image, target = batch["image"], batch["mask"]
        if not len(image):  # no share: yet the other processes wait for this one's gradients
            learned = [weight.sum() for weight in self.net.parameters() if weight.requires_grad]
            nothing = 0 * torch.stack(learned).sum()
            return nothing, nothing.detach()
        if self.recipe.sample < 1:
            left_out = torch.rand(target.shape, device=target.device) >= self.recipe.sample
            target = target.masked_fill(left_out, self.void)
        if self.loss is not None:
            sums: tuple[Tensor, Tensor] = self.loss(self.net(image), target)
            return sums
        if not self.fused or not can_be_fused(self.net):
            return cross_entropy_sums(self.net(image), target, self.class_weights, self.void)
        features = None
        if self.cache is not None:
            assert isinstance(self.net, FCN)
            features = self.cache.features(self.net, batch)
        return upsampled_cross_entropy(
            last_upsampling(self.net, image, target, self.class_weights, self.void, features)
        )

    @torch.compiler.set_stance("force_eager")  # nothing is compiled for the photo that folding sees
    def on_validation_epoch_start(self) -> None:
        """Start counting anew, with norms folded, as checkpoints are scored.

        All processes score with the first one's norms, which are saved.
        """
        for buffer in self.net.buffers() if process_count() > 1 else ():
            torch.distributed.broadcast(buffer, 0)
        self.scored = (folded(self.net),)  # in a tuple: no part of this module and its checkpoints
        self.scorer.reset(self.device)

    def validation_step(self, batches: list[Batch], batch_idx: int) -> None:
        """Count one loader batch: groups of images of one size."""
        self.scorer.update(*self.scored, batches)

    def on_validation_epoch_end(self) -> None:
        """Log what was counted, and keep it as plain numbers in ``results``."""
        del self.scored
        found = self.results = self.scorer.compute()
        matrix = self.scorer.confusion()  # on all processes: they add theirs up
        if self.trainer.state.fn == "fit" and self.trainer.is_global_zero:
            self.warn_of_collapse(matrix)
        for key in (*self.figures, "iou"):
            if isinstance(value := found[key], dict):
                for name, part in value.items():
                    self.log(f"val_{key}/{name}", _number(part), batch_size=1)
            else:
                self.log(f"val/{key}", _number(value), prog_bar=key == "miou", batch_size=1)
        self.log("step", float(self.global_step))  # the x-axis, counted as training counts it

    def warn_of_collapse(self, matrix: Tensor) -> None:
        """Warn, once, when all but every pixel is given to one class of several."""
        predicted, target = matrix.sum(0), matrix.sum(1)
        label = int(predicted.argmax())
        share = float(predicted[label] / predicted.sum().clamp(min=1))
        collapsed = share >= COLLAPSED and int((target > 0).sum()) > 1
        if collapsed and not self.collapsed:
            log.warning(
                "predictions have collapsed to one class: %.1f %% of the pixels are %s",
                100 * share,
                self.classes[label],
            )
        self.collapsed = collapsed

    def configure_optimizers(self) -> Any:
        """Return the recipe's optimizer, and the schedule of its learning rate by steps."""
        # Lightning clips no gradients in mixed precision where a fused AdamW steps
        mixed = self.recipe.clip is not None and self.trainer.precision.endswith("mixed")
        optimizer = make_optimizer(self.net, self.recipe, fused=not mixed)
        schedule = learning_rate_schedule(optimizer, self.recipe, self.total_steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step", "name": "lr"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the metadata into the checkpoint: prediction needs nothing beside it."""
        if self.metadata is not None:
            checkpoint["toyfcn"] = self.metadata


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
