"""Decoded pixels of a split in one memory-mapped file: built once, then read without decoding.

The file belongs to what it was made from: its name is a hash of the source's files (names, sizes,
times) and of this module's format. A changed photo therefore asks for another file, and two runs
that build the same one at once write aside and rename: the last one wins, with equal bytes.
A run that is killed while it builds leaves only a temporary file, which the next build removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toyfcn.data.source import FileSource
from toyfcn.files import atomic_write

FORMAT = 4
log = logging.getLogger(__name__)


class PixelCache:
    """Photos and masks of some ids, read from a memory map.

    Holds offsets, one integer an image, and the map; the pixels stay on disk (or in the page cache,
    which processes share), so private memory does not grow with the data set.
    """

    def __init__(self, source: FileSource, ids: tuple[str, ...], folder: Path) -> None:
        self.index = {name: i for i, name in enumerate(ids)}
        self.path = folder / f"{source.name}-{fingerprint(source, ids)}.pixels"
        self.channels = source.channels
        sizes = [source.size(name) for name in ids]
        self.sizes = np.array(sizes, np.int32).reshape(-1, 2)  # (height, width)
        pixels = self.sizes.prod(axis=1, dtype=np.int64)
        lengths = (self.channels + 1) * pixels  # in bytes: a photo's, and one of its mask
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        total = int(self.offsets[-1])
        if not self.path.is_file() or self.path.stat().st_size != total:
            build(self.path, total, source, ids)
        self._map: Tensor | None = None

    def __getstate__(self) -> dict[str, object]:
        """Be sent to a loader worker without the map, which is opened again there."""
        return self.__dict__ | {"_map": None}

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """Return photo uint8 (channels, H, W) and mask uint8 (H, W), views of the map.

        So only what is used of them, such as a crop, is read. The map is copy-on-write: writing
        into a view would never reach the file.
        """
        if self._map is None:
            self._map = torch.from_numpy(np.memmap(self.path, np.uint8, mode="c"))
        i = self.index[name]
        height, width = self.sizes[i]
        pixels = self._map[self.offsets[i] : self.offsets[i + 1]]
        end = self.channels * height * width
        photo, mask = pixels[:end], pixels[end:].view(height, width)
        # channels_last, as decoders return it and resizing is quickest on
        return photo.view(height, width, self.channels).permute(2, 0, 1), mask


def fingerprint(source: FileSource, ids: Iterable[str]) -> str:
    """Hash what the pixels depend on: the files' names, sizes and times, and how masks are read."""
    digest = hashlib.blake2b(f"{FORMAT} {source.reading}".encode(), digest_size=8)
    for name in ids:
        for path in (source.image_path(name), source.mask_path(name)):
            facts = path.stat()
            digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def build(path: Path, total: int, source: FileSource, ids: tuple[str, ...]) -> None:
    """Decode every pair into a file aside, then move it into place.

    Raises:
        ValueError: the disk has no room for it, or an image is bad.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # another process may remove it too
            if time.time() - left.stat().st_mtime > 600:  # of a run that was killed
                left.unlink()
    free = shutil.disk_usage(path.parent).free
    log.info("caching %d decoded images in %s: %.1f MB", len(ids), path, total / 1e6)
    if free < 1.05 * total:
        raise ValueError(
            f"data.cache=disk needs {total / 1e6:.0f} MB in {path.parent}, which has "
            f"{free / 1e6:.0f} MB left: make room, set data.cache_folder or data.cache=none"
        )
    with atomic_write(path) as file:
        for name in ids:
            image, mask = source.pair(name)
            file.write(image.permute(1, 2, 0).numpy().tobytes())
            file.write(mask.numpy().tobytes())
