"""An option that is set and does nothing is an error: each command, each option."""

import ast
import dataclasses
from pathlib import Path

import pytest
from conftest import Command

import toyfcn
from toyfcn.cli.compose import compose_train
from toyfcn.cli.help import groups_in, option_names
from toyfcn.config.commands import COMMANDS
from toyfcn.config.data import KINDS
from toyfcn.config.no_effect import UNHEEDED
from toyfcn.config.trainer import ScoringConfig, TrainerConfig

SOURCE = Path(toyfcn.__file__).parent
SCHEMAS = {*COMMANDS.values(), *KINDS.values()}
SCHEMAS |= {kind for schema in COMMANDS.values() for kind in groups_in(schema).values()}


def read_in(*folders: str) -> set[str]:
    """All attributes that the code in some folders reads."""
    files = [path for folder in folders for path in (SOURCE / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_the_code_reads_every_option() -> None:
    folders = [path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "config"]
    options = {item.name for kind in SCHEMAS for item in dataclasses.fields(kind)}
    spelled = {"name"}  # sweep.name is read by conf/train.yaml
    assert options - spelled - read_in(*folders) == set()


def test_what_commands_refuse_are_options() -> None:
    for command, refused in UNHEEDED.items():
        known = option_names(COMMANDS[command])
        assert {f"{group}.{key}" for group, keys in refused.items() for key in keys} <= {*known}


def test_scoring_reads_every_option_of_its_trainer() -> None:
    options = {item.name for item in dataclasses.fields(ScoringConfig)}
    assert options <= read_in("inference", "runs")


@pytest.mark.parametrize(
    "option",
    [
        item.name
        for item in dataclasses.fields(TrainerConfig)
        if item.name not in {item.name for item in dataclasses.fields(ScoringConfig)}
    ],
)
def test_scoring_has_no_option_of_training_alone(command: Command, option: str) -> None:
    answer = command("eval", "ckpt=x.ckpt", f"trainer.{option}=1")
    assert answer.code == 2 and f"no option is called trainer.{option}" in answer.err
    assert f"trainer.{option} " not in command("eval", "--help").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "eval ckpt=x.ckpt trainer=ddp",
            "in trainer/ddp.yaml: no option is called trainer.devices",
        ),
        ("predict ckpt=x.ckpt source=. data.root=x", "data= has an effect with format=voc_server"),
        ("predict ckpt=x.ckpt source=. data=voc2007", "data= has an effect with format=voc_server"),
        ("predict ckpt=x.ckpt source=. split=val", "split= has an effect with format=voc_server"),
        ("eval ckpt=x.ckpt data.flip=0", "data.flip has no effect here, but in training"),
        ("eval ckpt=x.ckpt data=shapes data.crop=[64,64]", "data.crop has no effect here"),
        ("eval ckpt=x.ckpt data.val_split=x", "the list to score is split="),
        ("data draw keep=true", "keep= has no effect here: it is of toyfcn-data download"),
        ("data check mirrors=[x]", "mirrors= has no effect here: it is of toyfcn-data download"),
        ("data check data.limit=2", "data.limit has no effect here, but in training"),
        ("data draw data.flip=0", "data.flip has no effect here, but in training"),
        ("model model=fcn_vgg16 model.weights=x", "model.weights has no effect here"),
        ("data download report=x", "report= has no effect here: it is of toyfcn-data check"),
        ("train sweep.n_trials=3", "sweep.n_trials=3 has an effect in a sweep alone: add -m"),
    ],
)
def test_what_would_have_no_effect(command: Command, words: str, told: str) -> None:
    answer = command(*words.split())
    assert answer.code == 2 and answer.err.count("\n") == 1 and told in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.augment=false data.flip=0.3", ["data.flip has no effect without data.augment=true"]),
        ("data.augment=false", []),
        ("data.flip=0.3", []),
        ("recipe.adam_lr_factor=1", ["recipe.adam_lr_factor has no effect without recipe.opt"]),
        ("recipe=muon recipe.adam_lr_factor=1", []),
        (
            "recipe.freeze=backbone recipe.backbone_lr_factor=0.1",
            ["recipe.backbone_lr_factor has no effect without a backbone that learns"],
        ),
        ("recipe.freeze=backbone recipe.freeze_steps=9 recipe.backbone_lr_factor=0.1", []),
        ("model.norm=none recipe.freeze_norm=true", ["recipe.freeze_norm has no effect without"]),
        ("recipe.schedule=constant recipe.warmup=0.3", ["recipe.warmup has no effect without"]),
        ("recipe.pretrain_patches=3", ["recipe.pretrain_patches has no effect without"]),
        ("data=folder data.lists=x data.val_fraction=0.3", ["data.val_fraction has no effect"]),
        (
            "data=folder data.images=a/{split} data.masks=b/{split} data.split_seed=1",
            ["data.split_seed has no effect without data.lists=null and data.images without {spl"],
        ),
        ("trainer.sync_batchnorm=true", ["trainer.sync_batchnorm has no effect without several"]),
        (
            "data.val_split=null optimized_metric=test.miou logger.panels=3 logger.histograms=true",
            ["logger.panels has no", "logger.histograms has no"],
        ),
    ],
)
def test_what_has_no_effect_beside_others_is_warned_of(
    caplog: pytest.LogCaptureFixture, words: str, told: list[str]
) -> None:
    compose_train(words.split())
    assert len(caplog.messages) == len(told)
    for message, text in zip(caplog.messages, told, strict=True):
        assert message.startswith(text)
