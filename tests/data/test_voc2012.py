"""The paper's rungs on VOC2012, as far as they go without weights, photos and GPU: in miniature."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.runs import checkpoint
from toyfcn.training.task import SegmentationTask

MINIATURE = """
    data.root=. data.workers=0 model.width=0.02 trainer=cpu trainer.threads=1 trainer.max_steps=4
    trainer.val_every=2 logger.panels=0 logger.every=1
    """
Rung = Callable[..., str]


@pytest.fixture
def home(tiny_voc: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with VOCdevkit/VOC2012: masks of SBD for trainaug, and VOC's own for seg11valid."""
    monkeypatch.chdir(tiny_voc)
    year = tiny_voc / "VOCdevkit" / "VOC2012"
    (tiny_voc / "VOCdevkit" / "VOC2007").rename(year)
    (year / "SegmentationClassAug").mkdir()
    lists = year / "ImageSets" / "Segmentation"
    for name in (lists / "train.txt").read_text().split():
        shutil.move(year / "SegmentationClass" / f"{name}.png", year / "SegmentationClassAug")
    (lists / "train.txt").rename(lists / "trainaug.txt")
    (lists / "val.txt").rename(lists / "seg11valid.txt")
    return tiny_voc


@pytest.fixture
def rung(home: Path, train: Command) -> Rung:
    """Trains a rung in miniature; returns what was printed."""

    def run(name: str, *words: str, code: int = 0) -> str:
        answer = train(f"experiment=voc2012_{name}", *MINIATURE.split(), *words)
        assert answer.code == code, answer.err
        return str(answer.out + answer.err)

    return run


def release(path: Path) -> str:
    """A file as the Caffe release's FCN-32s has it, all its weights random."""
    torch.manual_seed(0)
    net = build_network(ModelConfig(name="fcn_vgg16", stride=32, width=0.02, norm="none"), 21)
    names = {"heads.0.weight": "score_fr.weight", "heads.0.bias": "score_fr.bias"}
    state = {names.get(n, n.removeprefix("trunk.")): v for n, v in net.named_parameters()}
    state["score_fr.weight"] = torch.randn_like(state["score_fr.weight"])
    torch.save({n: v.detach() for n, v in state.items() if n[:3] != "ups"}, path)
    return f"model.weights={path}"


def first_score(printed: str) -> float:
    return float(re.findall(r"before the first step: val mean IU ([\d.]+)", printed)[0])


def scored(folder: str) -> float:
    return float(json.loads(Path(folder, "metrics.json").read_text())["val"]["miou"])


@pytest.mark.slow
def test_the_rungs_start_from_each_other(home: Path, rung: Rung) -> None:
    printed = rung("fcn32s", release(home / "fcn32s.pth"), "hydra.run.dir=32")
    assert "weights copied; left new: ups.0.weight" in printed
    # four steps of 1e-10 change next to nothing, so what training starts from is seen at its end
    assert scored("32") == pytest.approx(first_score(printed), abs=0.01)
    for finer, coarser in (("16", "32"), ("8", "16")):
        ckpt = f"ckpt={coarser}/checkpoints/best.ckpt"
        printed = rung(f"fcn{finer}s", ckpt, f"hydra.run.dir={finer}")
        assert "left new: heads." in printed
        assert first_score(printed) == pytest.approx(scored(coarser), abs=0.02)
    last = checkpoint.load("8/checkpoints/best.ckpt")
    assert last.net.offsets == [5, 9, 31]
    assert (last.data.train_split, last.data.val_split) == ("trainaug", "seg11valid")
    at_once = ["model.at_once=true", "trainer.max_steps=2"]
    printed = rung("fcn8s", f"model.weights={home / 'fcn32s.pth'}", *at_once)
    assert "left new: heads.1.weight" in printed


@pytest.mark.slow
def test_a_rung_that_is_stopped_goes_on(
    home: Path, rung: Rung, train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = release(home / "fcn32s.pth")
    rung("fcn32s", weights, "hydra.run.dir=whole")
    step = SegmentationTask.training_step

    def struck(task: SegmentationTask, *given: Any) -> Any:
        if task.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(task, *given)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "training_step", struck)
        rung("fcn32s", weights, "hydra.run.dir=run", code=143)
    assert train("resume=run").code == 0
    whole, run = (
        checkpoint.load(f"{folder}/checkpoints/last.ckpt").net.state_dict()
        for folder in ("whole", "run")
    )
    assert all(torch.equal(value, run[name]) for name, value in whole.items())


@pytest.mark.slow
def test_a_rung_without_weights_is_warned_of(rung: Rung) -> None:
    printed = rung("fcn16s", "trainer.max_steps=2")
    assert "VGG-16 learns next to nothing from scratch without normalization" in printed
    assert "predictions have collapsed to one class: 100.0 %" in printed


def test_what_is_missing_is_told(home: Path, rung: Rung) -> None:
    told = rung("fcn32s", "model.weights=/nowhere/vgg.pth", code=2)
    assert "model.weights=/nowhere/vgg.pth does not exist" in told
    told = rung("fcn16s", "ckpt=a.ckpt", "model.weights=imagenet", code=2)
    assert "ckpt= brings weights, and so does model.weights=imagenet" in told
    shutil.rmtree(home / "VOCdevkit/VOC2012/SegmentationClassAug")
    told = rung("fcn32s", "model.weights=null", code=2)
    assert "VOC2012/SegmentationClassAug is not a folder" in told
