"""Masks, overlays and more of photos from a checkpoint alone: what toyfcn-predict does."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from toyfcn import hardware
from toyfcn.config.inference import PredictConfig
from toyfcn.config.option import as_list
from toyfcn.config.trainer import TrainerConfig
from toyfcn.data.image_io import read_header, read_image, read_mask
from toyfcn.data.png import MAX_PIXELS, encode_png
from toyfcn.data.preflight import tell_of_16_bits
from toyfcn.evaluation import pictures
from toyfcn.files import atomic_write, read_json, write_errors, write_json, write_text
from toyfcn.inference import polygons
from toyfcn.inference.pipeline import Room, in_threads
from toyfcn.inference.predictor import Pixels, Predictor
from toyfcn.inference.sources import Photo, endings, find_photos, refuse_collisions, submission
from toyfcn.inference.videos import frames, import_av
from toyfcn.models.tiled import warn_of_small_photos
from toyfcn.runs import checkpoint
from toyfcn.text import no_formula

LARGEST = 1 << 31  # pixels of a photo that is seen in tiles
MADE_BY = ".toyfcn-predict.json"  # what the masks in out= were made by


class Done(NamedTuple):
    """What is left of a photo once its files are written: its part of files of all photos."""

    photo: Photo
    size: tuple[int, ...] = ()
    pixels: Sequence[int] = ()  # of each class
    annotations: Sequence[dict[str, Any]] = ()
    error: str | None = None


def run_command(config: PredictConfig) -> None:
    """Write <name>.png (labels, VOC palette) and what else was asked for, for every photo."""
    hardware.keep_memory(TrainerConfig.keep_mb << 20)
    loaded, out = checkpoint.load(config.ckpt, config.trust), Path(config.out)
    server = config.format == "voc_server"
    if server:
        photos, out = submission(config, loaded)
    else:
        photos = find_photos(config.source, out)
    refuse_collisions(photos, out, config)
    videos = [photo for photo in photos if photo.is_video]
    photos = [photo for photo in photos if not photo.is_video]
    if videos:
        refuse_videos(videos[0], loaded.data.channels, config)
    predictor = Predictor(loaded, config.device, config.tile, config.overlap, config.test_views)
    if config.tile is not None:
        warn_of_small_photos(config.tile, predictor.short_side)
        Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit; ``LARGEST`` is ours
    there = already_there(photos, videos, out, config)
    todo = [photo.path for photo in photos if photo not in there]
    tell_of_16_bits(
        *(todo, predictor.scale, predictor.channels),
        advice="so the checkpoint was trained; scale others before",
    )
    threads = torch.get_num_threads()
    job = Job(config, predictor, out, there, Room(threads))
    unread = ((photo, None) for photo in photos)
    found = in_threads(job, unread, max(1, min(threads, len(photos))))
    done, failed = list(track(found, "predicting", len(photos))) if photos else [], list[str]()
    for video in videos:
        found = in_threads(job, frames(video, job.is_there, failed), threads)
        done += track(found, f"predicting {video.path.name}", total=None)
    failed += [one.error for one in done if one.error is not None]
    done = [one for one in done if one.error is None]
    write_common(done, predictor.classes, out, config)
    new = Counter("frame" if one.photo.frame else "photo" for one in done if one.photo not in there)
    if videos and config.resume:
        known = sum(photo.frame is not None for photo in there)
        print(f"resume: {known} frames were there already")
    counts = {"photo": photos, "frame": videos}
    told = [f"{new[what]} {what}{'s' * (new[what] != 1)}" for what in counts if counts[what]]
    kind = "masks" if server else "masks and overlays"
    print(f"wrote {kind} of {' and '.join(told)} into {out}")
    if failed:
        every = f"{len(photos) + len(videos)} photos{' and videos' * bool(videos)}"
        raise ValueError(f"{len(failed)} of {every} failed: " + "; ".join(failed))


def refuse_videos(video: Photo, channels: int, config: PredictConfig) -> None:
    """Check that frames of videos can be read, and be all that is asked for.

    Raises:
        ValueError: they cannot.
    """
    if channels != 3:
        raise ValueError(f"{video.path} is RGB, but the checkpoint takes {channels} channels")
    if config.polygons == "labelme":
        raise ValueError(f"polygons=labelme names the file of a photo: {video.path} is a video")
    import_av()


def already_there(
    photos: Sequence[Photo], videos: Sequence[Photo], out: Path, config: PredictConfig
) -> set[Photo]:
    """Return the photos that resume= leaves alone, and print how many they are.

    A file in the output folder tells what its masks were made by; it is written here.

    Raises:
        ValueError: other checkpoints, tiles or views have made them.
    """
    ckpts = [hashlib.sha256(Path(ckpt).read_bytes()).hexdigest() for ckpt in as_list(config.ckpt)]
    tiles = [] if config.tile is None else [config.tile, config.overlap]
    made_by = {"ckpt": ckpts, "tile": tiles, "test_views": config.test_views}
    note, there = out / MADE_BY, set[Photo]()
    if config.resume:
        there = {photo for photo in photos if is_there(photo, out, config)}
        begun = there or any((out / video.name / "000001.png").exists() for video in videos)
        if begun and read_json(note) != made_by:
            raise ValueError(
                f"resume=true: other checkpoints, tile= or test_views= have made the masks in "
                f"{out}: choose another folder, or leave out resume="
            )
        if photos:
            print(f"resume: {len(there)} of {len(photos)} photos are there already")
    with write_errors(f"write into out={out}"):
        out.mkdir(parents=True, exist_ok=True)
    if config.format != "voc_server":
        write_json(note, made_by)
    return there


def is_there(photo: Photo, out: Path, config: PredictConfig) -> bool:
    """Tell whether all results of a photo are there, and newer than it is."""
    try:
        changed = photo.path.stat().st_mtime
        results = [(out / f"{photo.name}{end}").stat() for end in endings(config)]
        # a power cut can leave empty ones
        return all(found.st_mtime >= changed and found.st_size for found in results)
    except OSError:
        return False


class Job:
    """Reads a photo, labels it and writes its files; of those that are there, reads the mask."""

    def __init__(
        self, config: PredictConfig, predictor: Predictor, out: Path, there: set[Photo], room: Room
    ) -> None:
        self.config, self.predictor, self.room = config, predictor, room
        self.out, self.there = out, there

    def is_there(self, photo: Photo) -> bool:
        """Tell whether a frame needs no prediction, and note it."""
        if self.config.resume and is_there(photo, self.out, self.config):
            self.there.add(photo)
        return photo in self.there

    def __call__(self, item: tuple[Photo, Tensor | None]) -> Done:
        """Predict a photo (C, H, W); None: it is in a file, still to be read."""
        (photo, image), config, classes = item, self.config, self.predictor.classes
        try:
            if photo not in self.there:
                labels = self.predict(photo, image)
            elif config.shares or config.polygons == "coco":
                labels = read_mask(self.out / f"{photo.name}.png").numpy()
            else:
                return Done(photo)
        except ValueError as error:
            return Done(photo, error=str(error))
        counts = sum(np.bincount(row, minlength=len(classes)) for row in labels)
        annotations = config.polygons == "coco"
        parts = polygons.coco_annotations(labels, classes) if annotations else []
        return Done(photo, labels.shape, np.asarray(counts).tolist(), parts)

    def predict(self, photo: Photo, image: Tensor | None) -> Pixels:
        """Read a photo, unless that is done, once there is room for it; label and write it."""
        predictor = self.predictor
        given = (predictor.channels, MAX_PIXELS if self.config.tile is None else LARGEST)
        size = read_header(photo.path, *given)[:2] if image is None else image.shape[1:]
        with self.room.taken_by(predictor.pixels(size)):
            if image is None:
                image = read_image(photo.path, predictor.scale, *given)
            return self.write(photo, image)

    def write(self, photo: Photo, image: Tensor) -> Pixels:
        """Label a photo (C, H, W), write all files of it, and return the labels."""
        predictor, config = self.predictor, self.config
        labels, scores, confidence = predictor.label(image, config.scores, config.confidence)
        made = {".png": encode_png(labels, predictor.palette)}
        if scores is not None:
            packed = io.BytesIO()
            np.savez_compressed(packed, scores=scores)
            made["_scores.npz"] = packed.getvalue()
        if confidence is not None:
            made["_confidence.png"] = encode_png(confidence)
        place = self.out / photo.name
        if config.polygons == "labelme":
            seen_from = Path(os.path.relpath(photo.path.resolve(), place.parent.resolve()))
            shapes = polygons.labelme(seen_from, labels, predictor.classes)
            text = json.dumps(shapes, ensure_ascii=False)
            made[".json"] = text.encode(errors="backslashreplace")
        if config.format != "voc_server":
            pixels = pictures.shown(image, predictor.show_bands)
            drawn = pictures.overlay(pixels, labels, predictor.classes, predictor.palette)
            made["_overlay.png"] = encode_png(np.asarray(drawn))
        place.parent.mkdir(parents=True, exist_ok=True)
        for end, content in made.items():
            with atomic_write(place.with_name(place.name + end), durable=False) as file:
                file.write(content)
        return labels


def write_common(
    done: Sequence[Done], classes: Sequence[str], out: Path, config: PredictConfig
) -> None:
    """Write the files that all photos share: shares.csv and annotations.json."""
    if config.shares:
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["photo", *map(no_formula, classes)])
        for one in done:
            total = sum(one.pixels)
            shares = [f"{count / total:.6f}" for count in one.pixels[: len(classes)]]
            rows.writerow([no_formula(one.photo.label), *shares])
        write_text(out / "shares.csv", table.getvalue())
    if config.polygons == "coco":
        named = [(one.photo.label, one.size, one.annotations) for one in done]
        text = json.dumps(polygons.coco(named, classes), ensure_ascii=False)
        write_text(out / "annotations.json", text + "\n")
