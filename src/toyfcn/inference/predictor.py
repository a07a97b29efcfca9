"""A trained network, ready to label photos: what ``toyfcn.load`` returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toyfcn import hardware
from toyfcn.config.data import FolderConfig
from toyfcn.config.inference import PredictConfig
from toyfcn.data.image_io import read_image
from toyfcn.data.resizing import resize_image, working_size
from toyfcn.data.scale import AS_STORED, Scale
from toyfcn.evaluation.test_time_augmentation import Augmented
from toyfcn.inference.pipeline import Room, in_threads
from toyfcn.models.folding import folded
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.kernels.by_device import choose_kernels
from toyfcn.models.labeling import blocks
from toyfcn.models.tiled import Tiled
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint import Checkpoint

Pixels = NDArray[np.uint8]


class Labeled(NamedTuple):
    """Labels of a photo, uint8 (H, W), and what else was asked for, or None.

    ``scores`` are float16 (classes, H, W); ``confidence`` is the calibrated probability of each
    label, uint8 (H, W), of which 255 is 1.
    """

    labels: Pixels
    scores: NDArray[np.float16] | None
    confidence: Pixels | None


class Predictor:
    """A trained network, ready to label photos.

    ``classes`` are the names by label; ``palette`` has 256 colors as 768 integers; ``temperature``
    is what scores are divided by in ``probabilities``: fitted on val at the end of the training,
    or 1 without a val split and for several checkpoints.

    >>> predictor = toyfcn.load("run/checkpoints/best.ckpt")
    >>> labels = predictor.predict(numpy.zeros((48, 64, 3), numpy.uint8))
    >>> labels.shape, labels.dtype, predictor.classes[0]
    ((48, 64), dtype('uint8'), 'background')
    >>> shares = predictor.probabilities(numpy.zeros((48, 64, 3), numpy.uint8))
    >>> shares.shape, float(shares.sum(0).mean().round(decimals=3))
    (torch.Size([21, 48, 64]), 1.0)
    """

    def __init__(
        self,
        loaded: Checkpoint,
        accelerator: str = "auto",
        tile: int | None = None,
        overlap: int = PredictConfig.overlap,
        test_views: int = 1,
    ) -> None:
        self.device = hardware.device(accelerator, "device")
        net, self.tile = folded(loaded.net).to(self.device), tile
        choose_kernels(net, self.device)
        self.net: nn.Module = net
        if tile is not None:
            self.net = Tiled(net, tile, overlap)
        if test_views > 1:
            self.net = Augmented(self.net, test_views)
        self.short_side = loaded.model.short_side
        data, self.scale = loaded.data, AS_STORED  # of photos of more than 8 bits
        if isinstance(data, FolderConfig):
            self.scale = Scale(data.black, data.white)
        self.channels, self.show_bands = data.channels, data.show_bands
        self.classes: list[str] = loaded.classes
        self.temperature: float = loaded.metadata.get("temperature", 1.0)
        self.palette: list[int] = list(loaded.metadata["palette"])

    @overload
    def predict(self, photo: Pixels | str | Path) -> Pixels: ...

    @overload
    def predict(self, photo: list[Pixels | str | Path]) -> list[Pixels]: ...

    def predict(
        self, photo: Pixels | str | Path | list[Pixels | str | Path]
    ) -> Pixels | list[Pixels]:
        """Return the label of each pixel, uint8 (H, W), of a photo: uint8 (H, W, channels), RGB
        if three, or a file.

        Of a list of photos, which may differ in size, a list.

        Raises:
            ValueError: a file cannot be read, or an array is of another shape or type.
        """
        if isinstance(photo, list):
            return list(self.predict_many(photo))
        return self.label(self.image(photo)).labels

    def predict_many(self, photos: Iterable[Pixels | str | Path]) -> Iterator[Pixels]:
        """Yield what ``predict`` returns of each photo in turn, several computed side by side.

        Photos are taken, and files are read, only a few ahead of what is asked for.

        >>> predictor = toyfcn.load("run/checkpoints/best.ckpt")
        >>> photos = (numpy.full((40, 50 + i, 3), i, numpy.uint8) for i in range(3))
        >>> [labels.shape for labels in predictor.predict_many(photos)]
        [(40, 50), (40, 51), (40, 52)]
        """
        threads = torch.get_num_threads()
        room = Room(threads)

        def job(photo: Pixels | str | Path) -> Pixels:
            image = self.image(photo)
            with room.taken_by(self.pixels((image.shape[1], image.shape[2]))):
                return self.label(image).labels

        return in_threads(job, photos, threads)

    @torch.inference_mode()
    def label(self, image: Tensor, scores: bool = False, confidence: bool = False) -> Labeled:
        """Label a photo, uint8 (C, H, W); unless asked for, its scores are never all in memory."""
        size = (image.shape[1], image.shape[2])
        labels = torch.empty(size, dtype=torch.uint8)
        kept = torch.empty(len(self.classes), *size, dtype=torch.float16) if scores else None
        sure = torch.empty(size, dtype=torch.uint8) if confidence else None
        for top, left, found in blocks(self.net, self.seen(image), size):
            rows, columns = (
                slice(i, i + n) for i, n in zip((top, left), found.shape[2:], strict=True)
            )
            labels[rows, columns] = argmax_labels(found)[0]
            if kept is not None:
                kept[:, rows, columns] = found[0]
            if sure is not None:
                highest = (found / self.temperature).softmax(1).amax(1)[0]
                sure[rows, columns] = (255 * highest).round()
        more = (None if made is None else made.numpy() for made in (kept, sure))
        return Labeled(labels.numpy(), *more)

    def pixels(self, size: Sequence[int]) -> int:
        """Return the pixels that the network sees at one time of a photo of (height, width).

        They take the most memory; 16 pixels of the photo itself count as one of them.
        """
        height, width = (min(n, self.tile or n) for n in working_size(size, self.short_side))
        return max(height * width, size[0] * size[1] // 16)

    def image(self, photo: Pixels | str | Path) -> Tensor:
        """Return a photo of a file or an array as uint8 (C, H, W)."""
        if isinstance(photo, str | Path):
            return read_image(Path(photo), self.scale, self.channels)
        array, count = np.asarray(photo), self.channels
        if array.dtype != np.uint8 or array.shape[2:] != (count,) or not array.size:
            raise ValueError(
                f"a photo is an array of uint8 (height, width, {count}), not {array.dtype} "
                f"{array.shape}"
            )
        array = np.require(array, requirements=["C", "W"])  # torch warns of arrays as Pillow's
        return torch.from_numpy(array).permute(2, 0, 1)

    def seen(self, image: Tensor) -> Tensor:
        """Return a photo (C, H, W) as the network sees it: (1, C, h, w) on its device."""
        size = working_size(image.shape[1:], self.short_side)
        return resize_image(image, size)[None].to(self.device)

    def probabilities(self, photo: NDArray[np.uint8] | str | Path) -> Tensor:
        """Return the calibrated probability of each class at each pixel, float32 (classes, H, W).

        The labels of ``predict`` are those of the highest ones: the temperature changes none.
        """
        return (self.scores(photo) / self.temperature).softmax(0)

    @torch.inference_mode()
    def scores(self, photo: NDArray[np.uint8] | str | Path) -> Tensor:
        """Return the scores of each pixel before the softmax, float32 (classes, H, W)."""
        image = self.image(photo)
        size = (image.shape[1], image.shape[2])
        found: Tensor = self.net(self.seen(image), size)[0].cpu()
        return found


def load(
    ckpt: str | Path | Sequence[str | Path],
    accelerator: str = "auto",
    trust: Sequence[str] = (),
    *,
    tile: int | None = None,
    overlap: int = PredictConfig.overlap,
    test_views: int = 1,
) -> Predictor:
    """Read a checkpoint and return what predicts with it; nothing in the file is executed.

    Of several checkpoints the probabilities are averaged. ``accelerator`` is auto, cpu or gpu;
    ``trust`` are packages whose code the checkpoint may name. Photos larger than ``tile`` pixels
    a side are seen in tiles, which share ``overlap`` pixels; None: whole. With
    ``test_views`` of 2 or 8 the probabilities of mirrored and turned photos are averaged.

    >>> toyfcn.load("run/checkpoints/best.ckpt").classes[:2]
    ['background', 'aeroplane']

    Raises:
        ValueError: there is no such file, or none that toyfcn-train wrote.
    """
    return Predictor(checkpoint.load(ckpt, trust), accelerator, tile, overlap, test_views)
