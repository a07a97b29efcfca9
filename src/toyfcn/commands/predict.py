"""toyfcn-predict: palette masks and overlays of any photos, from a checkpoint alone."""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from toyfcn.cli.launch import launch
from toyfcn.config.commands import PredictConfig

if TYPE_CHECKING:
    from toyfcn.runs.checkpoint import Checkpoint

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def main() -> None:
    """Start the command."""
    launch("toyfcn-predict", "predict", predict)


def find_photos(source: str | list[str] | None) -> list[Path]:
    """Return the photos that files, folders or globs name: sorted within each, each once.

    Raises:
        ValueError: nothing is named, or no photo is found there.
    """
    if not source:
        raise ValueError("source= is missing: name a photo, a folder of photos or a glob")
    if isinstance(source, list):
        return list(dict.fromkeys(photo for item in source for photo in find_photos(item)))
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    found = path.iterdir() if path.is_dir() else map(Path, glob(str(path), recursive=True))
    photos = sorted(p for p in found if is_photo(p))
    if not photos:
        raise ValueError(
            f"source={source} names no photo (looked for {', '.join(sorted(SUFFIXES))})"
        )
    return photos


def submission(config: PredictConfig, loaded: Checkpoint) -> tuple[list[Path], Path]:
    """Return the photos of a split, and the folder that PASCAL's server wants their masks in.

    Raises:
        ValueError: the data is no VOC, or a photo is missing.
    """
    from toyfcn.commands.eval import as_trained
    from toyfcn.config.data import VOCConfig
    from toyfcn.data.datasets import open_source
    from toyfcn.data.splits import sound_ids
    from toyfcn.data.voc import CLASSES

    data = as_trained(config.data, loaded.data)
    if not isinstance(data, VOCConfig) or loaded.classes != list(CLASSES):
        raise ValueError(
            f"format=voc_server is for PASCAL's classes: data={data.name}, and the checkpoint has "
            f"{len(loaded.classes)} classes"
        )
    source = open_source(data)
    lines = source.lines(config.split)
    photos = [
        source.image_path(name)
        for name in sound_ids(source.list_path(config.split), lines, source.id_fault)
    ]
    if missing := [photo for photo in photos if not photo.is_file()]:
        raise ValueError(f"split={config.split}: {len(missing)} photos are missing: {missing[0]}")
    folder = f"comp6_{config.split}_cls"  # comp6: trained on more than VOC's own masks
    return photos, Path(config.out, "results", f"VOC{data.year}", "Segmentation", folder)


def is_photo(path: Path) -> bool:
    """Tell a photo by its suffix; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()


def predict(config: PredictConfig) -> None:
    """Write <name>.png (labels, VOC palette) and <name>_overlay.png for every photo."""
    import numpy as np
    import torch
    from PIL import Image
    from rich.progress import track

    from toyfcn.data.image_io import read_image
    from toyfcn.data.transforms import resize_image, working_size
    from toyfcn.evaluation import pictures
    from toyfcn.runs import checkpoint

    loaded, out = checkpoint.load(config.ckpt), Path(config.out)
    server = config.format == "voc_server"
    if server:
        photos, out = submission(config, loaded)
    else:
        photos = find_photos(config.source)
    stems = [photo.stem for photo in photos]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"source={config.source} holds several photos called {', '.join(twice)}")
    ours = {(out / f"{stem}{end}").resolve() for stem in stems for end in (".png", "_overlay.png")}
    if lost := [photo for photo in photos if photo.resolve() in ours]:
        raise ValueError(f"out={config.out} would write over {lost[0]}: choose another folder")
    if config.device == "gpu" and not torch.cuda.is_available():
        raise ValueError("device=gpu, but PyTorch finds no GPU here; use device=auto or cpu")
    gpu = config.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    net, palette = loaded.net.to(device), loaded.card["palette"]
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for path in track(photos, description="predicting"):
        try:
            photo = read_image(path)
        except ValueError as error:
            failed.append(str(error))
            continue
        size = (photo.shape[1], photo.shape[2])
        seen = resize_image(photo, working_size(size, loaded.model.short_side))
        with torch.inference_mode():
            scores = net(seen[None].to(device), size)[0].cpu()
        labels = scores.max(0).indices.byte().numpy()
        mask = Image.fromarray(labels, mode=None).convert("P")
        mask.putpalette(palette)
        mask.save(out / f"{path.stem}.png")
        if server:
            continue
        if config.scores:
            np.savez_compressed(out / f"{path.stem}_scores.npz", scores=scores.half().numpy())
        pixels = photo.permute(1, 2, 0).contiguous().numpy()
        pictures.overlay(pixels, labels, loaded.classes, palette).save(
            out / f"{path.stem}_overlay.png"
        )
    kind = "masks" if server else "masks and overlays"
    print(f"wrote {len(photos) - len(failed)} {kind} into {out}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(photos)} photos failed: " + "; ".join(failed))
