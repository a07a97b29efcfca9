"""The public names: each has an example that runs; training from Python is that of toyfcn-train."""

import doctest
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

import toyfcn
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import VOCConfig
from toyfcn.models.lenet import LeNetBackbone

NAMES = [name for name in toyfcn.__all__ if name != "__version__"]
ORDER = sorted(NAMES, key=lambda name: name != "train")  # the others use its run
GLOBALS = {
    "toyfcn": toyfcn,
    "pl": pl,
    "numpy": np,
    "CSVLogger": CSVLogger,
    "VOCConfig": VOCConfig,
    "LeNetBackbone": LeNetBackbone,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.usefixtures("one_thread")
def test_every_public_name_has_an_example_that_runs(
    name: str, home: Path, tiny_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    if not (home / "voc").exists():
        (home / "voc").symlink_to(tiny_voc)
    public = getattr(toyfcn, name)
    module = sys.modules[public.__module__]
    (example,) = (
        test
        for test in doctest.DocTestFinder(recurse=False).find(public, name, module=module)
        if test.examples
    )
    example.globs |= GLOBALS
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert result.attempted and not result.failed, "".join(told)
    assert inspect.getdoc(public)


def test_importing_the_package_takes_no_library() -> None:
    code = "import toyfcn, sys; assert not {'torch', 'hydra', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(NAMES) < set(dir(toyfcn))
    with pytest.raises(AttributeError, match="'nosuch'"):
        _ = toyfcn.nosuch


@pytest.mark.usefixtures("one_thread")
def test_a_typed_config_trains_as_overrides_do(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(
        data=VOCConfig(root=str(tiny_voc), test_split=None, crop=[32, 32], batch_size=2)
    )
    config.trainer.max_steps, config.model.width = 2, 0.25
    typed = toyfcn.train(config, folder="typed")
    words = f"data=voc2007 data.root={tiny_voc} data.test_split=null data.crop=[32,32]"
    more = "data.batch_size=2 trainer.max_steps=2 model.width=0.25"
    assert toyfcn.train([*words.split(), *more.split()]) == typed
    (other,) = Path("outputs/train/voc2007-fcn_lenet").iterdir()
    weights = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (Path("typed"), other)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert toyfcn.train(["resume=typed"]) == typed  # it has finished already


def test_mistakes_are_value_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for overrides, words in (
        (["recipe.lrr=1"], "did you mean recipe.lr"),
        (["seed=-1"], "seed=-1 is below 0"),
        (["data=vok2007"], "there is no data/vok2007"),
        (["hydra.run.dir=x"], "folder="),
        (["data=voc2007", "data.root=nowhere"], "no VOC2007 found"),
    ):
        with pytest.raises(ValueError, match=words):
            toyfcn.train(overrides)
    with pytest.raises(ValueError, match="does not exist"):
        toyfcn.load("nowhere.ckpt")
