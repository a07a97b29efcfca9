"""The LightningDataModule: a data set's splits, each with its loader."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from toyfcn.config.data import DataConfig, FolderConfig, ShapesConfig, VOCConfig
from toyfcn.data.cache import PixelCache
from toyfcn.data.collate import CutBatch, group, single, together
from toyfcn.data.folder import folder_source
from toyfcn.data.image_io import image_size
from toyfcn.data.loader import LazyDataset, ScheduledLoader, prepare_worker
from toyfcn.data.overlap import refuse_overlap
from toyfcn.data.sampler import Schedule, like_sizes
from toyfcn.data.shapes import scene, world
from toyfcn.data.transforms import TrainTransform, working_size
from toyfcn.data.voc import Source, find_voc, voc_source

log = logging.getLogger(__name__)


def open_source(config: DataConfig) -> Source:
    """Find the data set of a config on disk; the shapes world is drawn where it is missing.

    Raises:
        ValueError: it is not there; the message says where it was looked for.
    """
    if isinstance(config, ShapesConfig):
        if not Path(config.root).exists():
            log.info("drawing the shapes world into %s (once)", config.root)
        folder = world.draw(
            Path(config.root),
            seed=config.world_seed,
            train=config.train_images,
            val=config.val_images,
            test=config.test_images,
            size=(config.size[0], config.size[1]),
        )
        return voc_source(folder, scene.CLASSES, config.name)
    if isinstance(config, FolderConfig):
        return folder_source(config)
    assert isinstance(config, VOCConfig)
    source = voc_source(find_voc(config.root, config.year), name=config.name, masks=config.masks)
    if not source.masks.is_dir():
        raise ValueError(f"data.masks={config.masks}: {source.masks} is no folder")
    return source


class SegmentationData(pl.LightningDataModule):
    """Loaders over a source's splits. Opens nothing by itself; ``setup`` reads the split lists.

    ``short_side`` is the network's working resolution (see ``model.short_side``).
    """

    def __init__(
        self, source: Source, config: DataConfig, short_side: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.source, self.config, self.short_side, self.seed = source, config, short_side, seed
        self.ids: dict[str, tuple[str, ...]] = {}
        self.start = 0  # training batches that a resumed run has behind it

    def setup(self, stage: str | None = None) -> None:
        """Read the lists of the configured splits; see that every file is there.

        Raises:
            ValueError: a list or file is missing, or a photo to train on would be scored too.
        """
        config = self.config
        train = (f"train_split={config.train_split}", self.split_ids(config.train_split))
        for key in ("val_split", "test_split"):
            split = getattr(config, key)
            if split is not None:
                ids = self.split_ids(split)
                if not config.allow_overlap:
                    refuse_overlap(self.source, train, (f"{key}={split}", ids))

    def split_ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of any split, its list read once, cut to ``data.limit``."""
        if split not in self.ids:
            self.ids[split] = self.source.ids(split)[: self.config.limit]
        return self.ids[split]

    def train_transform(self) -> TrainTransform:
        """Return the augmentation of training photos."""
        config = self.config
        return TrainTransform(
            short_side=self.short_side,
            scale=(config.scale[0], config.scale[1]) if config.augment else (1.0, 1.0),
            crop=(config.crop[0], config.crop[1]) if config.crop else None,
            max_share=config.max_share,
            flip=config.flip if config.augment else 0,
            turn=config.turn and config.augment,
            colour=config.colour if config.augment else 0,
            void=self.source.void,
        )

    def train_dataloader(self) -> ScheduledLoader:
        """Batches on the schedule, augmented, or left to a device with data.device_transforms."""
        loader = self._loader(self.config.train_split, self.config.sampling, self.train_transform())
        epoch, step = divmod(self.start, len(loader))
        loader.load_state_dict({"epoch": epoch, "step": step})
        return loader

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int = 0
    ) -> Any:
        """Copy a batch from pinned memory, without waiting for a GPU."""
        if not isinstance(batch, CutBatch):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        images, masks = (
            [part.to(device, non_blocking=True) for part in parts]
            for parts in (batch.images, batch.masks)
        )
        return batch._replace(images=images, masks=masks)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> Any:
        """Augment on the device what the loader has left to it; other batches are ready."""
        if not isinstance(batch, CutBatch):
            return batch
        transform = self.train_transform()
        pairs = map(transform.apply, batch.images, batch.masks, batch.choices)
        samples = [(*pair, name) for pair, name in zip(pairs, batch.id, strict=True)]
        return single(samples, transform.fill, transform.void)

    def val_dataloader(self) -> ScheduledLoader:
        """The validation split in its list's order: lists of same-shape batches."""
        assert self.config.val_split is not None
        return self.scoring_loader(self.config.val_split)

    def test_dataloader(self) -> ScheduledLoader:
        """The test split in its list's order."""
        assert self.config.test_split is not None
        return self.scoring_loader(self.config.test_split)

    def scoring_loader(self, split: str) -> ScheduledLoader:
        """Any split for scoring: list order, masks as they are, every image once."""
        return self._loader(split, "list", None)

    def _loader(
        self, split: str, sampling: str, transform: TrainTransform | None
    ) -> ScheduledLoader:
        ids, config = self.split_ids(split), self.config
        cached = transform is not None and config.cache == "disk"
        cache = PixelCache(self.source, ids, Path(config.cache_folder)) if cached else None
        trainer = self.trainer
        buckets: tuple[np.ndarray, ...] = ()
        if transform is not None and config.buckets is not None:
            sizes = [image_size(self.source.image_path(name)) for name in ids]
            buckets = like_sizes(
                np.array([working_size(size, self.short_side) for size in sizes]),
                min(config.buckets, len(ids) // config.batch_size),
            )
        schedule = Schedule(
            images=len(ids),
            batch_size=config.batch_size,
            sampling=sampling,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            processes=trainer.world_size if trainer else 1,
            buckets=buckets,
        )
        cut = transform is not None and config.device_transforms
        collate: Any = together if cut else group
        if transform is not None and not cut:
            collate = partial(single, fill=transform.fill, void=transform.void)
        return ScheduledLoader(
            LazyDataset(self.source, ids, transform, self.short_side, self.seed, cache, cut),
            schedule,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=prepare_worker,
        )
