"""The benchmark runs, and writes what the documentation shows."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[1] / "benchmarks" / "bench.py"


def bench(out: Path, *args: str) -> dict[str, list[list[object]]]:
    command = [sys.executable, str(BENCH), "--quick", "--out", str(out), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (table,) = out.glob("*.md")
    assert "| figure | value | bar |" in table.read_text()
    (written,) = out.glob("*.json")
    figures: dict[str, list[list[object]]] = json.loads(written.read_text())["figures"]
    return figures


def test_quick_scoring(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--only", "scoring")
    names = [row[0] for row in figures["scoring"]]
    assert "matrix: times torchmetrics' speed" in names
    assert all(float(str(row[1])) > 0 for row in figures["scoring"])


def test_other_sections_stay_where_torch_is_the_same(tmp_path: Path) -> None:
    name = f"{os.cpu_count()}-core-{platform.machine()}"
    machine = {"machine": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
    rows = [["--help: s", 0.4, ""]]
    for version, kept in ((torch.__version__, True), ("0.4", False)):
        out = tmp_path / version
        out.mkdir()
        content = machine | {"torch": version, "figures": {"startup": rows}}
        (out / f"{name}.json").write_text(json.dumps(content))
        assert ("startup" in bench(out, "--only", "scoring")) == kept


@pytest.mark.slow
def test_quick_steps_and_startup(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--only", "step,startup")
    assert {"step", "startup"} == set(figures)


def test_unknown_section_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--only", "steps", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--only=steps is none of step, epoch" in done.stderr
