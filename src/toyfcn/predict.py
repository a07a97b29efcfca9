"""toyfcn-predict: palette masks and overlays of any photos, from a checkpoint alone."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from toyfcn.command import launch
from toyfcn.config import PredictConfig

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def main() -> None:
    """Start the command."""
    launch("toyfcn-predict", "predict", predict)


def find_photos(source: str | None) -> list[Path]:
    """Return the photos that a file, a folder or a glob names, sorted.

    Raises:
        ValueError: nothing is named, or no photo is found there.
    """
    if not source:
        raise ValueError("source= is missing: name a photo, a folder of photos or a glob")
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


def is_photo(path: Path) -> bool:
    """Tell a photo by its suffix; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()


def predict(config: PredictConfig) -> None:
    """Write <name>.png (labels, VOC palette) and <name>_overlay.png for every photo."""
    import torch
    from PIL import Image
    from rich.progress import track

    from toyfcn import checkpoint, visual
    from toyfcn.data.pixels import read_image
    from toyfcn.data.transforms import resize_image, working_size

    loaded, photos = checkpoint.load(config.ckpt), find_photos(config.source)
    stems = [photo.stem for photo in photos]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"source={config.source} holds several photos called {', '.join(twice)}")
    if config.device == "gpu" and not torch.cuda.is_available():
        raise ValueError("device=gpu, but PyTorch finds no GPU here; use device=auto or cpu")
    gpu = config.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    net, palette = loaded.net.to(device), loaded.card["palette"]
    out = Path(config.out)
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
            labels = net(seen[None].to(device), size).max(1).indices[0].byte().cpu().numpy()
        mask = Image.fromarray(labels, mode=None).convert("P")
        mask.putpalette(palette)
        mask.save(out / f"{path.stem}.png")
        pixels = photo.permute(1, 2, 0).contiguous().numpy()
        visual.overlay(pixels, labels, loaded.classes, palette).save(
            out / f"{path.stem}_overlay.png"
        )
    print(f"wrote {len(photos) - len(failed)} masks and overlays into {out}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(photos)} photos failed: " + "; ".join(failed))
