"""All figures of speed side by side: steps, epochs, scoring, reading, start-up, memory.

    python benchmarks/bench.py [--quick] [--only step,epoch,scoring,data,startup] [--gpu]

Each is a ratio to something measured in the same run: what one writes first, a peer, or the
machine's own limit (a float32 matrix product, bare decoding, a copy of memory). Steps and epochs
take turns in processes of their own, for the allocator of one must not help another; the rest takes
turns in one process. Medians. Writes results/<machine>.json and .md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Row = tuple[str, float, str]  # what, how much, unit or bar


def child(*command: str) -> Any:
    """Run one of our scripts in a process of its own; return the JSON of its last line."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(names: list[str], rounds: int, run: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Call ``run`` for each name in turn, several rounds; return what it gave by name."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            print(f"  {turn + 1}/{rounds} {name}", file=sys.stderr)
            found[name].append(run(name))
    return found


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over several runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each of the calls, interleaved, after one to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def step(quick: bool) -> list[Row]:
    """Training steps of FCN-LeNet at 375x500, batch 8, and their memory."""
    size = ["--height", "48", "--width", "64", "--batch", "2", "--steps", "2"] if quick else []
    names = [
        "naive",
        "naive, memory reuse",
        "torchfcn's loss and figures",
        "ours, plain formulation",
        "ours",
        "ours, memory given back",
        "ours, memory reuse",
        "ours, dense",
        "ours, dense, memory reuse",
        "classic, naive",
        "classic, ours",
        "classic, ours, memory reuse",
        "classic, ours, dense, memory reuse",
    ]
    names = ["naive", "ours", "ours, memory reuse", "ours, dense, memory reuse"] if quick else names

    def run(name: str) -> dict[str, float]:
        found: dict[str, float] = child(str(HERE / "step.py"), name, *size)
        return found

    runs = in_turns(names, 1 if quick else 3, run)
    found = {name: median_of(values) for name, values in runs.items()}
    rows = []
    for name, figures in found.items():
        rows.append((f"{name}: ms an image", figures["ms_an_image"], ""))
        bars = {"ours": "≥ 2.5", "ours, memory reuse": "≥ 3", "ours, dense, memory reuse": "≥ 2.2"}
        bar = bars.get(name.removeprefix("classic, "), "")
        classic = name.startswith("classic")  # each network against its own naive step
        base = found["classic, naive" if classic else "naive"]
        ratio = base["ms_an_image"] / figures["ms_an_image"]
        rows.append((f"{name}: times the naive step's speed", ratio, bar))
        limit = 1000 * figures["gflop_an_image"] / figures["gflops"]
        share = limit / figures["ms_an_image"]
        bound = "≥ 0.45" if name.endswith("ours, memory reuse") else ""
        rows.append((f"{name}: share of the matrix product's speed", share, bound))
        rows.append((f"{name}: peak memory above the process's own, MB", figures["peak_mb"], ""))
    memory = found["ours"]["peak_mb"] / found["naive"]["peak_mb"]
    return [*rows, ("peak memory, ours / naive", memory, "≤ 0.60")]


def epoch(quick: bool) -> list[Row]:
    """A training epoch on VOC2007 at 375x500."""
    if quick or not os.environ.get("TOYFCN_VOC"):
        return []

    def run(way: str) -> dict[str, float]:
        found: dict[str, float] = child(str(HERE / "epoch.py"), *way.split())
        return found

    # more of those that are asked for to three per cent
    runs = in_turns(["straightforward"], 3, run) | in_turns(["ours", "ours --reuse"], 7, run)
    rates = {way: median_of(values) for way, values in runs.items()}
    plain, reuse = (
        statistics.median(run["toyfcn"] / run["loop"] for run in runs[way])
        for way in ("ours", "ours --reuse")
    )
    straightforward = rates["straightforward"]["straightforward"]
    return [
        ("toyfcn: images/s", rates["ours"]["toyfcn"], ""),
        ("plain loop, in turns with it: images/s", rates["ours"]["loop"], ""),
        ("straightforward: images/s", straightforward, ""),
        ("toyfcn, memory reuse: images/s", rates["ours --reuse"]["toyfcn"], ""),
        ("toyfcn / plain loop", plain, "≥ 0.97"),
        ("the same, memory reuse", reuse, "≥ 0.97"),
        ("toyfcn / straightforward", rates["ours"]["toyfcn"] / straightforward, "≥ 2.5"),
    ]


def scoring(quick: bool) -> list[Row]:
    """Labels and confusion matrix of scores 8x21x375x500; validation against the forward pass."""
    import torch
    import torch.nn.functional as F
    from torchmetrics.classification import MulticlassConfusionMatrix

    from toyfcn.config.model import ModelConfig
    from toyfcn.config.trainer import TrainerConfig
    from toyfcn.data.collate import Batch
    from toyfcn.evaluation.metrics import confusion
    from toyfcn.evaluation.scoring import Scorer
    from toyfcn.models.build import build_network
    from toyfcn.models.kernels.argmax import argmax_labels
    from toyfcn.training.device import keep_memory

    classes, size = 21, (48, 64) if quick else (375, 500)
    torch.manual_seed(0)
    scores = torch.randn(8, classes, *size)
    truth = torch.randint(0, classes, (8, *size), dtype=torch.uint8)
    truth[:, :, ::20] = 255
    labels, wide, target = argmax_labels(scores), scores.argmax(1), truth.long()
    peer = MulticlassConfusionMatrix(classes, ignore_index=255, validate_args=False)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    net = build_network(ModelConfig(), classes).eval()
    scorer = Scorer([str(label) for label in range(classes)], 255)
    photo: Batch = {"image": image, "mask": truth[:1], "id": ["photo"]}

    def validate() -> None:
        scorer.update(net, [photo])

    ways: dict[str, Callable[[], Any]] = {
        "copy": scores.clone,
        "matrix, torchmetrics": lambda: peer.update(wide, target),
        "matrix, ours": lambda: confusion(truth, labels, classes),
        "labels and matrix, argmax + torchmetrics": lambda: peer.update(scores.argmax(1), target),
        "labels and matrix, ours": lambda: confusion(truth, argmax_labels(scores), classes),
    }

    def usually() -> None:
        full, target = net(image), truth[:1].long()
        F.cross_entropy(full, target, ignore_index=255)
        peer.update(full.argmax(1), target)

    alternating: dict[str, Callable[[], Any]] = {
        "an image, forward pass": lambda: net(image),
        "an image, validation": validate,
        "an image, validated the usual way": usually,
    }
    with torch.no_grad():
        taken = timed(ways, 3 if quick else 9)
        keep_memory(TrainerConfig())  # as a training's validation has it
        taken |= timed(alternating, 3 if quick else 51)
    ms = {name: 1000 * seconds for name, seconds in taken.items()}
    both = "labels and matrix, argmax + torchmetrics", "labels and matrix, ours"
    alone = ms["matrix, torchmetrics"] / ms["matrix, ours"]
    forward, validation, usual = (ms[name] for name in alternating)
    return [
        *((f"{name}: ms", value, "") for name, value in ms.items()),
        ("matrix: times torchmetrics' speed", alone, "≥ 8"),
        ("labels and matrix: times the usual speed", ms[both[0]] / ms[both[1]], "≥ 4"),
        ("validation / forward pass", validation / forward, "≤ 1.15"),
        ("the usual way / forward pass", usual / forward, ""),
    ]


def data(quick: bool) -> list[Row]:
    """Reading VOC2007: see data.py."""
    root = os.environ.get("TOYFCN_VOC")
    if quick or not root:
        return []
    return [(what, figure, bar) for what, figure, bar in child(str(HERE / "data.py"))]


def startup(quick: bool) -> list[Row]:
    """How long a command takes to answer, beside what it is made of."""
    python = sys.executable
    ways = {
        "bare Hydra: import": "import hydra, omegaconf",
        "torch: import": "import torch",
        "toyfcn-train --help": "import sys; sys.argv[1:] = ['--help']; "
        "from toyfcn.commands.train import main; main()",
        "toyfcn-train, a typo": "import sys; sys.argv[1:] = ['model.strid=4']; "
        "from toyfcn.commands.train import main; main()",
    }

    def run(code: str) -> Callable[[], Any]:
        return lambda: subprocess.run([python, "-c", code], capture_output=True, check=False)

    seconds = timed({name: run(code) for name, code in ways.items()}, 1 if quick else 5)
    return [(f"{name}: s", value, "") for name, value in seconds.items()]


SECTIONS: dict[str, Callable[[bool], list[Row]]] = {
    "step": step,
    "epoch": epoch,
    "scoring": scoring,
    "data": data,
    "startup": startup,
}


def table(found: dict[str, list[Row]], machine: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    for name, rows in found.items():
        said = (SECTIONS[name].__doc__ or name).splitlines()[0]
        lines += [f"**{name}** – {said}", "", "| figure | value | bar |", "|---|---:|---|"]
        lines += [f"| {what} | {value:.3g} | {bar} |" for what, value, bar in rows] + [""]
    return "\n".join(lines)


def main() -> None:
    """Measure the sections asked for; print them, and write them down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only to see that it runs")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--gpu", action="store_true", help="the figures of a GPU: see gpu.py")
    parser.add_argument("--out", default=str(HERE / "results"), help="folder for the results")
    args = parser.parse_args()
    if args.gpu:
        raise SystemExit(subprocess.call([sys.executable, str(HERE / "gpu.py")]))
    if unknown := set(args.only.split(",")) - set(SECTIONS):
        parser.error(f"--only={unknown.pop()} is none of {', '.join(SECTIONS)}")
    import torch

    name = f"{os.cpu_count()}-core-{platform.machine()}"
    machine = {"machine": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    written = out / f"{name}.json"
    before = json.loads(written.read_text()) if written.exists() else {}
    # sections that were measured at another time stay, if it was with the same torch and threads
    found: dict[str, list[Row]] = before["figures"] if before.items() >= machine.items() else {}
    for section in args.only.split(","):
        print(f"{section}: {SECTIONS[section].__doc__}", file=sys.stderr)
        if not (rows := SECTIONS[section](args.quick)):
            print("  left out: it needs TOYFCN_VOC and no --quick", file=sys.stderr)
            continue
        found[section] = rows
        print(table({section: rows}, machine), flush=True)
        (out / f"{name}.md").write_text(table(found, machine))
        content = machine | {"figures": found}
        written.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
