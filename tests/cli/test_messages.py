"""What goes wrong is told in one line that says what to do: choices, own data files, weights."""

import pickle
from pathlib import Path

import pytest
import torch
from conftest import Command

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.pretrained import load_weights
from toyfcn.models.weights_file import read_tensors


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("experiment=nosuch", ("mine", "deep/er", "paper/skips", "voc2007_best")),
        ("experiment=skips", ("did you mean paper/skips",)),
        ("experiment=paper/skip", ("no experiment/paper/skip (did you mean paper/skips",)),
        ("experiment=deep/err", ("did you mean deep/er",)),
        (
            "-m hydra/sweeper=optuna",
            ("no hydra/sweeper/optuna: choose sweep=grid or sweep=optuna",),
        ),
        ("-m hydra/launcher=slurm", ("or launcher=submitit_slurm",)),
        ("hydra/job_logging=x", ("toyfcn-train: there is no hydra/job_logging/x (known: default",)),
        ("epochs=5", ("no option is called epochs (did you mean trainer.max_epochs?)",)),
        ("steps=5", ("or trainer.max_steps?)",)),
        ("data.size=96", ("toyfcn-train: data.size is a list, as in data.size=[96]\n",)),
        ("data.images=x", ("is an option of data of the kind folder alone",)),
    ],
)
def test_what_there_is_to_choose(
    command: Command, tmp_path: Path, words: str, told: tuple[str, ...]
) -> None:
    (tmp_path / "own/experiment/deep").mkdir(parents=True)
    for name in ("mine", "deep/er"):
        (tmp_path / f"own/experiment/{name}.yaml").write_text("# @package _global_\nseed: 1\n")
    answer = command("train", "--config-dir", "own", *words.split())
    assert answer.code == 2 and answer.err.count("\n") == 1
    for text in told:
        assert text in answer.err


SCHEMA = "defaults: [folder_schema, _self_]\n"
FILES = {
    "": "defaults: [folder_schema, _self_]",
    "# nothing\n": "defaults: [folder_schema, _self_]",
    "images: a\nmasks: b\n": "defaults: [folder_schema, _self_]",
    "root: a\n": "defaults: [folder_schema, _self_]",
    f"{SCHEMA}classes: {{0: a, 1: b}}\n": "data.classes is a list: [a, b, …]",
    f"{SCHEMA}classes: a, b\n": "data.classes is a list: [a, b, …], not a, b",
    f"{SCHEMA}images: {{x: y}}\n": "data.images is a text, not keys",
    "- a\n": "a config has keys with values",
}


@pytest.mark.parametrize("name", ["train", "data check", "eval ckpt=x"])
@pytest.mark.parametrize("text", FILES)
def test_a_data_file_of_ones_own(command: Command, tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "own/data").mkdir(parents=True)
    (tmp_path / "own/data/mine.yaml").write_text(text)
    answer = command(*name.split(), "--config-dir", "own", "data=mine")
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert "in data/mine.yaml: " in answer.err and FILES[text] in answer.err


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_file_that_names_code_is_told_without_torchs_advice(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"net": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match=r"safely: it names code, torch\.nn\.\S+Linear, beside"):
        read_tensors(path, "ckpt")
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="damaged, or no file that torch"):
        read_tensors(path, "ckpt", old_format=True)


def test_weights_of_a_vgg_with_batch_normalization(tmp_path: Path) -> None:
    net = build_network(ModelConfig(name="fcn_vgg16", stride=32, norm="none", width=0.02), 3)
    assert isinstance(net, FCN)
    names = ("features.0.weight", "features.1.running_mean")
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "bn.pth")
    with pytest.raises(ValueError, match="VGG-16 with batch normalization"):
        load_weights(net, str(tmp_path / "bn.pth"))


def test_a_mistake_leaves_the_current_folder(command: Command, tmp_path: Path) -> None:
    """Where Hydra makes no folder for a run, the run's folder is the current one."""
    assert command("predict").code == 2 and tmp_path.is_dir()
    (tmp_path / "my.log").touch()
    assert command("predict").code == 2 and (tmp_path / "my.log").is_file()
    assert command("eval", "hydra.run.dir=new", "ckpt=none").code == 2
    assert not (tmp_path / "new").exists()
