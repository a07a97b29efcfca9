"""toyfcn-new: a project that trains at once, and whose tests pass."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Command

from toyfcn.commands import new


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["toyfcn-new", *words])
    new.main()


@pytest.mark.slow
def test_the_project_trains_and_its_tests_pass(
    train: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(monkeypatch, "mine")
    assert "toyfcn-train --config-dir conf experiment=first" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mycode"]:
        monkeypatch.delitem(sys.modules, name)  # another test's
    short = ["trainer.max_steps=20", "trainer.val_every=20", "trainer.threads=1"]
    answer = train("--config-dir", "conf", "experiment=first", *short, "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    scores = json.loads(Path("run/metrics.json").read_text())["val"]
    assert scores["iou"]["rectangle"] > 0.3 and scores["images"] == 30
    done = subprocess.run([sys.executable, "-m", "unittest"], capture_output=True, text=True)
    assert done.returncode == 0 and "Ran 2 tests" in done.stderr, done.stderr


def test_a_folder_that_holds_something_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/file").touch()
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "there")
    assert stopped.value.code == 2
    assert "there is not empty: name a new folder" in capsys.readouterr().err
    assert [path.name for path in Path("there").iterdir()] == ["file"]
