"""Whether the network can be trained on the smallest batch that will come."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from toyfcn.config.commands import TrainConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.image_io import read_header
from toyfcn.data.resizing import working_size
from toyfcn.data.source import FileSource, Source
from toyfcn.models.build import Network
from toyfcn.text import first_line

ROOMY = 32  # pixels of the short side from which no layer runs out of them


def refuse_too_small(config: TrainConfig, net: Network, data: SegmentationData) -> None:
    """Send the smallest batch of a training through the network once, where it might be too small.

    The network stays as it is, and so do the random numbers.

    Raises:
        ValueError: the network fails on it; the message names the photo, or the crop.
    """
    photos = smallest_share(config, len(data.split_ids(config.data.train_split)))
    lonely = photos == 1 and any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    seen = smallest_photos(config, data, look=lonely)
    for height, width, which in sorted(seen):
        if min(height, width) < ROOMY or lonely:
            try_one(config, net, (photos, data.source.channels, height, width), which)


def try_one(config: TrainConfig, net: Network, shape: tuple[int, ...], which: str) -> None:
    """Send a batch (photos, channels, height, width) through the network as training does.

    Raises:
        ValueError: the network fails on it.
    """
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            net.train()(torch.zeros(shape, dtype=torch.uint8))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"model.name={config.model.name} cannot be trained on {which}, seen at {shape[3]} x "
            f"{shape[2]} pixels, in a batch of {shape[0]}, which data.batch_size="
            f"{config.data.batch_size} brings: leave such photos out, or set data.batch_size, "
            f"data.crop, model.short_side or model.norm ({first_line(error)})"
        ) from None
    finally:
        net.load_state_dict(before, strict=False)


def smallest_share(config: TrainConfig, images: int) -> int:
    """Return how many photos the smallest batch gives a process that has any of it."""
    size = min(config.data.batch_size, images)
    rest = images % size if config.data.sampling == "epoch" else 0
    return max(1, (rest or size) // config.trainer.processes)


def smallest_photos(
    config: TrainConfig, data: SegmentationData, look: bool
) -> set[tuple[int, int, str]]:
    """Return (height, width) at which the smallest training photos are seen, and what they are.

    They are those whose longer, and whose shorter side is the shortest. Headers are read only where
    the crop or the short side do not say enough (``look``); of photos that are no files, a hundred.
    """
    if config.data.crop is not None:
        height, width = config.data.crop
        return {(height, width, f"data.crop=[{height},{width}]")}
    least = config.data.scale[0] if config.data.augment else 1.0
    short = config.model.short_side
    if short is not None and short * least >= ROOMY and not look:
        return set()
    found: list[tuple[int, int, str]] = []
    names = data.split_ids(config.data.train_split)
    # photos that are no files have no header: reading one makes all of it
    for name in names if isinstance(data.source, FileSource) else names[:100]:
        with contextlib.suppress(ValueError):  # of a bad file, which is told when it is read
            height, width = working_size(size_in_header(data.source, name), short)
            height, width = (max(1, round(side * least)) for side in (height, width))
            found.append((height, width, data.source.places(name)[0]))
    if not found:
        return set()
    return {min(found, key=lambda p: min(p[:2])), min(found, key=lambda p: max(p[:2]))}


def size_in_header(source: Source, name: str) -> tuple[int, int]:
    """Return a photo's height and width, or width and height where it is stored turned."""
    if not isinstance(source, FileSource):
        return source.size(name)
    return read_header(source.image_path(name), source.channels)[:2]
