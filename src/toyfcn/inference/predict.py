"""Masks and overlays of photos from a checkpoint alone: what toyfcn-predict does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from toyfcn import hardware
from toyfcn.config.commands import PredictConfig
from toyfcn.data.image_io import MAX_PIXELS, opened, read_image
from toyfcn.data.png import encode_png
from toyfcn.data.preflight import tell_of_16_bits
from toyfcn.evaluation import pictures
from toyfcn.files import atomic_write
from toyfcn.inference.evaluate import warn_of_small_photos
from toyfcn.inference.pipeline import Room, in_threads
from toyfcn.inference.predictor import Predictor
from toyfcn.inference.sources import find_photos, refuse_collisions, submission
from toyfcn.runs import checkpoint

LARGEST = 1 << 31  # pixels of a photo that is seen in tiles


def run_command(config: PredictConfig) -> None:
    """Write <name>.png (labels, VOC palette) and <name>_overlay.png for every photo."""
    hardware.keep_memory()
    loaded, out = checkpoint.load(config.ckpt, config.trust), Path(config.out)
    server = config.format == "voc_server"
    if server:
        photos, out = submission(config, loaded)
    else:
        photos = find_photos(config.source)
    refuse_collisions(photos, out, config)
    predictor = Predictor(loaded, config.device, config.tile, config.overlap)
    if config.tile is not None:
        warn_of_small_photos(config.tile, predictor.short_side)
        Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit; ``LARGEST`` is ours
    tell_of_16_bits(photos, predictor.white, "so the checkpoint was trained; scale others before")
    out.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    job = Job(config, predictor, out, Room(threads))
    found = in_threads(job, photos, min(threads, len(photos)))
    failed = [str(error) for error in track(found, "predicting", len(photos)) if error is not None]
    kind = "masks" if server else "masks and overlays"
    count = len(photos) - len(failed)
    print(f"wrote {kind} of {count} {'photo' if count == 1 else 'photos'} into {out}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(photos)} photos failed: " + "; ".join(failed))


class Job:
    """Reads a photo, labels it and writes what was asked for."""

    def __init__(self, config: PredictConfig, predictor: Predictor, out: Path, room: Room) -> None:
        self.config, self.predictor, self.out, self.room = config, predictor, out, room

    def __call__(self, path: Path) -> ValueError | None:
        """Predict a photo; return why it cannot be read, or None."""
        limit = MAX_PIXELS if self.config.tile is None else LARGEST
        try:
            with opened(path, "photo", limit=limit) as header:
                pixels = self.predictor.pixels((header.height, header.width))
            with self.room.taken_by(pixels):
                self.write(path, read_image(path, self.predictor.white, limit))
        except ValueError as error:
            return error
        return None

    def write(self, path: Path, image: Tensor) -> None:
        """Label a photo (3, H, W) and write all files of it."""
        predictor = self.predictor
        labels, scores = predictor.label(image, self.config.scores)
        written = partial(atomic_write, durable=False)
        with written(self.out / f"{path.stem}.png") as file:
            file.write(encode_png(labels, predictor.palette))
        if scores is not None:
            with written(self.out / f"{path.stem}_scores.npz") as file:
                np.savez_compressed(file, scores=scores)
        if self.config.format != "voc_server":
            pixels = image.permute(1, 2, 0).contiguous().numpy()
            drawn = pictures.overlay(pixels, labels, predictor.classes, predictor.palette)
            with written(self.out / f"{path.stem}_overlay.png") as file:
                file.write(encode_png(np.asarray(drawn)))
