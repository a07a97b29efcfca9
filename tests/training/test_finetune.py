"""A network of timm goes through all that other networks go through: train, stop, score, export."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.timm_backbone import TimmBackbone
from toyfcn.runs import checkpoint
from toyfcn.training.device import compile_backbone
from toyfcn.training.task import SegmentationTask

pytest.importorskip("timm", reason="timm: pip install 'toyfcn[backbones]'")
WORDS = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,57] recipe=finetune
    data.batch_size=2 model=fcn_timm model.backbone=test_efficientnet trainer.max_steps=4
    trainer.val_every=2 trainer.accelerator=cpu trainer.threads=1
    """
TINY = WORDS.split()
BEST = "run/checkpoints/best.ckpt"


@pytest.fixture
def trained(train: Command) -> Command:
    """Runs toyfcn-train; one training lies in the folder run already."""
    assert train(*TINY, "hydra.run.dir=run").code == 0
    return train


def weights(folder: str) -> dict[str, torch.Tensor]:
    return checkpoint.load(f"{folder}/checkpoints/best.ckpt").net.state_dict()


def test_it_is_scored_predicts_and_starts_a_finer_one(command: Command, trained: Command) -> None:
    found = json.loads(Path("run/metrics.json").read_text())
    assert command("eval", f"ckpt={BEST}", "split=test", "hydra.run.dir=scored").code == 0
    assert json.loads(Path("scored/metrics.json").read_text())["test"] == found["test"]
    answer = command("predict", f"ckpt={BEST}", "source=data/shapes/JPEGImages", "out=masks")
    assert answer.code == 0
    assert len(list(Path("masks").glob("*_overlay.png"))) == 10
    finer = [*TINY, f"ckpt={BEST}", "model.stride=4", "recipe.freeze=backbone"]
    assert trained(*finer, "hydra.run.dir=finer").code == 0
    before, after = weights("run"), weights("finer")
    assert all(value.equal(after[key]) for key, value in before.items() if key.startswith("trunk."))
    assert not before["heads.0.weight"].equal(after["heads.0.weight"])
    means = [value for key, value in before.items() if key.endswith("running_mean")]
    assert means and not any(mean.any() for mean in means)  # as a fresh norm has them


@pytest.mark.slow
def test_stopped_and_continued_it_ends_alike(
    trained: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = SegmentationTask.training_step

    def striking(task: SegmentationTask, *given: Any) -> Any:
        if task.global_step == 3:
            monkeypatch.setattr(SegmentationTask, "training_step", work)
            os.kill(os.getpid(), signal.SIGTERM)
        return work(task, *given)

    monkeypatch.setattr(SegmentationTask, "training_step", striking)
    assert trained(*TINY, "hydra.run.dir=stopped").code == 143
    assert trained("resume=stopped").code == 0
    alone = weights("run")
    assert all(value.equal(alone[key]) for key, value in weights("stopped").items())


def test_features_of_a_frozen_backbone_are_computed_once(
    train: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, forward = [], TimmBackbone.forward

    def counted(backbone: TimmBackbone, x: torch.Tensor) -> list[torch.Tensor]:
        if not torch.is_inference_mode_enabled():  # as scoring does
            seen.append(len(x))
        return forward(backbone, x)

    monkeypatch.setattr(TimmBackbone, "forward", counted)
    words = [*TINY, "recipe.freeze=backbone", "data.augment=false", "model.dropout=0"]
    words += ["trainer.max_steps=6", "trainer.val_every=6", "data.train_images=4"]
    found = []
    for cache in ("none", "features"):
        seen.clear()
        answer = train(*words, f"data.cache={cache}", f"hydra.run.dir={cache}")
        assert answer.code == 0, answer.err
        found.append(sum(seen))
    assert found[0] - found[1] == 6 * 2 - 4  # six steps of two photos, four photos
    plain, kept = weights("none"), weights("features")
    assert plain["heads.0.weight"].any()
    for key, value in plain.items():
        torch.testing.assert_close(kept[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("word", ["recipe.freeze=null", "data.augment=true", "data.crop=[32,32]"])
def test_features_that_change_are_not_kept(train: Command, word: str) -> None:
    words = [*TINY, "recipe.freeze=backbone", "data.augment=false", "data.cache=features"]
    answer = train(*words, word)
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert "data.cache=features needs " in answer.err and word.partition("=")[0] in answer.err


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_compiled_it_computes_the_same() -> None:
    config = ModelConfig(name="fcn_timm", backbone="test_efficientnet", stride=8, dropout=0)
    net = build_network(config, 3).eval()  # statistics of so few cells would magnify roundings
    for head in net.heads:
        torch.nn.init.normal_(head.weight, std=0.1)
    photo, found = torch.randint(0, 256, (2, 3, 45, 70), dtype=torch.uint8), []
    for compiled in (False, True):
        if compiled:
            compile_backbone(net.backbone, "cpu")
        net.zero_grad()
        scores = net(photo)
        scores.square().mean().backward()
        found.append([scores.detach(), *(p.grad.clone() for p in net.backbone.parameters())])
    for eager, fast in zip(*found, strict=True):
        assert (fast - eager).abs().max() <= 1e-4 * eager.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_resnet"])
def test_exported_it_computes_the_same(command: Command, train: Command, name: str) -> None:
    pytest.importorskip("onnxruntime", reason="needs toyfcn[export]")
    assert train(*TINY, f"model.backbone={name}", "hydra.run.dir=run").code == 0
    answer = command("export", f"ckpt={BEST}")
    assert answer.code == 0, answer.err  # it has compared three sizes with torch
