"""toyfcn-data plan: its rules on made-up data sets, and the files that it writes are trained."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import FolderConfig
from toyfcn.data.tools.survey import Survey
from toyfcn.runs.resume import stored_config
from toyfcn.training import plan, proposal
from toyfcn.training.proposal import fitted, propose

VOC = Survey(209, 375, 38, {"background": 0.73, "cat": 0.267, "cow": 0.003}, 376, 0.168)
SHAPES = Survey(1000, 96, 1, {"background": 0.78, "disc": 0.18, "star": 0.04}, 1086, 0.194)


def test_voc_is_planned_as_its_best_experiment() -> None:
    found = propose(VOC, "tf_efficientnet_lite2").config(FolderConfig(), 450)
    data, model, recipe = found.data, found.model, found.recipe
    assert (model.short_side, model.stride, data.crop, data.buckets) == (256, 8, [256, 256], None)
    assert (data.scale, data.colour, recipe.class_weights) == ([0.6, 2.0], 0.4, "none")
    assert (recipe.lr, recipe.backbone_lr_factor, recipe.freeze_norm) == (0.002, 0.1, True)


def test_shapes_are_planned_as_their_best_experiment() -> None:
    found = propose(SHAPES, None).config(FolderConfig(), 1800)
    data, model, recipe = found.data, found.model, found.recipe
    assert (model.short_side, model.stride, data.crop, data.buckets) == (72, 2, None, None)
    assert (data.scale, data.colour, recipe.class_weights) == ([1.0, 1.0], 0.0, "sqrt")
    assert (recipe.optimizer, recipe.lr, model.maps) == ("muon", 0.1, [16, 48, 128, 96])


@pytest.mark.parametrize(
    ("backbone", "changes", "expected"),
    [
        ("tf_efficientnet_lite0", {}, {"short_side": 224, "crop": [224, 224]}),
        ("tf_efficientnet_lite0", {"object_size": 0.05}, {"short_side": 320, "stride": 8}),
        ("tf_efficientnet_lite0", {"object_size": 0.02}, {"short_side": 512, "stride": 4}),
        ("tf_efficientnet_lite0", {"object_size": 0.6}, {"crop": None, "buckets": 6}),
        ("tf_efficientnet_lite0", {"object_size": 0.6, "photos": 30}, {"buckets": 3}),
        ("tf_efficientnet_lite0", {"object_size": 0.6, "sizes": 1}, {"buckets": None}),
        (None, {}, {"short_side": 80, "crop": [80, 80], "scale": [1.0, 1.5]}),
        (None, {"short": 64}, {"short_side": 64}),
        (None, {"object_size": 0.5}, {"short_side": 48, "stride": 4}),
        (None, {"shares": {"a": 0.6, "b": 0.4}}, {"class_weights": "none"}),
        (None, {"shares": {"a": 0.95, "b": 0.05, "c": 0}}, {"class_weights": "sqrt"}),
    ],
)
def test_rules(backbone: str | None, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = propose(dataclasses.replace(VOC, **changes), backbone)
    values = {**found.model, **found.data, **found.recipe}
    assert {key: values[key] for key in expected} == expected


def test_the_batch_fits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(free: int | None, photos: int = 1000) -> Any:
        monkeypatch.setattr(hardware, "free_memory", lambda: free)
        seen = dataclasses.replace(SHAPES, photos=photos)
        return fitted(propose(seen, None), FolderConfig(), seen, 7).data["batch_size"]

    assert batch(None) == batch(1 << 34) == 8
    assert batch(1 << 20) == 2
    sizes = [batch(mb << 20) for mb in (1, 20, 30, 40, 60)]
    assert sizes == sorted(sizes) and 4 in sizes
    assert batch(1 << 34, photos=5) == 5


def own_photos(folder: Path) -> list[str]:
    """30 photos of two sizes and their masks, and the options that tell of them."""
    for part in ("photos", "masks"):
        (folder / part).mkdir()
    for index in range(30):
        width, height = ((80, 64), (64, 96))[index % 2]
        noise = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"photos/p{index}.jpg")
        labels = np.zeros((height, width), np.uint8)
        labels[20:40, 10 + index : 30 + index] = 1
        Image.fromarray(labels).save(folder / f"masks/p{index}.png")
    return ["data=folder", "data.images=photos", "data.masks=masks", "data.classes=[no,yes]"]


@pytest.mark.parametrize("kind", ["shapes", "voc", "own"])
@pytest.mark.usefixtures("one_thread")
def test_the_file_trains_as_it_was_measured(
    kind: str, command: Command, tmp_path: Path, tiny_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, more = own_photos(tmp_path), ["trainer.max_steps=2"]
    if kind == "shapes":
        words = [
            "data.train_images=20",
            "data.val_images=3",
            "data.test_images=2",
            "data.size=[48,56]",
        ]
    if kind == "voc":
        pytest.importorskip("timm", reason="timm: pip install 'toyfcn[backbones]'")
        words = [f"data.root={tiny_voc}", "data=voc2007", "data.test_split=null"]
        monkeypatch.setattr(proposal, "BACKBONES", {"test_efficientnet": 32})
        more.append("model.weights=null")
    usable = ["test_efficientnet" if kind == "voc" else None]
    monkeypatch.setattr(plan, "usable", lambda _: usable)
    written: list[TrainConfig] = []
    text_of = plan.experiment
    monkeypatch.setattr(
        plan, "experiment", lambda full, *given: written.append(full) or text_of(full, *given)
    )
    answer = command("data", "plan", *words, "minutes=1")
    assert answer.code == 0, answer.err
    text = Path("conf/experiment/planned.yaml").read_text()
    assert "#   toyfcn-train --config-dir conf experiment=planned\n" in text
    for about in ("model", "recipe", "short side", "stride", "crop", "batch size", "steps"):
        assert f"# - {about}: " in text
    options = ["trainer.accelerator=cpu", "hydra.run.dir=run", *more]
    answer = command("train", "--config-dir", "conf", "experiment=planned", *options)
    assert answer.code == 0, answer.err
    (planned,) = written
    trained = stored_config(Path("run"))
    trained.trainer.max_steps, trained.trainer.accelerator = planned.trainer.max_steps, "auto"
    trained.model.weights = planned.model.weights
    for group in ("data", "model", "recipe", "trainer"):
        assert getattr(trained, group) == getattr(planned, group)


@pytest.mark.usefixtures("one_thread")
def test_mistakes_are_told_and_nothing_is_written_over(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "usable", lambda _: [None])
    words = own_photos(tmp_path)
    there = tmp_path / "conf/experiment/mine.yaml"
    there.parent.mkdir(parents=True)
    there.write_text("precious")
    for option, told in (
        (f"out={there}", "exists: name another file, or delete it"),
        ("out=planned.yaml", "must be a .yaml file in a folder called experiment"),
        ("out=experiment/planned", "must be a .yaml file in a folder called experiment"),
        ("minutes=0.1", "leaves no time to train: starting and scoring take 2"),
        ("report=x", "report= has no effect here: it is of toyfcn-data check"),
        ("data.batch_size=4", "data.batch_size has no effect here"),
    ):
        answer = command("data", "plan", *words, option)
        assert answer.code == 2 and told in answer.err, answer.err
    assert there.read_text() == "precious"
    for index in range(30):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"masks/p{index}.png")
    answer = command("data", "plan", *words)
    assert answer.code == 2 and "its masks hold a single class" in answer.err
