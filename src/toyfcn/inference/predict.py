"""Labels of any photos from a checkpoint alone: what toyfcn-predict and ``toyfcn.load`` do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from toyfcn import hardware
from toyfcn.config.commands import PredictConfig
from toyfcn.config.data import FolderConfig, VOCConfig
from toyfcn.data.datasets import open_voc
from toyfcn.data.image_io import AS_STORED, Scale, read_image
from toyfcn.data.layout import PHOTOS
from toyfcn.data.locations import refuse_missing_source
from toyfcn.data.preflight import tell_of_16_bits
from toyfcn.data.splits import sound_ids
from toyfcn.data.transforms import resize_image, working_size
from toyfcn.data.voc import CLASSES
from toyfcn.evaluation import pictures
from toyfcn.inference.evaluate import as_trained
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint import Checkpoint

SUFFIXES = {*PHOTOS, ".gif", ".ppm"}


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

    def __init__(self, loaded: Checkpoint, accelerator: str = "auto") -> None:
        self.device = hardware.device(accelerator, "device")
        self.net = loaded.net.to(self.device)
        self.short_side = loaded.model.short_side
        folder = loaded.data if isinstance(loaded.data, FolderConfig) else FolderConfig()
        self.scale = Scale(folder.black, folder.white)  # of photos of more than 8 bits
        self.classes: list[str] = loaded.classes
        self.temperature: float = loaded.metadata.get("temperature", 1.0)
        self.palette: list[int] = list(loaded.metadata["palette"])

    def predict(self, photo: NDArray[np.uint8] | str | Path) -> NDArray[np.uint8]:
        """Return the label of each pixel, uint8 (H, W), of a photo: RGB uint8 (H, W, 3) or a file.

        Raises:
            ValueError: the file cannot be read, or the array is of another shape or type.
        """
        return self.scores(photo).max(0).indices.byte().numpy()

    def probabilities(self, photo: NDArray[np.uint8] | str | Path) -> Tensor:
        """Return the calibrated probability of each class at each pixel, float32 (classes, H, W).

        The labels of ``predict`` are those of the highest ones: the temperature changes none.
        """
        return (self.scores(photo) / self.temperature).softmax(0)

    @torch.inference_mode()
    def scores(self, photo: NDArray[np.uint8] | str | Path) -> Tensor:
        """Return the scores of each pixel before the softmax, float32 (classes, H, W)."""
        image = as_image(photo, self.scale)
        size = (image.shape[1], image.shape[2])
        seen = resize_image(image, working_size(size, self.short_side))
        found: Tensor = self.net(seen[None].to(self.device), size)[0].cpu()
        return found


def load(
    ckpt: str | Path | Sequence[str | Path], accelerator: str = "auto", trust: Sequence[str] = ()
) -> Predictor:
    """Read a checkpoint and return what predicts with it; nothing in the file is executed.

    Of several checkpoints the probabilities are averaged. ``accelerator`` is auto, cpu or gpu;
    ``trust`` are packages whose code the checkpoint may name.

    >>> toyfcn.load("run/checkpoints/best.ckpt").classes[:2]
    ['background', 'aeroplane']

    Raises:
        ValueError: there is no such file, or none that toyfcn-train wrote.
    """
    return Predictor(checkpoint.load(ckpt, trust), accelerator)


def as_image(photo: NDArray[np.uint8] | str | Path, scale: Scale = AS_STORED) -> Tensor:
    """Return a photo as uint8 (3, H, W)."""
    if isinstance(photo, str | Path):
        return read_image(Path(photo), scale)
    array = np.asarray(photo)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(
            f"a photo is an array of uint8 (height, width, 3), not {array.dtype} {array.shape}"
        )
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)


def run_command(config: PredictConfig) -> None:
    """Write <name>.png (labels, VOC palette) and <name>_overlay.png for every photo."""
    loaded, out = checkpoint.load(config.ckpt, config.trust), Path(config.out)
    server = config.format == "voc_server"
    if server:
        photos, out = submission(config, loaded)
    else:
        photos = find_photos(config.source)
    refuse_collisions(photos, out, config)
    predictor = Predictor(loaded, config.device)
    tell_of_16_bits(photos, predictor.scale, "so the checkpoint was trained; scale others before")
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for path in track(photos, description="predicting"):
        try:
            image = read_image(path, predictor.scale)
        except ValueError as error:
            failed.append(str(error))
            continue
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        scores = predictor.scores(pixels)
        labels = scores.max(0).indices.byte().numpy()
        mask = Image.fromarray(labels, mode=None).convert("P")
        mask.putpalette(predictor.palette)
        mask.save(out / f"{path.stem}.png")
        if config.scores:
            np.savez_compressed(out / f"{path.stem}_scores.npz", scores=scores.half().numpy())
        if not server:
            drawn = pictures.overlay(pixels, labels, predictor.classes, predictor.palette)
            drawn.save(out / f"{path.stem}_overlay.png")
    kind = "masks" if server else "masks and overlays"
    count = len(photos) - len(failed)
    print(f"wrote {kind} of {count} {'photo' if count == 1 else 'photos'} into {out}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(photos)} photos failed: " + "; ".join(failed))


def refuse_collisions(photos: list[Path], out: Path, config: PredictConfig) -> None:
    """Check that no result replaces another one, or a photo.

    Raises:
        ValueError: naming the photos.
    """
    ends = [".png"] + ["_overlay.png"] * (config.format != "voc_server")
    ends += ["_scores.npz"] * config.scores
    made: dict[str, Path] = {}
    for photo in photos:
        for name in (f"{photo.stem}{end}" for end in ends):
            other = made.setdefault(name, photo)
            if other != photo:
                raise ValueError(
                    f"source={config.source}: {other} and {photo} would both be written to "
                    f"{out / name}: rename one, or predict them into two folders"
                )
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    ours = {(out / name).resolve() for name in there & set(made)}
    if ours and (lost := [photo for photo in photos if photo.resolve() in ours]):
        raise ValueError(f"out={config.out} would write over {lost[0]}: choose another folder")


def find_photos(source: str | list[str] | None) -> list[Path]:
    """Return the photos that files, folders or globs name: sorted within each, each once.

    What lies there beside them is printed, but for hidden files.

    Raises:
        ValueError: nothing is named, it is not there, or no photo is found.
    """
    if not source:
        raise ValueError("source= is missing: name a photo, a folder of photos or a glob")
    if isinstance(source, list):
        return list(dict.fromkeys(photo for item in source for photo in find_photos(item)))
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.iterdir())
    else:
        refuse_missing_source(source)
        found = sorted(map(Path, glob(str(path), recursive=True)))
    found = [p for p in found if not p.name.startswith(".")]
    photos = [p for p in found if p.suffix.lower() in SUFFIXES and p.is_file()]
    known = set(photos)
    others = Counter(what_else(p) for p in found if p not in known)
    left_out = ", ".join(f"{count} {what}" for what, count in sorted(others.items()))
    if not photos:
        held = f"holds {left_out}" if left_out else "is empty"
        raise ValueError(
            f"source={source} names no photo: it {held} (looked for {', '.join(sorted(SUFFIXES))})"
        )
    if left_out:
        print(f"left out of {source}: {left_out}")
    return photos


def what_else(path: Path) -> str:
    """Say what a path is that is no photo."""
    if path.is_dir():
        return "folder" if path.suffix.lower() not in SUFFIXES else f"folder {path.name}"
    if path.is_symlink() and not path.exists():
        return f"dangling link {path.name}"
    return path.suffix.lower() or "file without suffix"


def submission(config: PredictConfig, loaded: Checkpoint) -> tuple[list[Path], Path]:
    """Return the photos of a split, and the folder that PASCAL's server wants their masks in.

    Raises:
        ValueError: the data is no VOC, or a photo is missing.
    """
    data = as_trained(config.data, loaded.data, config.trust)
    if not isinstance(data, VOCConfig) or loaded.classes != list(CLASSES):
        raise ValueError(
            f"format=voc_server is for PASCAL's classes: data={data.name}, and the checkpoint has "
            f"{len(loaded.classes)} classes"
        )
    source = open_voc(data)
    lines = source.lines(config.split)
    photos = [
        source.image_path(name)
        for name in sound_ids(source.list_path(config.split), lines, source.id_fault)
    ]
    if missing := [photo for photo in photos if not photo.is_file()]:
        raise ValueError(f"split={config.split}: {len(missing)} photos are missing: {missing[0]}")
    folder = f"comp6_{config.split}_cls"  # comp6: trained on more than VOC's own masks
    return photos, Path(config.out, "results", f"VOC{data.year}", "Segmentation", folder)
