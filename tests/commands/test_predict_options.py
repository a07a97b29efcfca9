"""What toyfcn-predict and toyfcn-eval write with their further options."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import toyfcn
from toyfcn.config.inference import EvalConfig, PredictConfig
from toyfcn.data.voc import CLASSES
from toyfcn.evaluation.test_time_augmentation import augmented_probabilities
from toyfcn.inference import polygons
from toyfcn.inference.predict import run_command
from toyfcn.runs import checkpoint


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
from toyfcn.config.inference import PredictConfig
from toyfcn.data.voc import CLASSES
from toyfcn.evaluation.test_time_augmentation import augmented_probabilities
from toyfcn.inference import polygons
from toyfcn.inference.predict import run_command
from toyfcn.runs import checkpoint
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


def predict(best: Path, source: object, **options: object) -> Path:
    out = best.parent / "masks"
    run_command(PredictConfig(ckpt=str(best), source=source, out=str(out), **options))
    return out


def test_confidence_is_the_calibrated_probability(best: Path) -> None:
    content = torch.load(best, weights_only=True)
    content["toyfcn"]["temperature"] = 2.0
    torch.save(content, best)
    photo = noise(best.parent / "a.png", 50, 70)
    out = predict(best, str(photo), confidence=True)
    wanted = (toyfcn.load(best).scores(photo) / 2).softmax(0).amax(0)
    found = labels(out / "a_confidence.png")
    assert Image.open(out / "a_confidence.png").mode == "L"
    assert np.abs(found / 255 - wanted.numpy()).max() < 0.003


def test_folders_stay_as_they_were(best: Path, command: Command) -> None:
    for name in ("photos/a.png", "photos/b/a.png", "photos/b/c/d.png", "photos/.x/h.png"):
        noise(best.parent / name, 20, 30)
    for source, out in (("'photos/**/*.png'", "globbed"), ("photos", "photos/out")):
        for _ in range(2):  # what was written below photos is no photo
            answer = command("predict", f"ckpt={best}", f"source={source}", f"out={out}")
            assert answer.code == 0 and "of 3 photos" in answer.out, answer.err
        for name in ("a.png", "b/a.png", "b/c/d.png", "b/a_overlay.png"):
            assert Path(out, name).is_file()


def test_names_from_the_standard_input(
    best: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(best.parent / "x/a.png", 20, 30)
    noise(best.parent / "b.png", 20, 30)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"./x/a.png\n{best.parent}/b.png\n\n"))
    answer = command("predict", f"ckpt={best}", "source=-", "out=masks")
    assert answer.code == 0, answer.err
    assert Path("masks/x/a.png").is_file() and Path("masks/b.png").is_file()
    monkeypatch.setattr("sys.stdin", io.StringIO("x/none.png\n"))
    answer = command("predict", f"ckpt={best}", "source=-", "out=masks")
    assert answer.code == 2 and "source=-: x/none.png is no file" in answer.err


def test_what_is_there_is_not_computed_again(
    best: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [noise(best.parent / "photos" / f"{i}.png", 20, 30, i) for i in range(5)]
    folder = str(best.parent / "photos")
    out = predict(best, folder)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "0.png").unlink()
    (out / "1_overlay.png").unlink()
    os.utime(photos[2], (time.time() + 60,) * 2)  # changed since
    (out / "4.png").write_bytes(b"")  # by a power cut
    kept = (out / "3.png").stat().st_mtime_ns
    capsys.readouterr()
    predict(best, folder, resume=True, shares=True)
    told = capsys.readouterr().out
    assert "resume: 1 of 5 photos are there already" in told and "of 4 photos" in told
    assert (out / "3.png").stat().st_mtime_ns == kept
    rows = (out / "shares.csv").read_text().splitlines()
    assert len(rows) == 6
    (out / "shares.csv").unlink()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    with pytest.raises(ValueError, match="resume=true: other checkpoints, tile= or test_views="):
        predict(best, folder, resume=True, test_views=2)


def test_shares_are_those_of_the_masks(best: Path) -> None:
    photo = noise(best.parent / "a.png", 50, 70)
    out = predict(best, str(photo), shares=True)
    heading, row = csv.reader((out / "shares.csv").read_text().splitlines())
    assert heading[:2] == ["photo", "background"] and row[0] == "a.png"
    counts = np.bincount(labels(out / "a.png").ravel(), minlength=21)
    np.testing.assert_allclose(np.array(row[1:], float), counts / 3500, atol=1e-6)


def test_a_spreadsheet_computes_no_name_of_a_photo(best: Path) -> None:
    noise(best.parent / "photos" / "=1+1.png", 40, 50)
    out = predict(best, str(best.parent / "photos"), shares=True)
    (row,) = csv.DictReader((out / "shares.csv").read_text().splitlines())
    assert row["photo"] == "'=1+1.png"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_a_name_that_is_no_text(best: Path) -> None:
    photo = noise(best.parent / "photos" / os.fsdecode(b"\xff.png"), 40, 50)
    out = predict(best, str(photo.parent), shares=True, polygons="coco")
    assert "\n\\udcff.png," in (out / "shares.csv").read_text()
    (image,) = json.loads((out / "annotations.json").read_text())["images"]
    assert image["file_name"] == photo.name
    predict(best, str(photo.parent), polygons="labelme")
    content = json.loads((out / f"{photo.stem}.json").read_text())
    assert (out / content["imagePath"]).resolve() == photo.resolve()


def test_views_are_averaged_as_in_scoring(best: Path) -> None:
    photo = noise(best.parent / "a.png", 50, 70)
    out = predict(best, str(photo), test_views=8)
    image = torch.from_numpy(np.array(Image.open(photo))).permute(2, 0, 1)[None]
    net = checkpoint.load(best).net
    with torch.inference_mode():
        found = augmented_probabilities(net, image, (50, 70), 8)
    assert (found[0].argmax(0).numpy() == labels(out / "a.png")).mean() > 0.999


def inside(polygon: list[list[float]], height: int, width: int) -> np.ndarray:
    """Rasterize a polygon by its pixels' centers, as another library does."""
    y, x = np.mgrid[:height, :width] + 0.5
    ends = [*polygon[1:], polygon[0]]
    crossed = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(polygon, ends, strict=True):
        if y0 != y1:
            crossed ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return crossed


MAP = np.kron(
    np.array(
        [
            [1, 1, 1, 1, 1, 0, 2],
            [1, 0, 0, 0, 1, 2, 0],
            [1, 0, 3, 0, 1, 1, 1],
            [1, 0, 0, 0, 1, 2, 1],
            [1, 1, 1, 1, 1, 1, 1],
        ],
        np.uint8,
    ),
    np.ones((3, 4), np.uint8),
)


@pytest.mark.parametrize("random", [False, True])
def test_polygons_hold_the_centers_of_their_pixels(random: bool) -> None:
    found = np.random.default_rng(0).integers(0, 4, (30, 40), np.uint8) if random else MAP
    made = np.zeros_like(found)
    for label, points in polygons.polygons(found, ["background", "a", "b", "c"]):
        part = inside(points.tolist(), *found.shape)
        assert not made[part].any()
        made[part] = label
    assert (made == found).all()


def test_polygons_as_coco_and_labelme(best: Path) -> None:
    photo = noise(best.parent / "photos" / "x" / "a.png", 120, 170)
    out = predict(best, str(best.parent / "photos"), polygons="coco")
    predict(best, str(best.parent / "photos"), polygons="labelme")
    mask = labels(out / "x" / "a.png")
    content = json.loads((out / "x" / "a.json").read_text())
    assert (out / "x" / content["imagePath"]).resolve() == photo.resolve()
    made = np.zeros_like(mask)
    for shape in content["shapes"]:
        made[inside(shape["points"], 120, 170)] = CLASSES.index(shape["label"])
    assert (made == mask).all() and len(content["shapes"]) > 1
    coco = pytest.importorskip("pycocotools.coco").COCO(str(out / "annotations.json"))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("x/a.png", 120, 170)
    made = np.zeros_like(mask)
    for part in coco.loadAnns(coco.getAnnIds()):
        made[coco.annToMask(part) > 0] = part["category_id"]
    near = np.zeros_like(mask, bool)
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        near |= mask != np.roll(mask, shift, (0, 1))
    assert (made == mask)[~near].all()


def test_arrays_files_and_lists_of_them_from_python(best: Path) -> None:
    photos = [noise(best.parent / f"{i}.png", 30 + i, 40, i) for i in range(12)]
    arrays = [np.array(Image.open(photo)) for photo in photos]
    predictor = toyfcn.load(best)
    alone = [predictor.predict(array) for array in arrays]
    taken = []
    mixed = (taken.append(i) or (str(photos[i]), photos[i], arrays[i])[i % 3] for i in range(12))
    found = predictor.predict_many(mixed)
    first = next(found)
    assert len(taken) < 12 or torch.get_num_threads() > 2
    for labels_of, wanted in zip([first, *found], alone, strict=True):
        assert (labels_of != wanted).mean() < 1e-3
    assert len(predictor.predict(arrays[:2])) == 2
    with pytest.raises(ValueError, match=r"uint8 \(height, width, 3\)"):
        predictor.predict([arrays[0], arrays[0][..., 0]])


@pytest.mark.filterwarnings("error")
def test_an_array_that_cannot_be_written_to(best: Path) -> None:
    photo = noise(best.parent / "a.png", 30, 40)
    predictor, array = toyfcn.load(best), np.asarray(Image.open(photo))
    assert not array.flags.writeable
    assert np.array_equal(predictor.predict(array), predictor.predict(photo))
