"""Data that is legal and unusual: void alone, odd sizes, names with markup."""

import csv
import html
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toyfcn
from toyfcn.cli.compose import compose_train
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation import pictures
from toyfcn.models.build import build_network
from toyfcn.report.write import write_report
from toyfcn.training import callbacks
from toyfcn.training.smallest_batch import refuse_too_small

NAMES = ["dog [/]", "<b>$x_1$ [red]</b>", "a_b*c* ```:smile:"]


def draw(root: Path, sizes: dict[str, tuple[int, int]], void: tuple[str, ...] = ()) -> list[str]:
    """Draw photos and masks, lists of their splits, and return the overrides that train on them."""
    for part in ("photos", "masks", "lists"):
        (root / part).mkdir()
    for split in ("train", "val", "test"):
        ids = [name for name in sizes if name.startswith(split)]
        (root / "lists" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))
    for index, (name, (height, width)) in enumerate(sizes.items()):
        noise = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(root / "photos" / f"{name}.png")
        labels = np.full((height, width), 2, np.uint8)
        labels[: height // 3] = 1
        labels[:, : width // 4] = 0
        labels = np.full_like(labels, 255) if name.startswith(void) and void else labels
        Image.fromarray(labels).save(root / "masks" / f"{name}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    chosen = {"root": root, "images": "photos", "masks": "masks", "lists": "lists"}
    chosen |= {"classes_file": "classes.txt", "batch_size": 2, "test_split": "test"}
    data = [f"data.{key}={value}" for key, value in chosen.items()]
    small = ["model.width=0.25", "trainer.max_steps=2", "trainer.val_every=1", "trainer.threads=1"]
    return ["data=folder", *data, *small, "trainer.accelerator=cpu", "logger.panels=1"]


SIZES = {f"{split}{i}": (40, 48) for split in ("train", "val", "test") for i in range(2)}


@pytest.mark.parametrize("void", [("test",), ("val", "test")])
def test_scores_that_do_not_exist_are_null_everywhere(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    void: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    overrides = draw(tmp_path / "data", SIZES, void)
    metrics = toyfcn.train([*overrides, "trainer.patience=5"], tmp_path / "run")
    told = "val/miou is not defined in any validation: best.ckpt holds the last weights"
    assert (told in caplog.text) is ("val" in void)
    assert metrics == json.loads((tmp_path / "run/metrics.json").read_text())
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    for split, found in metrics.items():
        figures = {key: value for key, value in found.items() if key not in ("iou", "images")}
        assert all((value is None) is (split in void) for value in figures.values()), figures
        assert list(found["iou"]) == NAMES
    for name in ("predictions.png", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (tmp_path / "run" / name).stat().st_size
    rows = list(csv.DictReader((tmp_path / "run/history.csv").open()))
    assert [row["val_miou"] == "" for row in rows] == ["val" in void] * 2
    (scoring,) = csv.DictReader((tmp_path / "outputs/test_scorings.csv").open())
    assert scoring["miou"] == ""
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    again = toyfcn.evaluate(tmp_path / "run/checkpoints/best.ckpt", "test")
    assert (again["miou"], again["loss"], again["images"]) == (None, None, 2)
    write_report(tmp_path / "run")
    assert "nan" not in (tmp_path / "run/results.md").read_text()
    page = (tmp_path / "run/report.html").read_text()
    assert not any(name in page for name in NAMES if name != html.escape(name))
    best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert "val" not in void or best["global_step"] == 2  # the last one, as without validation


def test_what_comes_after_the_training_cannot_make_it_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("none of these")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for module, name in ((pictures, "panel"), (pictures, "sheet"), (pictures, "confusion")):
        monkeypatch.setattr(module, name, broken)
    metrics = toyfcn.train(draw(tmp_path / "data", SIZES), tmp_path / "run")
    assert metrics["test"]["miou"] is not None
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    for what in ("panels", "curves", "predictions.png"):
        assert any(what in message and "ZeroDivision" in message for message in caplog.messages)


@pytest.mark.parametrize("size", [(3, 1500), (1500, 3), (1, 1)])
def test_pictures_of_every_size(size: tuple[int, int]) -> None:
    labels = np.ones(size, np.uint8)
    photo = np.zeros((*size, 3), np.uint8)
    colors = list(range(256)) * 3
    row = pictures.panel(photo, labels, labels, colors, 255)
    sheet = pictures.sheet([("a", row), ("b", row)], NAMES, colors)
    assert max(sheet.size) < 6000
    assert min(pictures.shrink(row, callbacks.WIDTH).shape) >= 1
    assert min(pictures.overlay(photo, labels, NAMES, colors).size) > 0


@pytest.mark.parametrize(
    ("sizes", "options", "why"),
    [
        ({"train0": (1, 1)}, ["model=fcn_vgg16", "model.norm=batch"], "train0.png, seen at 1 x 1"),
        (
            {"train0": (1, 700), "train1": (31, 31), "train2": (1, 700)},
            ["model=fcn_vgg16", "model.norm=batch"],
            "train1.png, seen at 31 x 31 pixels, in a batch of 1",
        ),
        (
            {f"train{i}": (8, 8) for i in range(3)},
            ["model=unet", "model.norm=batch"],
            "in a batch of 1, which data.batch_size=2",
        ),
    ],
)
def test_what_cannot_be_trained_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes, options: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rest = {"val0": (40, 48), "test0": (40, 48)}
    overrides = [*options, *draw(tmp_path / "data", sizes | rest), "model.short_side=null"]
    with pytest.raises(ValueError, match=why):
        toyfcn.train([word for word in overrides if "stride" not in word], tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3)])
def test_odd_sizes_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    sizes = {f"{split}{i}": size for split in ("train", "val", "test") for i in range(2)}
    overrides = [*draw(tmp_path / "data", sizes), "model.short_side=null"]
    metrics = toyfcn.train(overrides, tmp_path / "run")
    assert metrics["test"]["images"] == 2
    assert (tmp_path / "run/predictions.png").is_file()


def test_looking_at_the_smallest_batch_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    overrides = [*draw(tmp_path / "data", SIZES | {"train2": (20, 24)}), "model.short_side=null"]
    config = compose_train(["model=unet", "model.norm=batch", *overrides])
    data = SegmentationData.open(config.data)
    net = build_network(config.model, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    drawn = torch.random.get_rng_state()
    refuse_too_small(config, net, data)
    assert torch.random.get_rng_state().equal(drawn)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
