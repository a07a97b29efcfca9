"""The wheel, built and installed into an empty environment, runs every command from any folder."""

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import toyfcn

ROOT = Path(__file__).parents[1]


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


def built(kind: str, out: Path, source: Path = ROOT) -> Path:
    shell(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, cwd=source)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


def tracked(*folders: str) -> set[str]:
    """Files that git knows below some folders, links among them left out."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: what belongs into the package is asked of git")
    names = shell("git", "ls-files", "--", *folders, cwd=ROOT).splitlines()
    return {name for name in names if not (ROOT / name).is_symlink()}


def test_the_configs_travel_inside_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"toyfcn/conf/{path.relative_to(ROOT / 'conf')}" in inside


def test_all_of_the_code_travels_and_nothing_else(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    code = {name.removeprefix("src/") for name in tracked("src")}
    assert {"toyfcn/py.typed", "hydra_plugins/toyfcn_sweeper.py"} <= code <= inside
    parts = ("toyfcn", "hydra_plugins", f"toyfcn-{toyfcn.__version__}.dist-info")
    assert {name.partition("/")[0] for name in inside} == set(parts)
    assert not [name for name in inside if "__pycache__" in name]


def test_the_wheel_tells_about_itself(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    folder = f"toyfcn-{toyfcn.__version__}.dist-info"
    about = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
    assert about["Version"] == toyfcn.__version__
    assert (about["License-Expression"], about["License-File"]) == ("MIT", "LICENSE")
    assert about["Description-Content-Type"] == "text/markdown"  # so that an index renders it
    assert (
        about.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()
    )
    assert archive.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert archive.read(f"{folder}/entry_points.txt").decode() == "[console_scripts]\n" + "".join(
        f"{name} = {goal}\n" for name, goal in sorted(scripts.items())
    )


def test_the_changelog_begins_with_this_version() -> None:
    assert f"\n## {toyfcn.__version__}, " in (ROOT / "CHANGELOG.md").read_text()


def test_the_source_archive_holds_what_it_takes_to_work_on_it(wheel: Path, tmp_path: Path) -> None:
    path = built("sdist", tmp_path / "sdist")
    top = f"toyfcn-{toyfcn.__version__}/"
    with tarfile.open(path) as archive:
        inside = {name.removeprefix(top) for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    files = """pyproject.toml mkdocs.yml Makefile requirements.lock requirements-dev.lock LICENSE
        README.md CHANGELOG.md CONTRIBUTING.md PKG-INFO"""
    assert set(files.split()) <= inside
    assert tracked("src", "conf", "tests", "docs", "benchmarks") <= inside
    assert not [name for name in inside if name.startswith(("site", "outputs", ".venv", "data/"))]
    again = built("wheel", tmp_path / "wheel", tmp_path / top)
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


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
