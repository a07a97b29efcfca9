"""How long ``--help``, a typo's error and a completion take, compared with bare Hydra.

    python benchmarks/startup.py [rounds]

Fresh processes that take turns, so that a busy machine slows all of them alike; medians. Exits with
1 if one of ours takes over 0.5 s more than a bare Hydra application's --help.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def main(config): pass
main()
"""
TRAIN = str(Path(sys.executable).with_name("toyfcn-train"))
ALLOWED = 0.5


def main() -> int:
    """Measure and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder, "bare.py")
        bare.write_text(BARE)
        kinds = {
            "bare Hydra --help": [sys.executable, str(bare), "--help"],
            "--help": [TRAIN, "--help"],
            "typo": [TRAIN, "recipe.lrr=1"],
            "completion": [TRAIN, "-sc", "query=bash"],
        }
        environment = os.environ | {"COMP_LINE": "toyfcn-train recipe.l"}
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, command in kinds.items():
                start = time.perf_counter()
                subprocess.run(
                    command, capture_output=True, env=environment, cwd=folder, check=False
                )
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians["bare Hydra --help"]
    print(f"medians of {rounds} processes each, s")
    for name, median in medians.items():
        print(f"  {name:<18} {median:5.2f}   {median - base:+5.2f}")
    return int(max(medians.values()) - base > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
