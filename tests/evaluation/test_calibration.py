"""Calibration, on scores whose calibration is known by construction."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from torch import Tensor

import toyfcn
from toyfcn.config.data import VOCConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation.calibration import (
    bins,
    calibration,
    expected_error,
    fit_temperature,
    sampled,
)
from toyfcn.runs.checkpoint import checked_configs
from toyfcn.runs.resume import stored_config


class Scores(torch.nn.Module):
    """A convolution's scores of a photo, at its size."""

    def __init__(self, conv: torch.nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        scores: Tensor = self.conv(image.float())
        return scores


def calibrated(pixels: int = 100_000, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Scores, and labels that are drawn from their very probabilities."""
    random = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(pixels, classes, generator=random)
    return scores, torch.multinomial(scores.softmax(1), 1, generator=random)[:, 0]


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    scores, labels = calibrated()
    assert expected_error(bins(scores, labels)) < 0.01
    assert fit_temperature(scores, labels) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("factor", [3.0, 0.4])
def test_the_temperature_undoes_a_known_factor(factor: float) -> None:
    """Too confident, or too little so, by one factor in all scores."""
    scores, labels = calibrated()
    temperature = fit_temperature(factor * scores, labels)
    assert temperature == pytest.approx(factor, rel=0.02)
    assert expected_error(bins(factor * scores, labels)) > 0.1
    assert expected_error(bins(factor * scores / temperature, labels)) < 0.01


def test_bins_equal_a_plain_loop() -> None:
    scores, labels = calibrated(500)
    found = bins(scores, labels)
    rows: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(scores.double().tolist(), labels.tolist(), strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        rows[int(shares.max() * 15)].append((float(shares.max()), int(shares.argmax()) == label))
    for seen, (confidence, accuracy, share) in zip(rows, found.tolist(), strict=True):
        assert share == pytest.approx(len(seen) / 500)
        if seen:
            assert confidence == pytest.approx(np.mean([c for c, _ in seen]))
            assert accuracy == pytest.approx(np.mean([right for _, right in seen]))
    expected = sum(len(s) * abs(np.mean([c - r for c, r in s])) for s in rows if s) / 500
    assert expected_error(found) == pytest.approx(expected)


def test_a_network_of_one_answer(tiny_voc: Path) -> None:
    """It is sure to 0.9 that all is background, which is right for a known share of the pixels."""
    data = SegmentationData.open(VOCConfig(root=str(tiny_voc), workers=0))

    class Background(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image: Tensor, size: tuple[int, int]) -> Tensor:
            scores = torch.zeros(1, 21, *size)
            scores[:, 0] = np.log(0.9 / 0.1 * 20)
            return scores

    ids = data.split_ids("trainval")
    masks = torch.cat([data.source.mask(name).flatten() for name in ids])
    right = float((masks[masks != 255] == 0).double().mean())
    found = calibration(Background(), data, ids)
    assert found["ece"] == pytest.approx(abs(0.9 - right), abs=1e-6)
    assert found["bins"][13] == pytest.approx([0.9, right, 1.0])
    assert found["ece_at_temperature"] < 1e-3
    assert found["pixels"] == int((masks != 255).sum())


def test_no_more_pixels_are_taken_than_the_docs_say(
    tiny_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = SegmentationData.open(VOCConfig(root=str(tiny_voc), workers=0))
    ids = data.split_ids("trainval")
    net = torch.nn.Conv2d(3, 21, 1)
    for most in (len(ids), 1000, 5000):
        monkeypatch.setattr("toyfcn.evaluation.calibration.PIXELS", most)
        _, labels = sampled(Scores(net), data, ids)
        assert most / 2 <= len(labels) <= most


def test_metrics_have_it_and_the_report_draws_it(train: Command, command: Command) -> None:
    small = "data.train_images=4 data.val_images=3 data.test_images=2 data.size=[48,56]"
    words = "data.batch_size=2 model.width=0.25 trainer.max_steps=2 logger.panels=0"
    assert train(*small.split(), *words.split(), "hydra.run.dir=run").code == 0
    found = json.loads(Path("run/metrics.json").read_text())["test"]["calibration"]
    assert 0 <= found["ece"] <= 1 and len(found["bins"]) == 15
    assert command("report", "run").code == 0
    assert "<h2>Calibration</h2>" in Path("run/report.html").read_text()


@pytest.mark.parametrize("scored", [True, False])
def test_the_checkpoint_keeps_the_temperature(train: Command, tmp_path: Path, scored: bool) -> None:
    """A network that says 3 times the right scores at every pixel, of masks drawn by chance."""
    random = np.random.default_rng(0)
    for part in ("photos", "masks"):
        (tmp_path / part).mkdir()
    for index in range(6):
        photo = random.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / f"photos/{index}.png")
        labels = (random.random((48, 48)) < 0.3).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / f"masks/{index}.png")
    words = (
        "data=folder data.images=photos data.masks=masks data.classes=[no,yes] data.batch_size=2"
    )
    words += " data.val_fraction=0.5 recipe.lr=0 trainer.max_steps=1 logger.panels=0"
    assert train(*words.split(), "hydra.run.dir=first").code == 0
    content = torch.load("first/checkpoints/last.ckpt", weights_only=True)
    assert "temperature" not in content["toyfcn"]
    for name, value in content["state_dict"].items():
        if name.startswith("net.heads.0."):
            value.zero_()
    content["state_dict"]["net.heads.0.bias"][:] = 3 * torch.tensor([0.7, 0.3]).log()
    torch.save(content, "sure.ckpt")
    unscored = ["data.val_split=null", "data.test_split=val", "optimized_metric=test.miou"]
    split = [] if scored else unscored
    assert train(*words.split(), *split, "ckpt=sure.ckpt", "hydra.run.dir=run").code == 0

    best = Path("run/checkpoints/best.ckpt")
    metrics = json.loads(Path("run/metrics.json").read_text())
    predictor = toyfcn.load(best)
    photo = np.zeros((40, 56, 3), np.uint8)
    found = predictor.probabilities(photo)
    assert found.shape == (2, 40, 56) and bool(found.sum(0).isclose(torch.tensor(1.0)).all())
    assert np.array_equal(found.max(0).indices.numpy(), predictor.predict(photo))
    if not scored:
        assert predictor.temperature == 1
        assert found[0].mean().item() == pytest.approx(0.7**3 / (0.7**3 + 0.3**3), abs=1e-4)
        return
    assert predictor.temperature == metrics["val"]["calibration"]["temperature"]
    assert predictor.temperature == pytest.approx(3, rel=0.1)
    source = toyfcn.SegmentationData.open(stored_config(Path("run")).data).source
    masks = torch.stack([source.mask(name) for name in source.ids("val")])
    assert found[0].mean().item() == pytest.approx((masks == 0).double().mean().item(), abs=1e-3)
    shutil.copy(best, "copy.ckpt")
    assert toyfcn.load([best, "copy.ckpt"]).temperature == 1  # none is fitted to their mean
    assert metrics["val"] == toyfcn.evaluate(best)  # scores do not depend on it


@pytest.mark.parametrize("forged", [0, "1", 0.0, 21.0, float("nan")])
def test_a_forged_temperature_is_refused(forged: object) -> None:
    known = {"classes": ["a", "b"], "palette": [0] * 768, "void": 255, "temperature": forged}
    with pytest.raises(ValueError, match="temperature is not a number from"):
        checked_configs(known)
