"""Figures of each photo, against drawn cases, hand-made numbers and a loop over pixels."""

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command

from toyfcn.evaluation.metrics import Scores
from toyfcn.evaluation.per_image import (
    KINDS,
    ImageCounts,
    as_csv,
    count_image,
    read_images,
    write_images,
)

NAMES = ("background", "cat", "dog")


def counted(*pairs: tuple[torch.Tensor, torch.Tensor]) -> ImageCounts:
    rows = [
        count_image(f"p{i}", target, prediction, 2.0 * float((target != 255).sum()), 3, 255)
        for i, (target, prediction) in enumerate(pairs)
    ]
    return ImageCounts.of(NAMES, rows, 1)


def square() -> torch.Tensor:
    """A cat of 10x10 in a photo of 20x20."""
    target = torch.zeros(20, 20, dtype=torch.uint8)
    target[5:15, 5:15] = 1
    return target


def drawn(change: Callable[[torch.Tensor], object]) -> dict[str, float]:
    """The shares of the kinds of error where a prediction is a changed target, in pixels."""
    target, prediction = square(), square()
    change(prediction)
    figures = counted((target, prediction)).figures()
    return {kind: round(400 * float(figures[kind][0])) for kind in KINDS}


def test_drawn_errors_have_known_kinds() -> None:
    def paint(rows: slice, columns: slice, label: int) -> Callable[[torch.Tensor], object]:
        return lambda mask: mask[rows, columns].fill_(label)

    whole = slice(None)
    nothing = {"missed": 0, "false": 0, "confused": 0, "boundary": 0}
    assert drawn(lambda mask: mask) == nothing
    # the whole cat: 100 pixels, but for the 6x6 inside more than 2 pixels from the boundary
    assert drawn(paint(whole, whole, 0)) == nothing | {"missed": 100, "boundary": 64}
    assert drawn(paint(slice(5, 15), slice(5, 15), 2)) == nothing | {
        "confused": 100,
        "boundary": 64,
    }
    # a dog in the corner, far from any boundary: the photo's end is none
    assert drawn(paint(slice(0, 3), slice(0, 2), 2)) == nothing | {"false": 6}
    # a cat one pixel too wide
    assert drawn(paint(slice(5, 15), slice(15, 16), 1)) == nothing | {"false": 10, "boundary": 10}


def test_figures_equal_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for size in ((6, 9), (11, 7), (8, 8)):
        target = rng.choice([0, 1, 2, 255], size, p=[0.5, 0.2, 0.1, 0.2]).astype(np.uint8)
        pairs.append((target, rng.integers(0, 3, size, np.uint8)))
    pairs.append((np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)))  # nothing labeled
    counts = counted(*((torch.from_numpy(a), torch.from_numpy(b)) for a, b in pairs))
    figures = counts.figures()
    for i, (target, prediction) in enumerate(pairs):
        kinds, right, labeled = dict.fromkeys(KINDS, 0), 0, 0
        both, either = [0, 0, 0], [0, 0, 0]
        for y, x in np.ndindex(target.shape):
            true, seen = int(target[y, x]), int(prediction[y, x])
            if true == 255:
                continue
            labeled += 1
            for label in {true, seen}:
                either[label] += 1
            if true == seen:
                right += 1
                both[true] += 1
                continue
            kinds["missed" if seen == 0 else "confused" if true else "false"] += 1
            around = target[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            kinds["boundary"] += int((around != true).any())
        if not labeled:
            assert all(np.isnan(values[i]).all() for values in figures.values())
            continue
        iou = [b / e if e else math.nan for b, e in zip(both, either, strict=True)]
        assert figures["pixel_acc"][i] == pytest.approx(right / labeled)
        np.testing.assert_allclose(figures["iou"][i], iou)
        assert figures["miou"][i] == pytest.approx(np.nanmean(iou))
        for kind in KINDS:
            assert figures[kind][i] == pytest.approx(kinds[kind] / labeled), kind
        one = Scores.of(torch.from_numpy(counts.matrices[i]))
        assert figures["miou"][i] == pytest.approx(one.miou)


def test_files_keep_what_was_counted(tmp_path: Path) -> None:
    target, prediction = square(), square()
    prediction[5:10, 5:15] = 0
    counts = dataclasses.replace(counted((target, prediction), (target[:8], target[:8])), views=2)
    write_images(tmp_path, {"val": counts, "test": counts}, ["checkpoints/best.ckpt"])
    first = (tmp_path / "images.npz").read_bytes()
    found, checkpoints = read_images(tmp_path)
    assert list(found) == ["val", "test"] and checkpoints == [tmp_path / "checkpoints/best.ckpt"]
    for name in ("ids", "classes", "sizes", "matrices", "boundary", "losses", "views"):
        assert np.array_equal(getattr(found["test"], name), getattr(counts, name)), name
    assert np.load(tmp_path / "images.npz")["matrices"].dtype == np.uint16  # below 65,536 pixels
    write_images(tmp_path, {"val": counts, "test": counts}, ["checkpoints/best.ckpt"])
    assert (tmp_path / "images.npz").read_bytes() == first
    rows = list(csv.DictReader(as_csv({"val": counts}).splitlines()))
    assert [row["id"] for row in rows] == ["p0", "p1"]
    assert (rows[0]["width"], rows[0]["height"]) == ("20", "20")
    assert (rows[0]["missed"], rows[0]["pixel_acc"]) == ("0.125000", "0.875000")
    assert (rows[0]["iou_cat"], rows[0]["iou_dog"]) == ("0.500000", "")
    assert (rows[0]["loss"], rows[1]["miou"]) == ("2.000000", "1.000000")


def test_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no images\.npz"):
        read_images(tmp_path)
    (tmp_path / "images.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"images\.npz is damaged"):
        read_images(tmp_path)
    write_images(tmp_path, {"val": counted((square(), square()))})
    kept = dict(np.load(tmp_path / "images.npz"))
    np.savez(tmp_path / "images.npz", **kept | {"classes": np.array(["one"])})
    with pytest.raises(ValueError, match=r"images\.npz is damaged: its counts are not of"):
        read_images(tmp_path)


def test_commands_leave_the_figures_of_each_photo(train: Command, command: Command) -> None:
    """They sum up to metrics.json exactly, and a checkpoint that is scored again has the same."""
    small = "data.train_images=4 data.val_images=3 data.test_images=2 data.size=[48,56]"
    words = "data.batch_size=2 model.width=0.25 trainer.max_steps=2 logger.panels=0"
    assert train(*small.split(), *words.split(), "hydra.run.dir=run").code == 0
    answer = command("eval", "run/checkpoints/best.ckpt", "split=val", "hydra.run.dir=again")
    assert answer.code == 0 and " [" in answer.out
    for folder, split in (("run", "val"), ("run", "test"), ("again", "val")):
        counts, checkpoints = read_images(Path(folder))
        metrics = json.loads(Path(folder, "metrics.json").read_text())[split]
        figures = Scores.of(torch.from_numpy(counts[split].matrices.sum(0)))
        told = figures.as_dict(counts[split].classes)
        assert {key: metrics[key] for key in told} == told
        loss = counts[split].losses.sum() / counts[split].matrices.sum()
        assert metrics["loss"] == pytest.approx(loss, rel=1e-12)
        low, high = metrics["intervals"]["miou"]
        assert low <= metrics["miou"] <= high
        assert checkpoints[0].resolve() == Path("run/checkpoints/best.ckpt").resolve()
        rows = csv.DictReader(Path(folder, "images.csv").read_text().splitlines())
        assert tuple(row["id"] for row in rows if row["split"] == split) == counts[split].ids
    assert (
        json.loads(Path("again/metrics.json").read_text())["val"]
        == json.loads(Path("run/metrics.json").read_text())["val"]
    )
