"""Many steps with workers, validations and saves: what a run holds does not grow.

SOAK_STEPS=20000 python -m pytest -m slow tests/runs/test_soak.py     (an hour on a busy machine)
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

BIN = Path(sys.executable).parent
STEPS = int(os.environ.get("SOAK_STEPS", "3000"))
WORDS = f"""
    data.train_images=14 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    data.workers=2 model.width=0.3 trainer.threads=1 trainer.accelerator=cpu logger.every=50
    trainer.max_steps={STEPS} trainer.val_every=100 trainer.save_every=50 trainer.keep_mb=0
    hydra.run.dir=run
    """


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_grows(tmp_path: Path) -> None:
    """Memory stays within 5 % after the first tenth; no descriptor or process is left behind."""
    words = [BIN / "toyfcn-train", *WORDS.split()]
    seen: list[tuple[int, int, int]] = []  # KB of the process's own memory, descriptors, children
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(words, cwd=tmp_path, stdout=log, stderr=log)
        process, history = psutil.Process(run.pid), tmp_path / "run" / "history.csv"
        rows = 0
        while run.poll() is None:
            time.sleep(0.05)
            try:
                done = len(history.read_text().splitlines()) - 1 if history.exists() else 0
                if done > rows:  # after each validation
                    rows = done
                    told = Path(f"/proc/{run.pid}/status").read_text()
                    anonymous = int(told.partition("RssAnon:")[2].split()[0])
                    seen.append(
                        (anonymous, process.num_fds(), len(process.children(recursive=True)))
                    )
            except (psutil.Error, OSError):
                continue
    assert run.returncode == 0, (tmp_path / "log").read_text()
    memory, descriptors, children = zip(*seen[len(seen) // 10 : -1], strict=True)
    for what in (memory, descriptors, children):
        print(f"{what[0]} after a tenth, {min(what)} to {max(what)}, {what[-1]} at the end")
    assert max(memory) < 1.05 * memory[0]
    assert descriptors[-1] <= descriptors[0] + 2  # some are open for a moment
    assert max(children) <= 5  # two workers of the training, two of a validation, and a server
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any(str(tmp_path) in word for words in commands for word in words)
