"""Programs that train FCN-LeNet for an epoch on VOC2007 train at 375x500: see epoch.py."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from losses import CLASSES, VOID, naive_scores, network
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, Subset
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation
from torchvision.transforms import v2

from toyfcn.config.data import VOCConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.models.build import build_network
from toyfcn.training.callbacks import ThroughputMonitor
from toyfcn.training.task import SegmentationTask

SIZE, BATCH = (375, 500), 8


def parts(root: str, images: int) -> tuple[SegmentationData, SegmentationTask, int]:
    """Return our data, our task and the steps of the epoch."""
    config = VOCConfig(root=root, crop=list(SIZE), batch_size=BATCH, test_split=None, workers=0)
    data = SegmentationData(open_source(config), config)
    data.setup()
    data.ids["train"] = data.split_ids("train")[:images]
    steps = len(data.train_dataloader())
    torch.manual_seed(0)
    net = build_network(ModelConfig(), CLASSES).train()
    return data, SegmentationTask(net, data.source.classes, total_steps=steps), steps


def ours(root: str, images: int) -> dict[str, float]:
    """Train under Lightning and in a plain loop, a step each in turns; return images/s of both.

    A step's time runs from the end of the one before to its own end: reading its batch is in it.
    The first step in a process is slow, so one that is not timed comes first.
    """
    next(loop(*parts(root, images)))
    other = loop(*parts(root, images))
    seconds = {"toyfcn": 0.0, "loop": 0.0}

    class InTurns(Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            self.since = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            done = time.perf_counter()
            seconds["toyfcn"] += done - self.since
            next(other)
            self.since = time.perf_counter()
            seconds["loop"] += self.since - done

    data, task, steps = parts(root, images)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=steps,
            limit_val_batches=0,
            logger=TensorBoardLogger(folder, default_hp_metric=False),
            log_every_n_steps=10,
            callbacks=[ThroughputMonitor(), InTurns()],
            deterministic=True,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(task, data.train_dataloader())
    return {name: images / taken for name, taken in seconds.items()}


def loop(data: SegmentationData, task: SegmentationTask, _: int) -> Iterator[None]:
    """Do the same work in a plain loop, one step per iteration."""
    [optimizer], [schedule] = task.configure_optimizers()
    for batch in data.train_dataloader():
        total, weight = task.loss_sums_of(batch)
        optimizer.zero_grad()
        torch.autograd.backward(total / weight.clamp(min=1e-6))
        optimizer.step()
        schedule["scheduler"].step()
        yield


def straightforward(root: str, images: int) -> dict[str, float]:
    """Train with the libraries' own parts."""
    joint = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomCrop(SIZE, pad_if_needed=True, fill={tv_tensors.Image: 0, "others": VOID}),
            v2.RandomHorizontalFlip(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Pairs(VOCSegmentation):
        def __getitem__(self, index: int) -> Any:
            image, mask = super().__getitem__(index)
            return joint(image, tv_tensors.Mask(np.array(mask)))

    net = network(ModelConfig(upsample="dense")).to(memory_format=torch.contiguous_format)
    net.set_submodule("normalize", torch.nn.Identity())  # the transforms do it
    optimizer = torch.optim.AdamW(net.train().parameters(), lr=1e-3)
    matrix = MulticlassConfusionMatrix(CLASSES, ignore_index=VOID, validate_args=False)
    pairs: Subset[Any] = Subset(Pairs(root, "2007", "train"), range(images))
    seen, start = 0, time.perf_counter()
    for image, mask in DataLoader(pairs, BATCH, shuffle=True):
        scores = naive_scores(net, image)
        loss = F.cross_entropy(scores, mask.long(), ignore_index=VOID)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        matrix.update(scores.argmax(1), mask.long())
        seen += len(image)
    return {"straightforward": seen / (time.perf_counter() - start)}


PROGRAMS = {"ours": ours, "straightforward": straightforward}
