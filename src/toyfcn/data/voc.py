"""PASCAL VOC: its classes, folders and lists, and the reader of the project's diary.

A VOC year's folder holds ``JPEGImages/<id>.jpg``, ``SegmentationClass/<id>.png`` and
``ImageSets/Segmentation/<split>.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from torch import Tensor

from toyfcn.data.locations import find_voc
from toyfcn.data.source import FileSource
from toyfcn.data.splits import no_file

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
AUGMENTED = "SegmentationClassAug"  # SBD's masks, converted to VOC's format: they add to VOC's own
FIRST_YEAR = re.compile(r"2007_(\d{6})")
LISTS = Path(__file__).parent / "lists"  # trainaug and seg11valid, which no VOC archive holds


def canonical(name: str) -> str:
    """Return the one name of a PASCAL photo: later years call VOC2007's ``000032`` 2007_000032."""
    match = FIRST_YEAR.fullmatch(name)
    return match[1] if match else name


@dataclass(frozen=True, kw_only=True)
class VOCSource(FileSource):
    """A VOC year with VOC's own classes: knows the lists of this package, and SBD's masks."""

    def identity(self, name: str) -> str:
        """Return the photo's one name in all years: VOC2007's 000032 is 2007_000032 later."""
        return f"{canonical(name)}/"

    def list_path(self, split: str) -> Path:
        """Return where a split's list lies: on disk, else among those of this package."""
        path = super().list_path(split)
        packaged = LISTS / path.name
        return packaged if no_file(path) and not no_file(packaged) else path

    def mask_path(self, name: str) -> Path:
        """Return where the mask of an id lies: VOC's own where SBD has none."""
        path = super().mask_path(name)
        if self.masks.name == AUGMENTED and no_file(path):
            own = self.images.parent / "SegmentationClass" / path.name
            return path if no_file(own) else own
        return path

    def advice(self, split: str, name: str) -> str:
        """Return what to do about a mask that only SBD has, to be appended to the message."""
        added = self.masks.parent / AUGMENTED
        if self.masks.name == AUGMENTED:
            return ""
        if not no_file(added / f"{name}.png"):
            return f", though there is one in {added}: set data.masks={AUGMENTED}"
        if split == "trainaug":
            return (
                f": most of trainaug has masks only in {AUGMENTED} (SBD's), so put that folder "
                f"into {added.parent} and set data.masks={AUGMENTED}"
            )
        return ""


def voc_source(
    folder: Path,
    classes: Sequence[str] = CLASSES,
    name: str = "",
    masks: str = "SegmentationClass",
) -> FileSource:
    """Describe a folder in the VOC layout, such as one that ``find_voc`` found.

    ``masks`` is the folder of the masks below it; ``SegmentationClassAug`` adds to VOC's own.
    """
    kind = VOCSource if tuple(classes) == CLASSES else FileSource
    return kind(
        name=name or folder.name,
        images=folder / "JPEGImages",
        masks=folder / masks,
        lists=folder / "ImageSets" / "Segmentation",
        classes=tuple(classes),
    )


class DiaryBatch(TypedDict):
    """A batch as the diary had it: names now, pixels when the iterators advance."""

    names: list[str]
    batch: Iterator[Tensor]
    annotations: Iterator[Tensor]


class VOCReader:
    """The lazy reader: names are sampled from the index file, a file opens when it is consumed.

    ``root`` is the folder that holds VOCdevkit. Photos are uint8 (3, H, W), masks uint8 (H, W).

    >>> reader = toyfcn.VOCReader("voc", 2007, "train")
    >>> batch = reader.next_train_batch(batch_sz=2)  # two names; nothing is opened
    >>> for photo, mask in zip(batch["batch"], batch["annotations"]):
    ...     print(photo.shape[1:] == mask.shape, mask.dtype)
    True torch.uint8
    True torch.uint8
    """

    def __init__(self, root: str | Path, year: int | str, split: str, seed: int = 0) -> None:
        self.source = voc_source(find_voc(root, year))
        self.names = self.source.ids(split)
        self._rng = np.random.default_rng(seed)

    def next_train_batch(self, batch_sz: int = 10) -> DiaryBatch:
        """Sample ``batch_sz`` ids uniformly without replacement; read nothing yet.

        Raises:
            ValueError: the split has fewer images than that, or ``batch_sz`` is below 1.
        """
        if not 1 <= batch_sz <= len(self.names):
            raise ValueError(f"batch_sz={batch_sz}, but the split has {len(self.names)} images")
        chosen = self._rng.choice(len(self.names), batch_sz, replace=False)
        names = [self.names[i] for i in chosen]
        return {
            "names": names,
            "batch": (self.source.image(name) for name in names),
            "annotations": (self.source.mask(name) for name in names),
        }
