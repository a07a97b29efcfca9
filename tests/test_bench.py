"""The benchmark runs, and writes what the documentation shows."""

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCH = Path(__file__).parents[1] / "benchmarks" / "bench.py"
Figures = dict[str, list[list[object]]]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, which leaves this process's allocator alone."""
    spec = importlib.util.spec_from_file_location("bench", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "keep_memory", lambda _: None)
    return module


def run(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, sections: str = "scoring"
) -> Figures:
    words = ["bench.py", "--quick", "--out", str(out), "--only", sections]
    monkeypatch.setattr(sys, "argv", words)
    bench.main()
    return read(out)


def read(out: Path) -> Figures:
    (table,) = out.glob("*.md")
    assert "| figure | value | bar |" in table.read_text()
    (written,) = out.glob("*.json")
    figures: Figures = json.loads(written.read_text())["figures"]
    return figures


@pytest.mark.usefixtures("one_thread")
def test_quick_scoring(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = run(bench, monkeypatch, tmp_path)
    names = [row[0] for row in figures["scoring"]]
    assert "matrix: times torchmetrics' speed" in names
    assert all(float(str(row[1])) > 0 for row in figures["scoring"])


@pytest.mark.parametrize(("version", "kept"), [(torch.__version__, True), ("0.4", False)])
def test_other_sections_are_kept_if_torch_is_the_same(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, kept: bool
) -> None:
    name = f"{os.cpu_count()}-core-{platform.machine()}"
    machine = {"machine": name, "threads": torch.get_num_threads(), "torch": version}
    content = machine | {"figures": {"startup": [["--help: s", 0.4, ""]]}}
    (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setitem(bench.SECTIONS, "scoring", lambda _: [("figure", 1.0, "")])
    figures = run(bench, monkeypatch, tmp_path)
    assert figures["scoring"] == [["figure", 1.0, ""]]
    assert ("startup" in figures) is kept


def test_unknown_section_is_named(
    bench: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(bench, monkeypatch, tmp_path, "steps")
    assert "--only=steps must be one of step, epoch" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_steps_and_startup(tmp_path: Path) -> None:
    words = ["--quick", "--out", str(tmp_path), "--only", "step,startup"]
    done = subprocess.run(
        [sys.executable, str(BENCH), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"step", "startup"} == set(read(tmp_path))


@pytest.mark.slow
def test_what_measures_a_gpu_runs() -> None:
    """On the CPU, which stands in for it."""
    words = ["--device", "cpu", "--only", "FCN-LeNet", "--batch", "2", "--workers", "0"]
    words += ["--steps", "1", "--epoch", "2"]
    command = [sys.executable, str(BENCH.with_name("gpu.py")), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert list(found) == ["device", "FCN-LeNet, float32", "FCN-LeNet, bf16"]
    assert all(figure > 0 for figure in found["FCN-LeNet, bf16"].values())
