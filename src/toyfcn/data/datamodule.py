"""The LightningDataModule that wraps the lazy iterator: order is computed, reading is lazy."""

from __future__ import annotations

import hashlib
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from toyfcn.data import scene, shapes
from toyfcn.data.cache import PixelCache
from toyfcn.data.config import DataConfig, FolderConfig, ShapesConfig, VOCConfig
from toyfcn.data.folder import folder_source
from toyfcn.data.overlap import refuse_overlap
from toyfcn.data.pixels import image_size
from toyfcn.data.schedule import Key, Schedule, like_sizes
from toyfcn.data.transforms import (
    Choices,
    TrainTransform,
    filled,
    resize_image,
    working_size,
)
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
        folder = shapes.draw(
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


class Batch(TypedDict):
    """Photos of one size with their masks.

    ``image``: uint8 RGB (B, 3, h, w) at the working resolution; ``mask``: uint8 (B, H, W), void
    included, in training of the photo's size, in scoring of the original's; ``id``: B names.
    """

    image: Tensor
    mask: Tensor
    id: list[str]


class CutBatch(NamedTuple):
    """A training batch on its way to the device, where it becomes a ``Batch``.

    ``images``: uint8 (3, h, w), of any sizes; ``masks``: uint8 (h, w); ``id``: names; ``choices``:
    what is done to each.
    """

    images: list[Tensor]
    masks: list[Tensor]
    id: list[str]
    choices: list[Choices]


Sample = tuple[Tensor, Tensor, str]
CutSample = tuple[Tensor, Tensor, str, Choices]


class LazyDataset(Dataset[Sample | CutSample]):
    """Reads one pair when its key is asked for; a sample's randomness is (seed, number, id).

    With ``cut`` the transform only chooses and cuts the window out: the rest is left to a device.
    """

    def __init__(
        self,
        source: Source,
        ids: tuple[str, ...],
        transform: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None,
        short_side: int | None,
        seed: int,
        cache: PixelCache | None = None,
        cut: bool = False,
    ) -> None:
        self.source, self.ids, self.transform = source, ids, transform
        self.short_side, self.seed, self.cache, self.cut = short_side, seed, cache, cut

    def __getitem__(self, key: Key) -> Sample | CutSample:
        name = self.ids[key.image]
        image, mask = (self.cache or self.source).pair(name)
        if self.transform is None:
            return resize_image(image, working_size(mask.shape, self.short_side)), mask, name
        seed = sample_seed(self.seed, key.number, name)
        if not self.cut:
            return *self.transform(image, mask, seed), name
        assert isinstance(self.transform, TrainTransform)
        image, mask, choices = self.transform.draw(image, mask, seed)
        # copies, for a worker hands over all of what a view looks at; pixel by pixel as it was
        image = image.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
        return image.permute(2, 0, 1), mask.clone(), name, choices


def sample_seed(seed: int, number: int, name: str) -> int:
    """Mix (seed, number in the schedule, id) into 64 bits, the same on every machine."""
    text = f"{seed}/{number}/{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def group(samples: list[Sample]) -> list[Batch]:
    """Put samples of like sizes together, in order of first appearance: nothing is padded."""
    sizes: dict[tuple[torch.Size, torch.Size], list[Sample]] = {}
    for sample in samples:
        sizes.setdefault((sample[0].shape, sample[1].shape), []).append(sample)
    return [_stack(alike) for alike in sizes.values()]


def single(samples: list[Sample], fill: Sequence[int], void: int) -> Batch:
    """Stack the samples of a training batch, all brought to the largest height and width.

    What is added, at the right and below, has the colour ``fill`` in the photo and is ``void`` in
    the mask, so that it enters neither loss nor metrics. Of a small batch, one of several processes
    may have no share: (0, 3, 0, 0).
    """
    if len({image.shape for image, _, _ in samples}) == 1:
        return _stack(samples)
    height, width = (max((mask.shape[i] for _, mask, _ in samples), default=0) for i in (0, 1))
    device = samples[0][1].device if samples else torch.device("cpu")
    size, count = (height, width), len(samples)
    batch: Batch = {
        "image": filled(fill, size, device).expand(count, -1, -1, -1).clone(),
        "mask": torch.full((count, *size), void, dtype=torch.uint8, device=device),
        "id": [name for _, _, name in samples],
    }
    for i, (image, mask, _) in enumerate(samples):
        batch["image"][i, :, : mask.shape[0], : mask.shape[1]] = image
        batch["mask"][i, : mask.shape[0], : mask.shape[1]] = mask
    return batch


def outlive_sigterm(worker: int) -> None:
    """Make a loader worker pass over the first SIGTERM, and end at the second.

    Batch systems send it to all processes at once, but the run wants its batches until it has
    saved; it ends its workers itself. The parent's own way of ending one that hangs asks twice.
    """

    def note(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, note)


def _stack(samples: list[Sample]) -> Batch:
    images, masks, names = map(list, zip(*samples, strict=True))
    # in a worker, default_collate stacks straight into shared memory
    return {"image": default_collate(images), "mask": default_collate(masks), "id": list(names)}


def together(samples: list[CutSample]) -> CutBatch:
    """Put cut samples into one batch as they are."""
    images, masks, names, choices = ([sample[i] for sample in samples] for i in range(4))
    return CutBatch(images, masks, names, choices)  # type: ignore[arg-type]


class ScheduledLoader(DataLoader[Sample | CutSample]):
    """A DataLoader whose batches follow a schedule, that can start at any (epoch, step).

    Its state is the position after the last batch handed out, whatever the workers have read ahead.
    """

    def __init__(self, dataset: LazyDataset, schedule: Schedule, **settings: Any) -> None:
        self.position = {"epoch": 0, "step": 0}
        self.schedule = schedule
        super().__init__(dataset, batch_sampler=_Order(schedule, self.position), **settings)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator is an iterator
        if self.schedule.sampling == "list":  # scoring always begins at the beginning
            self.position.update(step=0)
        elif self.position["step"] >= self.schedule.steps:
            self.position.update(epoch=self.position["epoch"] + 1, step=0)
        for batch in super().__iter__():
            self.position["step"] += 1
            yield batch

    def __len__(self) -> int:
        return self.schedule.steps

    def state_dict(self) -> dict[str, int]:
        """Return the position, for checkpoints."""
        return dict(self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position that ``state_dict`` returned; the next iteration starts there."""
        self.position.update(state)


class _Order:
    """The batch sampler: the schedule from wherever the loader stands."""

    def __init__(self, schedule: Schedule, position: dict[str, int]) -> None:
        self.schedule, self.position = schedule, position

    def __iter__(self) -> Iterator[list[Key]]:
        return self.schedule.batches(self.position["epoch"], self.position["step"])

    def __len__(self) -> int:
        return self.schedule.steps


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
            worker_init_fn=outlive_sigterm,
        )
