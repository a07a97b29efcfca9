"""Checkpoint files appear whole, or the one before stays."""

from pathlib import Path

import pytest
import torch

from toyfcn.runs.checkpoint_io import AtomicIO


def test_the_file_that_is_named_is_read(tmp_path: Path) -> None:
    files = AtomicIO()
    for number in (1, 2):
        files.save_checkpoint({"weight": torch.full((2,), number)}, tmp_path / f"new/{number}.ckpt")
    found = files.load_checkpoint(tmp_path / "new" / "1.ckpt")
    assert found["weight"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="does not exist"):
        files.load_checkpoint(tmp_path / "3.ckpt")


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    torch.save({"weight": Path}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="cannot be read safely"):
        AtomicIO().load_checkpoint(tmp_path / "last.ckpt")


def test_a_save_that_fails_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = AtomicIO(), tmp_path / "last.ckpt"
    files.save_checkpoint({"step": 1}, path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            files.save_checkpoint({"step": 2}, path)
    assert files.load_checkpoint(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
