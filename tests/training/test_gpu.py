"""Training on a GPU in deterministic mode: nothing raises, and a repeat gives the same figures."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, start_train
from killer import same_end

WORDS = """
    trainer=gpu data.train_images=12 data.val_images=3 data.test_images=5 data.size=[48,56]
    data.batch_size=4 trainer.max_steps=6 trainer.val_every=3 logger.every=1
    """
TINY = WORDS.split()
OPTIONS = [
    "model.stride=2 model.upsample=dense recipe=muon recipe.average=0.9",
    "trainer.fused=false recipe.class_weights=sqrt data.colour=0.3",
    "model=fcn_vgg16 model.stride=8 model.width=0.05 trainer.precision=bf16-mixed recipe.clip=1",
    "trainer.precision=16-mixed recipe.clip=1",
    "model=unet model.width=0.25 trainer.test_views=8",
    "model=fcn_timm model.backbone=test_efficientnet recipe=finetune data.crop=[48,48]",
    "model.short_side=32 recipe.pretrain_steps=1 trainer.tf32=false",
    "trainer.compile=true data.crop=[48,48] data.workers=2",
]

SCORING = [f"trainer.{name}" for name in ("precision", "test_views", "tf32", "fused")]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def metrics(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize("options", OPTIONS)
def test_deterministic_training_repeats(train: Command, tmp_path: Path, options: str) -> None:
    for name in ("a", "b"):
        answer = train(*TINY, *options.split(), f"hydra.run.dir={name}")
        assert answer.code == 0, answer.err
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


@pytest.mark.parametrize("options", OPTIONS)
def test_scored_again_it_has_the_same_figures(
    train: Command, command: Command, tmp_path: Path, options: str
) -> None:
    assert train(*TINY, *options.split(), "hydra.run.dir=run").code == 0
    scoring = [w for w in options.split() if w.split("=")[0] in SCORING]
    words = ["ckpt=run/checkpoints/best.ckpt", "split=test", "hydra.run.dir=scored"]
    assert command("eval", *words, "trainer.accelerator=gpu", *scoring).code == 0
    assert metrics(tmp_path / "scored")["test"] == metrics(tmp_path / "run")["test"]


@pytest.mark.parametrize("options", OPTIONS)
def test_stopped_and_continued_it_ends_alike(
    train: Command, stop_at: Any, tmp_path: Path, options: str
) -> None:
    assert train(*TINY, *options.split(), "hydra.run.dir=calm").code == 0
    for step in (1, 4):
        stop_at(step)
        words = [*TINY, *options.split(), "hydra.run.dir=run"] if step == 1 else ["resume=run"]
        assert train(*words).code == 128 + signal.SIGTERM
    assert train("resume=run").code == 0
    same_end(tmp_path / "run", tmp_path / "calm")


def test_a_run_of_the_cpu_goes_on_here(train: Command, stop_at: Any, tmp_path: Path) -> None:
    """As trainer=auto may: what AdamW keeps of VGG's filters lies otherwise in memory there."""
    model = "model=fcn_vgg16 model.stride=8 model.width=0.05 recipe.average=0.9"
    stop_at(4)
    assert train(*TINY, *model.split(), "hydra.run.dir=run").code == 128 + signal.SIGTERM
    last = tmp_path / "run/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True, map_location="cpu")
    for kept in content["optimizer_states"][0]["state"].values():
        kept |= {key: value.contiguous() for key, value in kept.items()}
    torch.save(content, last)
    answer = train("resume=run")
    assert answer.code == 0, answer.err


FAILS = """
import pytorch_lightning as pl

class Fails(pl.Callback):
    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            raise RuntimeError("out of memory, it says")
"""


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_one_gpu_that_fails_ends_the_other(tmp_path: Path) -> None:
    """With norms that wait for each other, too."""
    (tmp_path / "fails.py").write_text(FAILS)
    words = [*TINY, "trainer=ddp", "trainer.devices=2", "trainer.sync_batchnorm=true"]
    run = start_train(tmp_path, *words, "trainer.callbacks=[fails:Fails]", "hydra.run.dir=run")
    _, told = run.communicate(timeout=120)  # the start of both, and half a minute
    assert run.returncode == 2 and "out of memory, it says" in told, told


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_equal_one(train: Command, tmp_path: Path) -> None:
    words = [*TINY, "model.norm=none", "trainer.tf32=false"]
    assert train(*words, "hydra.run.dir=one").code == 0
    run = start_train(tmp_path, *words, "trainer=ddp", "trainer.devices=2", "hydra.run.dir=two")
    _, told = run.communicate(timeout=300)
    assert run.returncode == 0, told
    last = "checkpoints/last.ckpt"
    ends = [torch.load(tmp_path / name / last, weights_only=True) for name in ("one", "two")]
    for name, weight in ends[0]["state_dict"].items():
        torch.testing.assert_close(weight, ends[1]["state_dict"][name], rtol=0, atol=1e-4)
