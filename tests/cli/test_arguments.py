"""What people type first, and what they are told."""

import sys
from pathlib import Path

import pytest
from conftest import Command

from toyfcn import __version__
from toyfcn.cli import CONF
from toyfcn.cli.arguments import complete
from toyfcn.cli.help import describe, help_topic, option_names
from toyfcn.commands import toyfcn
from toyfcn.config.commands import COMMANDS

OPTIONS = option_names(COMMANDS["train"])


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("recipe.lr 0.01", "recipe.lr has no value: type recipe.lr=0.01"),
        ("lr 0.01", "lr has no value: type recipe.lr=0.01"),
        ("--lr 0.01", "--lr: options have no dashes: type recipe.lr=0.01"),
        ("--lr=0.01", "--lr=0.01: options have no dashes: type recipe.lr=0.01"),
        ("--max-steps", "--max-steps: options have no dashes: type trainer.max_steps=VALUE"),
        ("shapes_lenet", "shapes_lenet is a choice of a group: type experiment=shapes_lenet"),
        ("voc2007", "voc2007 is a choice of a group: type data=voc2007"),
        ("experiment shapes_lenet", "experiment has no value: type experiment=shapes_lenet"),
        ("--help=model", "type --help model"),
        (
            "-m seed=1,2 recipe.lrr",
            "recipe.lrr is not an option and its value, as in option=value ",
        ),
    ],
)
def test_words_without_a_value(typed: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"type |option=value") as error:
        complete(typed.split(), OPTIONS, None)
    assert str(error.value).startswith(told) and len(str(error.value)) < 200


def test_a_word_that_is_nothing_is_not_answered_with_all_options() -> None:
    with pytest.raises(ValueError, match=r"^-v is not .* \(--help lists what is known\)$"):
        complete(["-v"], OPTIONS, None)


def test_flags_and_overrides_stay_as_they_are() -> None:
    words = [
        "-m",
        "seed=1,2",
        "--config-dir",
        "own",
        "~recipe.clip",
        "+sweep=x",
        "--cfg",
        "job",
        "--info",
        "searchpath",
    ]
    assert complete(words, OPTIONS, None) == words


def test_paths_are_the_source_of_a_prediction() -> None:
    assert complete(["photo.jpg", "ckpt=x"], [], "source") == ["ckpt=x", "source='photo.jpg'"]
    assert complete(["a.ckpt", "b.ckpt"], [], "ckpt") == ["ckpt=['a.ckpt','b.ckpt']"]
    assert complete(["a,b.jpg", "it's"], [], "source") == ["source=['a,b.jpg','it\\'s']"]


def test_a_file_with_an_equals_sign_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=1.jpg").touch()
    assert complete(["a=1.jpg", "b=1.jpg"], [], "source") == ["b=1.jpg", "source='a=1.jpg'"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_screen_has_forty_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    screen = describe("toyfcn-x", COMMANDS[name], CONF)
    assert screen.count("\n") < 40
    assert ("paper/…" in screen) == (name == "train")


def test_help_of_a_group(train: Command) -> None:
    assert help_topic(["seed=1"]) is None and help_topic(["seed=1", "--help"]) == ""
    answer = train("--help", "trainer")
    assert "trainer=cpu               The CPU" in answer.out and "recipe.lr" not in answer.out
    assert "experiment=paper/skips" in train("help", "experiment").out
    assert "did you mean recipe?" in train("--help", "recipes").err
    assert train("--version").out == f"toyfcn {__version__}\n"


def test_the_command_without_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def type_(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["toyfcn", *words])
        toyfcn.main()
        return capsys.readouterr().out

    assert "\n  toyfcn-train    train a network, score" in type_()
    assert "\n  toyfcn-eval     score a checkpoint" in type_()
    assert type_("--version") == f"toyfcn {__version__}\n"
    assert type_("eval", "--help").startswith("toyfcn-eval: score")
    with pytest.raises(SystemExit):
        type_("trian")
    assert "there is no toyfcn-trian (did you mean toyfcn-train" in capsys.readouterr().err
