"""What toyfcn-predict and toyfcn-eval write with their further options."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import toyfcn
from toyfcn.config.commands import EvalConfig, PredictConfig
from toyfcn.inference.predict import run_command


def noise(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """Write a photo of blurred noise, in which something is found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8))
    small.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def labels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_tiles_give_the_masks_of_whole_photos(best: Path) -> None:
    photo = noise(best.parent / "a.png", 200, 300)
    for name, tile in (("whole", {}), ("tiles", {"tile": 128, "overlap": 64})):
        out = best.parent / name
        run_command(PredictConfig(ckpt=str(best), source=str(photo), out=str(out), **tile))
    whole, tiles = (labels(best.parent / name / "a.png") for name in ("whole", "tiles"))
    assert (whole != tiles).mean() < 1e-3
    assert len(np.unique(whole)) > 2
    assert (toyfcn.load(best, tile=128).predict(photo) == tiles).all()


def test_eval_has_tiles(best: Path, command: Command) -> None:
    found = {}
    for name, words in {
        "whole": [],
        "one": ["tile=64", "overlap=32"],  # larger than the photos
        "many": ["tile=16", "overlap=8"],
    }.items():
        words = [f"ckpt={best}", f"hydra.run.dir={name}", *words]
        answer = command("eval", *words)
        assert answer.code == 0, answer.err
        found[name] = json.loads(Path(name, "metrics.json").read_text())["val"]
    assert found["one"]["iou"] == found["whole"]["iou"]
    assert found["one"]["loss"] == pytest.approx(found["whole"]["loss"], rel=1e-5)
    assert found["many"]["loss"] != pytest.approx(found["whole"]["loss"], rel=1e-3)


@pytest.mark.parametrize("kind", [EvalConfig, PredictConfig])
def test_tiles_that_make_no_sense_are_refused(kind: type) -> None:
    with pytest.raises(ValueError, match="overlap= has an effect with tile= alone"):
        kind(ckpt="x", overlap=32)
    with pytest.raises(ValueError, match="overlap=64 is more than half of tile=100"):
        kind(ckpt="x", tile=100)


def test_tiles_above_the_working_size_are_warned_of(
    best: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = torch.load(best, weights_only=True)
    content["toyfcn"]["model"]["short_side"] = 64
    torch.save(content, best)
    photo = noise(best.parent / "a.png", 100, 300)
    out = str(best.parent / "masks")
    run_command(PredictConfig(ckpt=str(best), source=str(photo), out=out, tile=128))
    assert "short side of 64 pixels, so only those more than 2.0 times" in caplog.text


PEAK = """
import resource, sys
from toyfcn.config.commands import PredictConfig
from toyfcn.inference.predict import run_command
ckpt, out, *photos = sys.argv[1:]
for photo in photos:
    run_command(PredictConfig(ckpt=ckpt, source=photo, out=out, tile=256))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in kB")
def test_memory_is_bounded_for_a_large_photo(best: Path) -> None:
    """At 36 million pixels: photo and labels, and not 84 bytes of scores for each pixel."""
    small = noise(best.parent / "small.jpg", 600, 600)
    large = noise(best.parent / "large.jpg", 6000, 6000)
    command = [sys.executable, "-c", PEAK, str(best), str(best.parent / "out")]
    done = subprocess.run(
        [*command, str(small), str(large)], capture_output=True, text=True, check=True
    )
    before, after = (int(line) for line in done.stderr.split() if line.isdigit())
    assert after - before < 300  # MB
    assert labels(best.parent / "out" / "large.png").shape == (6000, 6000)
