"""The benchmark runs, and writes what the documentation shows."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
    name = f"{os.cpu_count()}-core-{platform.machine()}.json"
    before = {"figures": {"startup": [["--help: s", 0.4, ""]], "scoring": []}}
    (tmp_path / name).write_text(json.dumps(before))
    figures = bench(tmp_path, "--only", "scoring")
    assert figures["startup"] == before["figures"]["startup"]  # measured at another time
    names = [row[0] for row in figures["scoring"]]
    assert "matrix: times torchmetrics' speed" in names
    assert all(float(str(row[1])) > 0 for row in figures["scoring"])


@pytest.mark.slow
def test_quick_steps_and_startup(tmp_path: Path) -> None:
    figures = bench(tmp_path, "--only", "step,startup")
    assert {"step", "startup"} == set(figures)


def test_unknown_section_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), "--only", "steps", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--only=steps is none of step, epoch" in done.stderr
