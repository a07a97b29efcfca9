"""trainer=ddp: two processes on the CPU end where one does with the same batches."""

import csv
import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import start_train
from torch import nn

from toyfcn.cli import CONF
from toyfcn.cli.compose import compose_train
from toyfcn.config.model import NOT_OF, ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.models.build import build_network
from toyfcn.runs.interrupt import Interrupted
from toyfcn.training import distributed
from toyfcn.training.task import SegmentationTask

# 7 images in batches of 3: shares of 2 and 1, and of the last batch one process has none
WORDS = """
    data.train_images=7 data.val_images=3 data.test_images=2 data.size=[48,56] data.batch_size=3
    data.augment=false model.width=0.25 model.norm=none recipe.class_weights=sqrt
    trainer.max_steps=6 trainer.val_every=3 trainer.threads=1 trainer.accelerator=cpu
    logger.every=1 logger.panels=1
    """
RUN = WORDS.split()
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]
RECIPES = [path.stem for path in sorted((CONF / "recipe").glob("*.yaml"))]
MILD = {"online": "recipe.lr=0.05 recipe.clip=1", "paper": "recipe.lr=1e-5"}
# without what two processes draw or count otherwise, dropout and batch norm's statistics, and with
# SGD where deep layers begin with gradients near 0, whose last bits AdamW makes to whole steps
MODELS = {
    "fcn_lenet": "",
    "fcn_vgg16": "model.dropout=0 recipe.optimizer=sgd recipe.lr=0.01",
    "fcn_timm": "model.backbone=test_resnet.r160_in1k model.dropout=0 recipe.freeze_norm=true",
    "fcn_torchvision": "model.dropout=0 recipe.freeze_norm=true recipe.optimizer=sgd",
    "unet": "",
    "custom": "model.target=plain:Plain",
}
PLAIN = """
from torch import nn
class Plain(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, classes, 1))
"""
CELLS = {f"recipe={name}": MILD.get(name, "") for name in RECIPES}
CELLS |= {f"model={path.stem}": MODELS[path.stem] for path in (CONF / "model").glob("*.yaml")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return dict(content["state_dict"])


def same_runs(two: Path, one: Path) -> None:
    others = weights(one)
    for name, weight in weights(two).items():
        torch.testing.assert_close(weight, others[name], rtol=0, atol=1e-4, msg=name)
    for split in ("val", "test"):
        found, wanted = (
            json.loads((run / "metrics.json").read_text())[split] for run in (two, one)
        )
        assert found["images"] == wanted["images"]
        assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-3)
        assert found["miou"] == pytest.approx(wanted["miou"], abs=0.02)
    histories = [list(csv.DictReader((run / "history.csv").open())) for run in (two, one)]
    assert [row["step"] for row in histories[0]] == [row["step"] for row in histories[1]]
    for row, other in zip(*histories, strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(other["train_loss"]), abs=1e-4)
        assert float(row["val_loss"]) == pytest.approx(float(other["val_loss"]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_two_processes_equal_one(tmp_path: Path, cell: str) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    missing = NOT_OF[cell.removeprefix("model=")] if cell.startswith("model=") else ()
    known = [w for w in RUN if w.split("=")[0].removeprefix("model.") not in missing]
    words = [*known, cell, *CELLS[cell].split()]
    runs = [
        start_train(tmp_path, *words, "hydra.run.dir=one"),
        start_train(tmp_path, *words, *DDP, "hydra.run.dir=two", "data.root=data2"),
    ]
    for run in runs:
        _, told = run.communicate(timeout=120)
        assert run.returncode == 0, told
    same_runs(tmp_path / "two", tmp_path / "one")
    assert files(tmp_path / "two") == files(tmp_path / "one")  # only the first process writes
    log = tmp_path / "outputs" / "test_scorings.csv"  # a line for each run, not for each process
    assert len(log.read_text().splitlines()) == 3 and not (tmp_path / "outputs/train").exists()
    assert "Warning" not in told


def files(run: Path) -> list[str]:
    """List what a run has written; each file of curves has a name of its own."""
    places = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    return [str(p.parent if p.parent.name == "tensorboard" else p) for p in places]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_signal_stops_both_and_they_go_on(tmp_path: Path, recipe: str) -> None:
    longer = [*RUN, *DDP, "trainer.max_steps=45", "trainer.val_every=15", "trainer.save_every=1"]
    longer += [f"recipe={recipe}", *MILD.get(recipe, "").split()]
    run, last = (
        start_train(tmp_path, *longer, "hydra.run.dir=run"),
        tmp_path / "run/checkpoints/last.ckpt",
    )
    while not last.exists() and run.poll() is None:
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 143, told
    step = torch.load(last, weights_only=True)["toyfcn_run"]["step"]
    assert 0 < step < 45
    for words in (["resume=run"], [*longer, "hydra.run.dir=whole"]):
        run = start_train(tmp_path, *words)
        _, told = run.communicate(timeout=120)
        assert run.returncode == 0, told
    resumed, whole = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_one_that_fails_ends_the_other(tmp_path: Path) -> None:
    run = start_train(tmp_path, *RUN, *DDP, "recipe=paper", "recipe.lr=1e30", "hydra.run.dir=run")
    _, told = run.communicate(timeout=60)
    assert run.returncode == 2, told
    assert "the loss is" in told and "Traceback" not in told
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


POISON = """
import pytorch_lightning as pl

def asks(loop):
    raise AssertionError("Lightning asks all GPUs for its SIGTERM in every step")

class Poison(pl.Callback):
    def setup(self, trainer, pl_module, stage):
        type(trainer.fit_loop.epoch_loop)._broadcast_sigterm_tensor = asks

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            pl_module.net.heads[0].bias.data.fill_(float("nan"))
"""


@pytest.mark.slow
def test_what_is_not_finite_in_one_stops_both_at_its_step(tmp_path: Path) -> None:
    (tmp_path / "poison.py").write_text(POISON)
    words = [*DDP, "trainer.callbacks=[poison:Poison]", "hydra.run.dir=run"]
    run = start_train(tmp_path, *RUN, *words)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 2, told
    facts = [torch.load(tmp_path / "run" / f"nonfinite{n}.pt") for n in ("", "1")]
    assert [(int(f["step"]), bool(f["loss"].isnan())) for f in facts] == [(4, True)] * 2


def test_a_process_without_a_share_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where norms are synchronized it would be missing among those who gather statistics."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    words = "trainer=ddp trainer.devices=4 trainer.sync_batchnorm=true data.batch_size=8"
    config = compose_train(words.split())
    assert distributed.synchronized(config, 20)
    with pytest.raises(ValueError, match=r"data\.batch_size=8 leaves 2 of 18 photos to one"):
        distributed.synchronized(config, 18)
    config.data.sampling = "uniform"  # every batch is full
    assert distributed.synchronized(config, 18)
    config.data.batch_size = 3
    with pytest.raises(ValueError, match=r"data\.batch_size=3 leaves 3 of 18"):
        distributed.synchronized(config, 18)


def test_a_failure_on_gpus_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only pretended: NCCL's work is given up, gloo's ends by itself."""
    given_up: list[str] = []
    backend = {"name": "nccl"}
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend["name"])
    met = [True]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: met[0])
    c10d = torch.distributed.distributed_c10d
    monkeypatch.setattr(c10d, "_abort_process_group", lambda: given_up.append(backend["name"]))
    fails, trainer = distributed.AbortOnFailure(), SimpleNamespace(world_size=2)
    fails.on_exception(trainer, None, Interrupted(15))
    assert not given_up
    met[0] = False  # one has failed before the others were met: there is nothing to give up
    fails.on_exception(trainer, None, RuntimeError("no such port"))
    assert not given_up
    met[0] = True
    fails.on_exception(trainer, None, RuntimeError("out of memory"))
    backend["name"] = "gloo"
    fails.on_exception(trainer, None, RuntimeError("out of memory"))
    fails.on_exception(SimpleNamespace(world_size=1), None, RuntimeError())
    assert given_up == ["nccl"]


def test_frozen_norms_are_frozen_when_synchronized() -> None:
    recipe = RecipeConfig(lr=0.1, freeze_norm=True)
    net = build_network(ModelConfig(width=0.25), 3)
    task = SegmentationTask(nn.SyncBatchNorm.convert_sync_batchnorm(net), ["a", "b", "c"], recipe)
    task.net.train()
    task.freeze_backbone()
    norms = [m for m in task.net.backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms and not any(norm.training for norm in norms)
