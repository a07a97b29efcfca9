"""LeNet trained as a classifier of patches, before its weights move into the FCN."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.data.collate import Batch
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.loader import sample_seed
from toyfcn.models.lenet import MAPS, PATCH, LeNet
from toyfcn.models.losses import cross_entropy_sums
from toyfcn.training.lr_schedule import learning_rate_schedule
from toyfcn.training.optimizers import make_optimizer

log = logging.getLogger(__name__)


def pretrain(config: TrainConfig, data: SegmentationData, weights: Tensor | None) -> LeNet:
    """Train the classifier for ``recipe.pretrain_steps``; return it on the CPU.

    Each step takes a batch of the training images, augmented as the FCN would see them, cuts
    ``recipe.pretrain_patches`` patches out of it and learns the labels of their centres, by the
    recipe's loss, class weights, optimizer and schedule. ``weights`` float (C,), or None.
    """
    model, recipe, source = config.model, config.recipe, data.source
    classes, void, steps = len(source.classes), source.void, recipe.pretrain_steps
    device = hardware.device(config.trainer.accelerator)
    net = LeNet(
        *(classes, model.width, model.activation, model.norm, model.pool),
        maps=model.maps or MAPS,
        inputs=source.channels,
    ).to(device)
    if data.statistics is not None:
        net.normalize.use(*data.statistics)
    weights = (torch.ones(classes) if weights is None else weights).to(device, torch.float32)
    optimizer = make_optimizer(net, recipe)
    schedule = learning_rate_schedule(optimizer, recipe, steps)
    right = seen = 0
    for step, batch in zip(range(1, steps + 1), batches(data), strict=False):
        generator = torch.Generator().manual_seed(sample_seed(config.seed, step, "patches") >> 1)
        patches, labels = (
            x.to(device) for x in cut(batch, recipe.pretrain_patches, void, generator)
        )
        if len(labels):
            scores = net(patches)
            total, weight = cross_entropy_sums(
                scores[..., None, None], labels[:, None, None], weights, void
            )
            loss = total if recipe.reduction == "sum" else total / weight.clamp(min=1e-6)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimizer.step()
            right += int((scores.argmax(1) == labels).sum())
            seen += len(labels)
        schedule.step()
        if step % config.trainer.val_every == 0 or step == steps:
            accuracy = right / max(seen, 1)
            log.info("patches: step %d/%d  %.1f %% right", step, steps, 100 * accuracy)
            right = seen = 0
    return net.cpu()


def batches(data: SegmentationData) -> Iterator[Batch]:
    """Yield training batches without end, epoch after epoch."""
    loader = data.train_dataloader()
    while True:
        yield from loader


def cut(batch: Batch, count: int, void: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut patches around pixels drawn at random from all that are labelled and far enough inside.

    Returns uint8 (n, C, 32, 32) and their labels, uint8 (n,): those of the pixels at (16, 16) of
    the patches; n is ``count``, or 0 where all is void.

    Raises:
        ValueError: the images are smaller than a patch.
    """
    image, mask = batch["image"], batch["mask"]
    height, width = mask.shape[-2:]
    if min(height, width) < PATCH:
        raise ValueError(
            f"recipe.pretrain_steps cuts patches of {PATCH}x{PATCH}, but training sees "
            f"{height}x{width}: set data.crop or model.short_side"
        )
    half = PATCH // 2
    centres = mask[:, half : height - half + 1, half : width - half + 1]
    places = (centres != void).nonzero()
    if not len(places):
        return image.new_empty(0, image.shape[1], PATCH, PATCH), mask.new_empty(0)
    places = places[torch.randint(len(places), (count,), generator=generator)]
    which, top, left = places.T
    span = torch.arange(PATCH)
    rows, columns = top[:, None] + span, left[:, None] + span
    patches = image[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return patches.permute(0, 3, 1, 2).contiguous(), mask[which, top + half, left + half]
