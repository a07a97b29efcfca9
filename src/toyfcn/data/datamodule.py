"""The LightningDataModule: a data set's splits, each with its loader."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from toyfcn import hardware
from toyfcn.config.data_options import DataConfig
from toyfcn.data.cache import PixelCache
from toyfcn.data.collate import group_by_size, pad_and_stack
from toyfcn.data.custom_transform import CustomTransform
from toyfcn.data.datasets import open_source
from toyfcn.data.loader import LazyDataset, ResumableLoader
from toyfcn.data.overlap import refuse_overlap
from toyfcn.data.resizing import working_size
from toyfcn.data.sampler import EpochSampler, size_buckets
from toyfcn.data.source import FileSource, Source
from toyfcn.data.splits import fold_of, share_of
from toyfcn.data.transforms import TrainTransform
from toyfcn.data.workers import prepare_worker

STATISTICS = 100  # photos whose channels' mean and deviation are counted


class SegmentationData(pl.LightningDataModule):
    """Loaders over a source's splits. Opens nothing by itself; ``setup`` reads the split lists.

    ``short_side`` is the network's working resolution (see ``model.short_side``). Training batches
    are ``{"image": uint8 (B, C, H, W), "mask": uint8 (B, H, W), "id": names}``; those for scoring
    are lists of such, each of photos of one size.

    >>> data = toyfcn.SegmentationData.open(VOCConfig(root="voc", batch_size=2, crop=[32, 32]))
    >>> batch = next(iter(data.train_dataloader()))
    >>> batch["image"].shape, batch["mask"].shape
    (torch.Size([2, 3, 32, 32]), torch.Size([2, 32, 32]))
    """

    def __init__(
        self, source: Source, config: DataConfig, short_side: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.source, self.config, self.short_side, self.seed = source, config, short_side, seed
        self.ids: dict[str, tuple[str, ...]] = {}
        self.start = 0  # training batches that a resumed run has behind it

    @classmethod
    def open(
        cls, config: DataConfig, short_side: int | None = None, seed: int = 0
    ) -> SegmentationData:
        """Find the data set of a config on disk (see ``open_source``).

        Raises:
            ValueError: it is not there; the message says where it was looked for.
        """
        return cls(open_source(config), config, short_side, seed)

    def setup(self, stage: str | None = None) -> None:
        """Read the lists of the configured splits; check that every file is there.

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
        """Return the ids of any split, its list read once, cut to what ``data`` limits it to.

        With ``data.folds`` those of the val split are the fold's, out of the training split.
        """
        if split not in self.ids:
            config, whole = self.config, split
            if config.folds and split in (config.train_split, config.val_split):
                whole = config.train_split
            ids = self.source.ids(whole)
            if config.folds and whole == config.train_split:
                held_out = set(fold_of(ids, config.folds, config.fold))
                ids = tuple(n for n in ids if (n in held_out) == (split == config.val_split))
            if split == config.train_split and config.train_fraction < 1:
                ids = share_of(ids, config.train_fraction)
            self.ids[split] = ids[: config.limit]
        return self.ids[split]

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each channel in 0..255, of up to 100 training photos.

        None of RGB photos, whose networks normalize by ImageNet's. Equal seeds choose equal photos.
        """
        if self.source.channels == 3:
            return None
        ids = self.split_ids(self.config.train_split)
        chosen = np.random.default_rng(self.seed).permutation(len(ids))[:STATISTICS]
        counts = np.zeros((self.source.channels, 256), np.int64)
        for index in chosen:
            bands = self.source.image(ids[index]).numpy()
            counts += [np.bincount(band.ravel(), minlength=256) for band in bands]
        shares, values = counts / counts[0].sum(), np.arange(256)
        mean = shares @ values
        variance = np.maximum(shares @ values**2 - mean**2, 1)  # of a band of one value too
        return mean.tolist(), np.sqrt(variance).tolist()

    @property
    def fill(self) -> tuple[int, ...]:
        """What photos are padded with in training: near 0 once it is normalized."""
        found = self.statistics
        return TrainTransform.fill if found is None else tuple(round(mean) for mean in found[0])

    def train_transform(self) -> TrainTransform | CustomTransform:
        """Return the augmentation of training photos."""
        config = self.config
        own = TrainTransform(
            short_side=self.short_side,
            scale=(config.scale[0], config.scale[1]) if config.augment else (1.0, 1.0),
            crop=(config.crop[0], config.crop[1]) if config.crop else None,
            max_share=config.max_share,
            flip=config.flip if config.augment else 0,
            turn=config.turn and config.augment,
            color=config.colour if config.augment else 0,
            void=self.source.void,
            fill=self.fill,
        )
        if config.transform is None:
            return own
        args, classes = config.transform_args or {}, len(self.source.classes)
        return CustomTransform(own, config.transform, args, classes)

    def train_dataloader(self) -> ResumableLoader:
        """Augmented batches in the sampler's order, from ``start`` on."""
        loader = self._loader(self.config.train_split, self.config.sampling, self.train_transform())
        epoch, step = divmod(self.start, len(loader))
        loader.load_state_dict({"epoch": epoch, "step": step})
        return loader

    def val_dataloader(self) -> ResumableLoader:
        """The validation split in its list's order: lists of same-shape batches."""
        assert self.config.val_split is not None
        return self.scoring_loader(self.config.val_split)

    def test_dataloader(self) -> ResumableLoader:
        """The test split in its list's order."""
        assert self.config.test_split is not None
        return self.scoring_loader(self.config.test_split)

    def scoring_loader(self, split: str) -> ResumableLoader:
        """Any split for scoring: list order, masks as they are, every image once."""
        return self._loader(split, "list", None)

    def _loader(
        self, split: str, sampling: str, transform: TrainTransform | CustomTransform | None
    ) -> ResumableLoader:
        ids, config, cache = self.split_ids(split), self.config, None
        collate: Any = group_by_size
        if transform is not None:
            collate = partial(pad_and_stack, fill=self.fill, void=self.source.void)
            if config.cache == "features":
                collate = group_by_size  # padding would change features near it
            if config.cache == "disk":
                if not isinstance(self.source, FileSource):
                    raise ValueError(f"data.cache=disk is for files, not data={config.kind}")
                cache = PixelCache(self.source, ids, Path(config.cache_folder))
        trainer = self.trainer
        on_gpu = hardware.use_gpu("auto")
        if trainer is not None:
            on_gpu = trainer.strategy.root_device.type == "cuda"
        sampler = EpochSampler(
            images=len(ids),
            batch_size=config.batch_size,
            sampling=sampling,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            processes=trainer.world_size if trainer else 1,
            buckets=self._buckets(ids) if transform is not None else (),
        )
        return ResumableLoader(
            LazyDataset(self.source, ids, transform, self.short_side, self.seed, cache),
            sampler,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            collate_fn=collate,
            pin_memory=on_gpu,
            worker_init_fn=prepare_worker,
        )

    def _buckets(self, ids: tuple[str, ...]) -> tuple[np.ndarray, ...]:
        """Sort training photos by their working size, read from their headers."""
        config = self.config
        if config.buckets is None:
            return ()
        sizes = [self.source.size(name) for name in ids]
        return size_buckets(
            np.array([working_size(size, self.short_side) for size in sizes]),
            min(config.buckets, len(ids) // config.batch_size),
        )
