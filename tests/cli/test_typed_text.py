"""A text is read as it was typed: on the command line, in own files and in sweeps."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Command
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from toyfcn.cli.compose import compose_train
from toyfcn.cli.typed_text import as_typed, keep_text
from toyfcn.config.commands import COMMANDS
from toyfcn.config.data import FolderConfig, VOCConfig
from toyfcn.config.inference import PredictConfig
from toyfcn.config.option import Checked

ODD = ["2024_11", "2024_11_27", "1.10", "1e3", "007", "010", "0x1F", "1_0", "-5", "+5", "inf"]
ODD += [
    "nan",
    "null",
    "None",
    "true",
    "False",
    "no",
    "on",
    "yes",
    "2024-11-27",
    "12:30",
    "1.",
    ".5",
]
ODD += [
    "~x",
    "run[1]",
    "[a]",
    "a (2)",
    "{a}",
    "a=b",
    "it's",
    "50%",
    "a#b",
    "a&b!",
    "é ü",
    "日本",
    "a: b",
]


@pytest.mark.parametrize("text", ODD)
def test_a_text_is_what_was_typed(text: str) -> None:
    for key in ("out", "+out", "data.root", "split"):
        (word,) = as_typed([f"{key}={text}"], "predict")
        assert OverridesParser.create().parse_override(word).value() == text


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("out='1e3'", "1e3"),
        ('out="a,b"', "a,b"),
        ("out=${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("out=", ""),
        ("ckpt=null", None),
        ("source=[1.10,007,x y]", ["1.10", "007", "x y"]),
        ("source=[a (1).jpg,b]", ["a (1).jpg", "b"]),
        ("scores=true", True),
        ("model=2024_11", "2024_11"),
        ("hydra.run.dir=1.10", "1.10"),
    ],
)
def test_what_has_another_meaning_keeps_it(word: str, value: object) -> None:
    (read,) = as_typed([word], "predict")
    assert OverridesParser.create().parse_override(read).value() == value


@pytest.mark.parametrize("values", ["1.10,007,x", "choice(1.10,007,x)", "shuffle(1.10,007,x)"])
def test_a_sweep_is_one(values: str) -> None:
    (word,) = as_typed([f"data.name={values}"], "train")
    override = OverridesParser.create().parse_override(word)
    assert override.is_sweep_override()
    read = [str(value).strip("'") for value in override.sweep_string_iterator()]
    assert sorted(read) == ["007", "1.10", "x"]


def test_python_has_the_same() -> None:
    words = ["data=folder", "data.images=2024_11_27", "data.masks=1e3", "data.classes=[000,010,no]"]
    data = compose_train(words).data
    assert isinstance(data, FolderConfig)
    assert (data.images, data.masks, data.classes) == ("2024_11_27", "1e3", ["000", "010", "no"])


def test_braces_are_text() -> None:
    words = ["data.images={split}", "data.masks={split}annot", "data.mask_name={stem}_gt.png"]
    data = compose_train(["data=folder", *words]).data
    assert isinstance(data, FolderConfig)
    found = (data.images, data.masks, data.mask_name)
    assert found == ("{split}", "{split}annot", "{stem}_gt.png")


FILE = """# @package _global_
defaults: [override /data: folder]
data:
  images: 2024_11
  masks: 1e3
  root: ~/photos
  lists: null
  classes: [background, no, on, 000, 010, 1.10, null, ~, 2024-11-27]
ckpt: 0x1F
optimized_metric: val.miou
sweep: {name: 007}
"""


@pytest.mark.parametrize(
    "flags",
    ["--config-dir {}", "--config-dir={}", "-cd {}", "-cp {}", "hydra.searchpath=[{}]"],
)
def test_an_own_file_keeps_its_texts(command: Command, tmp_path: Path, flags: str) -> None:
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(FILE)
    answer = command("train", *flags.format("own").split(), "experiment=mine", "--cfg", "job")
    config = yaml.safe_load(answer.out)
    data = config["data"]
    assert (data["images"], data["masks"], data["lists"]) == ("2024_11", "1e3", None)
    wanted = ["background", "no", "on", "000", "010", "1.10", "null", "~", "2024-11-27"]
    assert data["classes"] == wanted
    assert (config["ckpt"], config["sweep"]["name"]) == ("0x1F", "007")


def test_merged_keys_keep_their_texts(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("<<: {images: 007}\nmasks: 1_0\n")
    config = OmegaConf.create()  # what YAML has made of it is put in its place
    keep_text(config, file, "data", "train")
    assert config.data == {"images": "007", "masks": "1_0"}


def test_a_group_of_ones_own_may_be_called_by_a_number(command: Command, tmp_path: Path) -> None:
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/2024_11.yaml").write_text("# @package _global_\nseed: 7\n")
    words = ("--config-dir", "own", "experiment=2024_11", "--cfg", "job")
    assert yaml.safe_load(command("train", *words).out)["seed"] == 7


PATHS = {
    "ckpt": COMMANDS["eval"],
    "out": COMMANDS["export"],
    "source": PredictConfig,
    "report": COMMANDS["data"],
    "resume": COMMANDS["train"],
    "rerun": COMMANDS["train"],
    "root": VOCConfig,
    "images": FolderConfig,
    "masks": FolderConfig,
    "lists": FolderConfig,
    "classes_file": FolderConfig,
    "cache_folder": FolderConfig,
}


@pytest.mark.parametrize(("option", "schema"), PATHS.items())
def test_a_path_may_begin_at_home(option: str, schema: type[Checked]) -> None:
    here: Any = schema(**{option: "~/x/"})
    assert getattr(here, option) == f"{Path.home()}/x/"


def test_runs_may_lie_at_home(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    command("eval", "ckpt=~/none.ckpt", "hydra.run.dir=~/2024_11")
    (word,) = as_typed(["hydra.run.dir=~/2024_11"], "eval")
    assert word == f"hydra.run.dir={tmp_path}/home/2024_11"
    assert not (tmp_path / "~").exists()
