"""rerun=DIR: the same run again, and whether its numbers are the same."""

import json
import sys
from pathlib import Path

import pytest
import torch

from toyfcn import train
from toyfcn.resume import fingerprint, stored_config

WORDS = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,48] data.batch_size=2
    data.name=little model.width=0.25 trainer.max_steps=4 trainer.val_every=2 logger.panels=0
    trainer.threads=1 trainer.accelerator=cpu hydra.run.dir=first
    """
RUN = WORDS.split()


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["toyfcn-train", *words])
    try:
        train.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_run_repeats_and_a_changed_number_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *RUN) == 0
    assert command(monkeypatch, "rerun=first", "data.workers=1") == 0, capsys.readouterr().err
    assert "repeats" in (told := capsys.readouterr().out) and "the same, bit for bit" in told
    (again,) = (tmp_path / "outputs" / "train" / "little-fcn_lenet").iterdir()
    kept = stored_config(again)
    assert fingerprint(kept) == fingerprint(stored_config(Path("first")))
    assert (kept.data.workers, kept.rerun) == (1, str(tmp_path / "first"))
    # figures, weights, and what they were made on
    metrics = json.loads(Path("first/metrics.json").read_text())
    forged = metrics | {"test": metrics["test"] | {"miou": 0.5}}
    Path("first/metrics.json").write_text(json.dumps(forged))
    run = json.loads(Path("first/run.json").read_text())
    run["hardware"]["torch_threads"] = 64
    Path("first/run.json").write_text(json.dumps(run))
    assert command(monkeypatch, "rerun=first", "hydra.run.dir=third") == 1
    assert "test.miou was 0.5, is" in capsys.readouterr().out
    log = Path("third/train.log").read_text()
    assert "the numbers may differ: hardware.torch_threads was 64, is 1" in log
    Path("first/metrics.json").write_text(json.dumps(metrics))
    content = torch.load("first/checkpoints/best.ckpt", weights_only=True)
    content["state_dict"]["net.heads.0.weight"].view(-1)[0] += 1
    torch.save(content, "first/checkpoints/best.ckpt")
    assert command(monkeypatch, "rerun=first", "hydra.run.dir=fourth") == 1
    assert "the weights heads.0.weight differ by up to 1" in capsys.readouterr().out


def test_what_cannot_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "rerun=nowhere") == 2
    assert "rerun=nowhere is no folder of a run" in capsys.readouterr().err
    assert command(monkeypatch, "rerun=nowhere", "seed=1") == 2
    assert "seed=1 cannot be set beside rerun=nowhere" in capsys.readouterr().err
    assert command(monkeypatch, "-m", "rerun=nowhere") == 2
    Path("half/.hydra").mkdir(parents=True)
    Path("half/.hydra/config.yaml").write_text("data: {kind: shapes}")
    assert command(monkeypatch, "rerun=half") == 2
    assert "rerun=half has not finished" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half"]
