"""Callbacks of the user's own, and further settings of Lightning's Trainer."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import Command
from killer import equal, same_end, weights

from toyfcn.training import extensions

MODULE = """
import numpy as np
import torch
from pytorch_lightning import Callback

class Counter(Callback):
    def __init__(self, add=1):
        torch.rand(3)  # draws where the network's weights are drawn
        self.add, self.batches = add, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches += self.add

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state):
        self.batches = state["batches"]

    def on_train_end(self, trainer, pl_module):
        print("counted", self.batches)

class Hoarder(Callback):
    def state_dict(self):
        return {"seen": np.zeros(3)}

class Late(Callback):
    seen = None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen = {Late}

    def state_dict(self):
        return {"seen": self.seen}

class Stopper(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = True

def text():
    return "no callback"
"""
SMALL = """
    data.train_images=10 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.25 trainer.max_steps=6 trainer.val_every=2 trainer.threads=1 logger.every=1
    trainer.accelerator=cpu logger.panels=0
    """
WORDS = SMALL.split()
COUNTER = "trainer.callbacks=[{target: mycode:Counter, args: {add: 3}}]"


@pytest.fixture(autouse=True)
def mycode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mycode", raising=False)
    Path("mycode.py").write_text(MODULE)


@pytest.mark.slow
def test_a_callback_goes_on_where_it_was(
    train: Command, tmp_path: Path, stop_at: Callable[[int], None]
) -> None:
    answer = train(*WORDS, COUNTER, "hydra.run.dir=whole")
    assert answer.code == 0 and "counted 18" in answer.out, answer.err
    stop_at(3)
    assert train(*WORDS, COUNTER, "hydra.run.dir=run").code == 143
    answer = train("resume=run")
    assert answer.code == 2 and "resume=run wants to run code of yours or of others" in answer.err
    answer = train("resume=run", "trust=[mycode]")
    assert answer.code == 0 and "counted 18" in answer.out, answer.err
    same_end(tmp_path / "run", tmp_path / "whole")
    assert train(*WORDS, "hydra.run.dir=plain").code == 0
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trainer.callbacks=[mycode:Counted]", "mycode has no Counted: did you mean Counter?"),
        ("trainer.callbacks=[mycode:text]", "makes a str, not a pytorch_lightning.Callback"),
        ("trainer.callbacks=[{target: mycode:Counter, args: {ad: 1}}]", "(it takes add)"),
        ("trainer.callbacks=[{name: mycode:Counter}]", "is neither package.module:name nor"),
        ("trainer.callbacks=[3]", "is neither package.module:name nor"),
        ("trainer.callbacks=[mycode:Hoarder]", "mycode:Hoarder cannot be kept: plain numbers"),
        ("trainer.callbacks=[mycode:Late]", "state of the callback Late cannot be kept"),
        ("trainer.callbacks=[mycode:Counter,mycode:Counter]", "more than one stateful callback"),
        (
            "trainer.callbacks=[pytorch_lightning.callbacks:Timer]",
            "a budget is steps, never seconds",
        ),
        ("trainer.extra={acumulate_grad_batches: 2}", "did you mean accumulate_grad_batches"),
        ("trainer.extra={accumulate_grad_batches: 2}", "would lose their gradients: raise data."),
        ("trainer.extra={max_steps: 2}", "max_steps is set by trainer.max_steps"),
        ("trainer.extra={max_time: 60}", "a budget is steps, never seconds"),
        ("trainer.extra={limit_train_batches: 2}", "finds its place by whole epochs"),
        ("trainer.extra={detect_anomaly: 1.5}", "detect_anomaly=1.5 is not"),
        ("trainer.extra={num_sanity_val_steps: many}", "num_sanity_val_steps=many is not"),
        ("trainer.extra={gradient_clip_algorithm: value}", "needs recipe.clip"),
        ("trainer.extra={gradient_clip_algorithm: size} recipe.clip=1", "is norm or value"),
        ("trainer.extra={limit_val_batches: 0}", "is data.val_split=null"),
        ("trainer.extra={limit_val_batches: -3}", "trainer.callbacks or trainer.extra: "),
        ("trainer.extra=fast", "is not like {detect_anomaly: true}"),
    ],
)
def test_mistakes_are_told_in_a_line(train: Command, words: str, told: str) -> None:
    first, _, rest = words.partition("} ")
    given = [first + "}", rest] if rest else [words]
    answer = train(*WORDS, *given, "hydra.run.dir=run")
    assert answer.code == 2 and told in answer.err, answer.err
    assert answer.err.count("\n") == 1


def test_every_setting_of_the_trainer_is_known_or_passed_on() -> None:
    """One that a version of Lightning adds is looked at: the names below are all that pass."""
    known = {*inspect.signature(pl.Trainer).parameters}
    refused = {*extensions.BY_OPTION, *extensions.BREAKS}
    assert not {*extensions.BY_OPTION} & {*extensions.BREAKS} and refused <= known
    assert known - refused == {
        *("min_epochs", "min_steps", "limit_val_batches", "num_sanity_val_steps"),
        *("gradient_clip_algorithm", "inference_mode", "detect_anomaly", "enable_autolog_hparams"),
    }


def test_what_the_trainer_is_told_has_its_effect(train: Command, tmp_path: Path) -> None:
    assert train(*WORDS, "recipe.clip=0.001", "hydra.run.dir=norm").code == 0
    words = ["recipe.clip=0.001", "recipe.optimizer=sgd", "recipe.momentum=0"]
    words += ["recipe.weight_decay=0", "recipe.schedule=constant", "recipe.lr=1"]
    value = "trainer.extra={gradient_clip_algorithm: value, detect_anomaly: true}"
    assert train(*WORDS, *words, value, "trainer.max_steps=1", "hydra.run.dir=value").code == 0
    start = {"trainer.max_steps=1", "recipe.lr=0"}
    rest = [word for word in words if not word.startswith("recipe.lr")]
    assert train(*WORDS, *rest, *start, "hydra.run.dir=start").code == 0
    before, after = (weights(tmp_path / name)["state_dict"] for name in ("start", "value"))
    moved = max(
        (after[key] - before[key]).abs().max().item()
        for key in after
        if key.endswith("weight") and after[key].dtype == torch.float32
    )
    assert moved == pytest.approx(0.001, rel=1e-3)  # by value: no weight moves further


def test_a_part_of_the_validation_and_a_sanity_check(train: Command, tmp_path: Path) -> None:
    extra = "trainer.extra={limit_val_batches: 1, num_sanity_val_steps: 1}"
    few = ["data.batch_size=1", "recipe.average=0.9"]
    assert train(*WORDS, *few, "hydra.run.dir=whole").code == 0
    assert train(*WORDS, *few, extra, "hydra.run.dir=part").code == 0
    assert equal(
        weights(tmp_path / "part")["state_dict"], weights(tmp_path / "whole")["state_dict"]
    )
    histories = [Path(name, "history.csv").read_text() for name in ("part", "whole")]
    assert histories[0] != histories[1] and histories[0].count("\n") == 4
    metrics = json.loads(Path("part/metrics.json").read_text())
    assert metrics["val"]["images"] == 3  # at the end all are scored


def test_the_least_steps_and_a_callback_that_stops(
    train: Command, tmp_path: Path, stop_at: Callable[[int], None]
) -> None:
    """And a run that is stopped before goes on to the same end."""
    words = [*WORDS, "trainer.callbacks=[mycode:Stopper]", "trainer.extra={min_steps: 4}"]
    answer = train(*words, "hydra.run.dir=whole")
    assert answer.code == 0 and json.loads(Path("whole/run.json").read_text())["steps"] == 4
    stop_at(2)
    assert train(*words, "hydra.run.dir=run").code == 143
    assert train("resume=run", "trust=[mycode]").code == 0
    same_end(tmp_path / "run", tmp_path / "whole")
