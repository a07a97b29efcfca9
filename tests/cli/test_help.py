"""Help, mistakes and completion as a user meets them: quick, without torch, in fresh processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from toyfcn.cli import CONF
from toyfcn.cli.completion import offered
from toyfcn.cli.missing_inputs import refuse_missing_inputs
from toyfcn.config.commands import TrainConfig

BIN = Path(sys.executable).parent
HEAVY = ("torch", "pytorch_lightning", "torchvision", "matplotlib", "optuna", "onnx", "tensorboard")
COMMANDS = {
    "train": "toyfcn.commands.train",
    "eval": "toyfcn.commands.eval",
    "compare": "toyfcn.commands.compare",
    "predict": "toyfcn.commands.predict",
    "demo": "toyfcn.commands.demo",
    "export": "toyfcn.commands.export",
    "data": "toyfcn.commands.data",
}


def shell(*words: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | extra
    return subprocess.run(
        words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """The --help of every command, a typo and a completion query, each in one process."""
    asked = [(module, [name, "--help", "all"]) for name, module in COMMANDS.items()]
    asked += [("toyfcn.commands.train", ["train", "recipe.lrr=1"])]
    asked += [("toyfcn.commands.train", ["train", "-sc", "query=bash"])]
    code = f"""
import importlib, sys
for module, words in {asked!r}:
    sys.argv = ["toyfcn-" + words[0], *(["check"] if words[0] == "data" else []), *words[1:]]
    try:
        importlib.import_module(module).main()
    except SystemExit:
        pass
    found = sorted(set({HEAVY!r}) & set(sys.modules))
    assert not found, (words, found)
"""
    done = shell(sys.executable, "-c", code, cwd=tmp_path, COMP_LINE="toyfcn-train recipe.l")
    assert done.returncode == 0, done.stderr
    for words in ("model.stride", "voc2007", "at least", "epoch | uniform", "sweep.claim.margin"):
        assert words in done.stdout
    for name in COMMANDS:
        assert done.stdout.count(f"toyfcn-{name}") >= 4  # usage and three examples
    assert "no option is called recipe.lrr (did you mean recipe.lr?)" in done.stderr
    assert done.stdout.rstrip().endswith("recipe.loss= recipe.loss_args= recipe.lr=")


ABSENT = {  # told before the imports that take seconds
    "train ckpt=no.ckpt": "ckpt=no.ckpt does not exist",
    "train data=folder data.images=a data.masks=b": "data.images=a: a is not a folder",
    "eval": "ckpt= is missing",
    "eval here data=voc2012 data.root=no": "no VOC2012 found: data.root=no",
    "predict a.jpg ckpt=no.ckpt": "ckpt=no.ckpt does not exist",
    "predict a.jpg ckpt=here": "source=a.jpg does not exist",
    "demo ckpt=here compare=no.ckpt": "compare=no.ckpt does not exist",
    "train debug=null": "there is no debug/null (known: fast, limit",
}


def test_what_is_missing_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("no checkpoint")
    code = f"""
import contextlib, importlib, io, sys
for line, told in {ABSENT!r}.items():
    name, *words = line.split()
    sys.argv = ["toyfcn-" + name, *words]
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            importlib.import_module("toyfcn.commands." + name).main()
    except SystemExit as stop:
        assert stop.code == 2, line
    assert told in heard.getvalue() and heard.getvalue().count("\\n") == 1, (line, heard.getvalue())
assert "torch" not in sys.modules
"""
    done = shell(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_gpu_is_looked_for_with_pytorch_alone() -> None:
    config = SimpleNamespace(trainer=SimpleNamespace(accelerator="gpu"))
    with (
        mock.patch("torch.accelerator.is_available", return_value=False),
        pytest.raises(ValueError, match=r"trainer\.accelerator=gpu, but PyTorch finds no GPU"),
    ):
        refuse_missing_inputs(config, "toyfcn-train")


def test_hydras_own_flags_still_work(tmp_path: Path) -> None:
    done = shell("toyfcn-train", "model.stride=2", "--cfg", "job", cwd=tmp_path)
    assert "stride: 2" in done.stdout
    assert "provider" in shell("toyfcn-train", "--info", "searchpath", cwd=tmp_path).stdout.lower()


UNREAD = {
    "help": "toyfcn-eval --help",
    "config": "toyfcn-train --cfg job",
    "mistake": "toyfcn-train recipe.lrr=1",
    "training": "toyfcn-train debug=fast trainer.max_steps=1 hydra.run.dir=run data.size=[48,48] "
    "data.train_images=4 data.val_images=4 data.test_images=4",
}


@pytest.mark.parametrize(
    "name",
    ["help", "config", "mistake", pytest.param("training", marks=pytest.mark.slow)],
)
def test_nobody_reads_what_is_printed(tmp_path: Path, name: str) -> None:
    """As with ``| head``: the other end of both streams is closed before anything is printed."""
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    words = UNREAD[name].split()
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, stdout=write, stderr=write, check=False
    )
    os.close(write)
    assert done.returncode == (2 if name == "mistake" else 0)
    if name == "training":  # all of it is done, to the last file
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
        assert "mean IU" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_the_reader_leaves_a_launchers_jobs(tmp_path: Path) -> None:
    """Their processes print by themselves."""
    words = "toyfcn-train -m launcher=joblib debug=fast seed=0,1 hydra.sweep.dir=sweep"
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    with subprocess.Popen(
        words.split(),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        while process.poll() is None and not list(tmp_path.glob("sweep/*/run.json")):
            time.sleep(0.05)
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    for name in "01":
        record = json.loads((tmp_path / "sweep" / name / "run.json").read_text())
        assert record["status"] == "finished", record


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("toyfcn-train model.str", {"model.stride="}),
        ("toyfcn-train data=voc20", {"data=voc2007", "data=voc2011", "data=voc2012"}),
    ],
)
def test_tab_completion_in_bash(tmp_path: Path, line: str, expected: set[str]) -> None:
    """What bash itself offers after the documented line, asked as the tab key asks."""
    words = line.split()
    script = f"""
eval "$(toyfcn-train -sc install=bash)"
COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(words) - 1} COMP_WORDS=({line})
function_name=$(complete -p toyfcn-train | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function_name
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = shell("bash", "-c", script, cwd=tmp_path)
    assert expected <= set(done.stdout.split()), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("experiment=paper/sk", ["experiment=paper/skips", "experiment=paper/skips_vgg"]),
        ("trainer=", ["trainer=auto", "trainer=cpu", "trainer=ddp", "trainer=gpu"]),
        ("model.geometry=", ["model.geometry=same", "model.geometry=paper"]),
        ("trainer.test_views=", ["trainer.test_views=1", "trainer.test_views=2"]),
        ("data.kind=v", ["data.kind=voc"]),
        ("trainer.fused=f", ["trainer.fused=false"]),
        ("recipe.lr=", []),
        ("-cd own experiment=", []),  # Hydra knows the files there
    ],
)
def test_choices_are_offered(
    monkeypatch: pytest.MonkeyPatch, word: str, expected: list[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", f"toyfcn-train seed=1 {word}")
    assert offered(TrainConfig, CONF)[: len(expected) or 1] == expected


MISTAKES = {
    "key": ("recipe:\n  lrr: 1", r"in experiment/mine.yaml: no option is called recipe.lrr"),
    "top": ("recipee:\n  lr: 1", r"in experiment/mine.yaml: .* recipee \(did you mean recipe"),
    "type": ("recipe:\n  lr: fast", r"in experiment/mine.yaml: recipe.lr: Value 'fast'"),
    "group": ("defaults:\n  - override /recpie: paper", r"in experiment/mine.yaml: .*mean recipe"),
    "choice": ("defaults:\n  - override /recipe: papr", r"in experiment/mine.yaml: .*mean paper"),
    "bound": ("recipe:\n  lr: -1", r"in experiment/mine.yaml: recipe.lr=-1.0 is below 0$"),
    "argument": ("recipe:\n  lr: -1", r"^toyfcn-train: recipe.lr=-2.0 is below 0$"),
    "two": (
        "data:\n  val_split: null\ntrainer:\n  patience: 2",
        r"in experiment/mine.yaml: trainer.patience needs a data.val_split",
    ),
    "search": ("sweep:\n  n_trials: 0", r"in experiment/mine.yaml: sweep.n_trials=0 is below 1$"),
    "chosen": (
        "defaults:\n  - override /recipe: mine",
        r"in recipe/mine.yaml: recipe.clip=-3.0 is",
    ),
    "syntax": ("recipe: [", r"experiment/mine.yaml\", line"),
    "callback": (
        "hydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: touch RAN",
        "hydra.callbacks.x._target_=os.system is not code that a config may name",
    ),
    "weights": (
        "hydra:\n  callbacks:\n    x:\n      _target_: torch.hub.load\n      repo: x",
        "_target_=torch.hub.load is not code",
    ),
    "handler": (
        "hydra:\n  job_logging:\n    handlers:\n      file:\n        (): os.system\n"
        "        command: touch RAN",
        "os.system is not code",
    ),
    "class": (
        "hydra:\n  job_logging:\n    handlers:\n      file: {class: subprocess.Popen, args: [ls]}",
        "subprocess.Popen is not code",
    ),
    "stream": (
        "hydra:\n  job_logging:\n    handlers:\n      console: {stream: 'ext://os.environ'}",
        "ext://os.environ is not code",
    ),
    "made up": (
        "hydra:\n  callbacks: \"${oc.decode:'{x: {_tar${y}: os.system}}'}\"",
        "may not make up what code it names",
    ),
}
SWEEP = ["-m", "seed=0,1"]
WORDS = {"callback": [[], SWEEP], "search": [SWEEP], "argument": [["recipe.lr=-2"]]}


@pytest.mark.slow
def test_mistakes_in_a_file_of_ones_own_name_it(tmp_path: Path) -> None:
    """All in one process: an experiment file of the user's, and one from someone not to trust."""
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "recipe").mkdir()
    (tmp_path / "own" / "recipe" / "mine.yaml").write_text("defaults: [modern]\nclip: -3\n")
    code = f"""
import re, sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
import io, contextlib
from toyfcn.commands import train
for name, (text, words) in {MISTAKES!r}.items():
    for extra in {WORDS!r}.get(name, [[]]):
        Path("own/experiment/mine.yaml").write_text("# @package _global_\\n" + text + "\\n")
        sys.argv = ["toyfcn-train", "--config-dir", "own", "experiment=mine", *extra]
        heard = io.StringIO()
        try:
            with contextlib.redirect_stderr(heard):
                train.main()
            sys.exit("it ran: " + name)
        except SystemExit as stop:
            assert stop.code == 2, (name, stop.code)
        lines = heard.getvalue().strip().splitlines()
        assert len(lines) == 1 and re.search(words, lines[0]), (name, lines)
    assert "torch" not in sys.modules
assert not Path("RAN").exists()
"""
    done = shell(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
