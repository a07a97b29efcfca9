"""Photos a second of toyfcn-predict, beside the one-by-one way of before, in one process.

    TOYFCN_VOC=FOLDER python benchmarks/predict.py [CKPT] [--photos 200]
    TOYFCN_VOC=FOLDER python benchmarks/predict.py --side 20000

Both write masks and overlays of the same VOC2007 photos, in turns, from a checkpoint or from
untrained networks; prints JSON. The one-by-one way reads, computes (on all threads) and writes each
photo before the next, and compresses by Pillow; its labels are compared with ours.

With ``--side`` one photo of so many pixels square is predicted in tiles, and the memory of its
process compared with that of a photo of 1,000 x 1,000.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import VOCConfig
from toyfcn.config.inference import PredictConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.image_io import read_image
from toyfcn.data.locations import find_voc
from toyfcn.data.resizing import resize_image, working_size
from toyfcn.data.voc import voc_source
from toyfcn.evaluation import pictures
from toyfcn.inference.predict import run_command
from toyfcn.models.build import build_network
from toyfcn.runs import checkpoint

NETWORKS = {  # experiment: what its checkpoints are of
    "voc2007_lenet": ModelConfig(short_side=64),
    "voc2007_finetune": ModelConfig(
        name="fcn_timm", backbone="tf_efficientnet_lite0", stride=8, short_side=224
    ),
}


def untrained(model: ModelConfig, root: Path, path: Path) -> Path:
    """Write the checkpoint of an untrained network with random score layers."""
    config = TrainConfig(data=VOCConfig(root=str(root)), model=model)
    torch.manual_seed(0)
    net = build_network(model, 21)
    torch.nn.init.normal_(net.heads[0].weight)  # type: ignore[arg-type]  # a module's attribute
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    metadata = checkpoint.make_metadata(config, voc_source(find_voc(root, 2007)))
    torch.save({"state_dict": state, "toyfcn": metadata}, path)
    return path


def one_by_one(ckpt: Path, photos: list[Path], out: Path) -> None:
    """Predict as toyfcn-predict did before it had threads."""
    loaded = checkpoint.load(ckpt)
    palette = loaded.metadata["palette"]
    for path in photos:
        image = read_image(path)
        size = (image.shape[1], image.shape[2])
        seen = resize_image(image, working_size(size, loaded.model.short_side))
        with torch.inference_mode():
            labels = loaded.net(seen[None], size)[0].max(0).indices.byte().numpy()
        mask = Image.fromarray(labels).convert("P")
        mask.putpalette(palette)
        mask.save(out / f"{path.stem}.png")
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        drawn = pictures.overlay(pixels, labels, loaded.classes, palette)
        drawn.save(out / f"{path.stem}_overlay.png")


def in_threads(ckpt: Path, photos: list[Path], out: Path) -> None:
    """Predict as toyfcn-predict does."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run_command(PredictConfig(ckpt=str(ckpt), source=list(map(str, photos)), out=str(out)))


def measure(ckpt: Path, photos: list[Path], folder: Path, rounds: int) -> dict[str, float]:
    """Return the photos a second of both ways, their ratio, and the share of labels that differ."""
    ways: dict[str, Callable[[Path, list[Path], Path], None]] = {
        "one_by_one": one_by_one,
        "in_threads": in_threads,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            (folder / name).mkdir(exist_ok=True)
            start = time.perf_counter()
            way(ckpt, photos if turn else photos[:5], folder / name)  # first a warm-up
            taken[name].append(time.perf_counter() - start)
    masks = [[np.array(Image.open(folder / n / f"{p.stem}.png")) for p in photos] for n in ways]
    wrong = sum(int((a != b).sum()) for a, b in zip(*masks, strict=True))
    rates = {f"{n}: photos/s": len(photos) / statistics.median(t[1:]) for n, t in taken.items()}
    old, new = (taken[name][1:] for name in ways)
    ratio = statistics.median(a / b for a, b in zip(old, new, strict=True))
    pixels = sum(mask.size for mask in masks[0])
    return rates | {"ratio": ratio, "labels that differ": wrong / pixels}


TILES = """
import resource, sys, time
from toyfcn.config.inference import PredictConfig
from toyfcn.inference.predict import run_command
ckpt, source, out = sys.argv[1:]
start = time.perf_counter()
run_command(PredictConfig(ckpt=ckpt, source=source, out=out, tile=512, overlap=64))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, time.perf_counter() - start)
"""


def memory(side: int, root: Path, folder: Path) -> dict[str, float]:
    """Return the peak memory (GB) and seconds of predicting photos, each in its own process."""
    ckpt = untrained(ModelConfig(), root, folder / "tiled.ckpt")
    found: dict[str, float] = {}
    Image.MAX_IMAGE_PIXELS = None
    for pixels in (1000, side):
        photo = folder / f"{pixels}.jpg"
        Image.radial_gradient("L").resize((pixels, pixels)).convert("RGB").save(photo)
        words = [sys.executable, "-c", TILES, str(ckpt), str(photo), str(folder / f"{pixels}")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        gigabytes, seconds = map(float, done.stdout.split()[-2:])
        found |= {f"{pixels}: peak GB": gigabytes, f"{pixels}: s": seconds}
    return found | {"GB above": found[f"{side}: peak GB"] - found["1000: peak GB"]}


def main() -> None:
    """Measure a checkpoint, or the two networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ckpt", nargs="?", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, help="predict one photo of so many pixels square")
    args = parser.parse_args()
    root = Path(os.environ["TOYFCN_VOC"])
    photos = sorted((find_voc(root, 2007) / "JPEGImages").glob("*.jpg"))[: args.photos]
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.side:
            print(json.dumps({"in tiles": memory(args.side, root, folder)}))
            return
        ckpts = {str(args.ckpt): args.ckpt} if args.ckpt else {}
        for network, model in ({} if args.ckpt else NETWORKS).items():
            ckpts[network] = untrained(model, root, folder / f"{network}.ckpt")
        for network, ckpt in ckpts.items():
            found[network] = measure(ckpt, photos, folder, args.rounds)
            print(network, found[network], file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
