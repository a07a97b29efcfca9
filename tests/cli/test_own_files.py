"""Commands behave alike whether options come from the command line or from the user's own files."""

import json
from pathlib import Path

import pytest
import yaml
from conftest import Answer, Command

from toyfcn.runs.resume import free, stored_config
from toyfcn.runs.run import CONFIG, OVERRIDES

TINY = """# @package _global_
data: {train_images: 4, val_images: 1, test_images: 1, size: [48, 48], batch_size: 2}
model: {width: 0.25}
trainer: {max_steps: 2, val_every: 1, accelerator: cpu}
logger: {panels: 0}
"""
WAYS = {
    "config-dir": "--config-dir own experiment=mine",
    "short": "-cd own experiment=mine",
    "joined": "--config-dir=own experiment=mine",
    "path": "-cp own experiment=mine",
    "searchpath": "hydra.searchpath=[own] experiment=mine",
    "name": "-cd own -cn whole",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment/mine.yaml").write_text(TINY)
    body = TINY.partition("\n")[2]
    (folder / "whole.yaml").write_text(f"defaults: [train, _self_]\n{body}")
    return folder


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "way",
    [
        way if way in ("joined", "path") else pytest.param(way, marks=pytest.mark.slow)
        for way in WAYS
    ],
)
def test_a_runs_folder_is_safe_and_goes_on(train: Command, tmp_path: Path, way: str) -> None:
    words = (*WAYS[way].split(), "hydra.run.dir=run")
    assert train(*words).code == 0
    last = (tmp_path / "run/checkpoints/last.ckpt").read_bytes()
    again: Answer = train(*words, "seed=1")
    assert again.code == 2 and "holds another run's checkpoints" in again.err
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() == last
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    answer = train(*words, "resume=auto")
    assert answer.code == 0 and "resuming at step 2" in answer.out, answer
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    flags = [word for word in WAYS[way].split() if word not in ("-cn", "whole", "experiment=mine")]
    answer = train(*flags, "resume=run")
    assert answer.code == 0 and "resuming at step 2" in answer.out, answer


@pytest.mark.parametrize("way", ["config-dir", "joined", "searchpath"])
def test_a_file_that_is_hidden_by_a_shipped_one_is_told(
    train: Command, own: Path, way: str
) -> None:
    (own / "recipe").mkdir()
    (own / "recipe/modern.yaml").write_text("lr: 0.5\n")
    answer = train(*WAYS[way].split())
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert (
        "recipe/modern.yaml is not used: toyfcn has a recipe/modern.yaml of its own" in answer.err
    )
    config = yaml.safe_load(train("-cp", "own", "--cfg", "job").out)
    assert config["recipe"]["lr"] == 0.5  # own files come first there


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-cn eval", "eval.yaml is no config of this command: its defaults must begin with train"),
        ("-cd own -cn experiment/mine", "type experiment=mine"),
        ("-cd own -cn nosuch", "nosuch"),
        ("-cd nosuch", "nosuch"),
        ("-cp nosuch", "nosuch"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true is switched off"),
        ("-m hydra.job.chdir=true", "hydra.job.chdir=true is switched off"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(train: Command, words: str, told: str) -> None:
    answer = train(*words.split())
    assert answer.code == 2 and answer.err.count("\n") == 1 and told in answer.err
    assert not [path for path in Path("outputs").rglob("*") if path.is_file()]


def test_what_is_free_on_resume_is_read_as_typed(train: Command, own: Path) -> None:
    train("-cd", "own", "experiment=mine", "hydra.run.dir=run")
    run = own.parent / "run"
    chosen = ["data.root=2024_11", "trainer.save_every=3", "trainer.progress=false"]
    config = stored_config(run, chosen)
    assert (config.data.root, config.trainer.save_every) == ("2024_11", 3)
    assert config.trainer.progress is False
    assert stored_config(run, ["trainer.save_every=null"]).trainer.save_every is None
    assert free(["data.root='it\\'s'", "seed=1"]) == ["data.root=it's"]
    older = (run / CONFIG).read_text().replace("val.miou", "val.loss")
    (run / CONFIG).write_text(older.replace("direction: null", "direction: maximize"))
    assert stored_config(run).monitored == ("loss", True)  # as nobody had chosen otherwise
    assert yaml.safe_load((run / OVERRIDES).read_text()) == ["experiment=mine"]


def test_the_variable_names_a_folder_for_good(
    train: Command, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOYFCN_CONF", f"{own}:nowhere")
    answer = train("experiment=mine")
    assert answer.code == 2 and "TOYFCN_CONF=nowhere: " in answer.err, answer.err
    assert "is not a folder" in answer.err and answer.err.count("\n") == 1
    monkeypatch.setenv("TOYFCN_CONF", str(own))
    assert train("experiment=mine", "hydra.run.dir=run").code == 0
    assert stored_config(Path("run")).data.size == [48, 48]
    answer = train("experiment=none")
    assert answer.code == 2 and "mine" in answer.err


def test_a_package_offers_configs(
    train: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "theirs/conf/experiment").mkdir(parents=True)
    (site / "theirs/__init__.py").touch()
    (site / "theirs/conf/experiment/theirs.yaml").write_text(TINY)
    facts = site / "theirs-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[toyfcn.configs]\ntheirs = theirs.conf\n")
    monkeypatch.syspath_prepend(site)
    assert train("experiment=theirs", "hydra.run.dir=run").code == 0
    assert stored_config(Path("run")).data.size == [48, 48]
