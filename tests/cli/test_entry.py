"""toyfcn-train starts anew once, as the same command, with glibc's small cache off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toyfcn.cli import entry

TOLD = """
import json, os, sys
from toyfcn.cli import entry
entry.restart()
print(json.dumps([os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv, sys.flags.dev_mode]))
"""
glibc = pytest.mark.skipif(not entry.has_glibc(), reason="the tunable is glibc's")


def told(folder: Path, *words: str, tunables: str | None = None) -> Any:
    """Run a script that restarts; return its process, the tunables, its words, and its -X dev."""
    script = folder / "a script.py"
    script.write_text(TOLD)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    command = [sys.executable, "-X", "dev", script, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    pid, *rest = json.loads(out)
    assert pid == process.pid  # who waits for the command, or stops it, still has the right one
    return rest


@glibc
def test_the_same_command_with_the_tunable(tmp_path: Path) -> None:
    words = ["model.stride=2", "data.root='~/my photos'", "+x={a: [1, ü]}", "", "*"]
    tunables, argv, dev = told(tmp_path, *words)
    assert tunables == "glibc.malloc.tcache_count=0"
    assert argv == [str(tmp_path / "a script.py"), *words]
    assert dev


@glibc
def test_tunables_of_the_user_stay(tmp_path: Path) -> None:
    other = "glibc.malloc.arena_max=4"
    assert told(tmp_path, tunables=other)[0] == f"{other}:glibc.malloc.tcache_count=0"
    own = "glibc.malloc.tcache_count=5"
    assert told(tmp_path, tunables=own)[0] == own


@pytest.mark.parametrize("library", [None, "musl 1.2", ValueError()])
def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    def version(name: str) -> str | None:
        if isinstance(library, ValueError):
            raise library
        return library

    def never(*_: Any) -> None:
        raise AssertionError("started anew")

    monkeypatch.setattr(entry.os, "confstr", version)
    monkeypatch.setattr(entry.os, "execv", never)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    entry.restart()
    assert "GLIBC_TUNABLES" not in os.environ


def test_a_debugger_keeps_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("started anew")

    monkeypatch.setattr(entry.os, "execv", never)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        entry.restart()
    finally:
        sys.settrace(before)


@glibc
def test_toyfcn_train_starts_so() -> None:
    """What the shell calls asks for it, and its children have it too."""
    script = Path(sys.executable).with_name("toyfcn-train")
    assert "toyfcn.cli.entry" in script.read_text()
    code = (
        "import os, sys, toyfcn.train\n"
        "from toyfcn.cli import entry\n"
        "toyfcn.commands.train.main = lambda: print(os.environ['GLIBC_TUNABLES'])\n"
        "entry.train()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "tcache_count=0" in done.stdout
