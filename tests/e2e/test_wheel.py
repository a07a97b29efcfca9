"""The wheel, built and installed into an empty environment, runs every command from any folder."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def shell(*words: str | Path, cwd: Path, **extra: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | extra
    answer = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    shell(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=ROOT)
    (path,) = out.glob("*.whl")
    return path


def test_the_configs_travel_inside_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"toyfcn/conf/{path.relative_to(ROOT / 'conf')}" in inside


@pytest.mark.slow
def test_installed_commands_run_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    home.mkdir()
    venv.create(tmp_path / "empty")
    uv, binaries = ROOT / ".venv/bin/uv", tmp_path / "empty/bin"
    environment = {"VIRTUAL_ENV": str(tmp_path / "empty")}
    lock = ("--require-hashes", "-r", ROOT / "requirements.lock")
    shell(uv, "pip", "install", *lock, cwd=home, **environment)
    shell(uv, "pip", "install", "--no-deps", wheel, cwd=home, **environment)
    tiny = ["data.train_images=6", "data.val_images=2", "data.test_images=2", "trainer.max_steps=2"]
    out = shell(binaries / "toyfcn-train", *tiny, "hydra.run.dir=run", cwd=home)
    assert "mean IU" in out
    best = home / "run/checkpoints/best.ckpt"
    shell(binaries / "toyfcn-eval", f"ckpt={best}", "split=test", cwd=home)
    photo = next((home / "data/shapes/JPEGImages").iterdir())
    shell(binaries / "toyfcn-predict", f"ckpt={best}", f"source={photo}", "out=masks", cwd=home)
    assert (home / "masks" / f"{photo.stem}.png").is_file()
