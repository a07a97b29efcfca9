"""All figures of speed side by side: steps, epochs, scoring, reading, start-up, memory.

    python benchmarks/bench.py [--quick] [--only step,epoch,scoring,predict,data,startup] [--gpu]

Each is a ratio to something measured in the same run: the straightforward program, a peer, or the
machine's own limit (a float32 matrix product, bare decoding, a copy of memory). Steps and epochs
take turns in processes of their own, so that they do not share an allocator; the rest takes turns
in one process. Medians. Writes results/<machine>.json and .md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from toyfcn.config.model import ModelConfig
from toyfcn.config.trainer import TrainerConfig
from toyfcn.data.collate import Batch
from toyfcn.evaluation.metrics import confusion
from toyfcn.evaluation.scorer import Scorer
from toyfcn.models.build import build_network
from toyfcn.models.folding import folded
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.training.device import keep_memory

HERE = Path(__file__).parent
CLASSES, VOID = 21, 255
# as in `make train`; glibc's cache of small blocks fragments the memory that a step reuses
TUNED = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
STEPS = [
    *("naive", "naive, memory reuse", "torchfcn's loss and figures", "ours, plain formulation"),
    *("ours", "ours, memory given back", "ours, memory reuse"),
    *("ours, dense", "ours, dense, memory reuse"),
    *("classic, naive", "classic, ours"),
    *("classic, ours, memory reuse", "classic, ours, dense, memory reuse"),
]
QUICK_STEPS = ["naive", "ours", "ours, memory reuse", "ours, dense, memory reuse"]
BARS = {"ours": "≥ 2.5", "ours, memory reuse": "≥ 3", "ours, dense, memory reuse": "≥ 2.2"}
Row = tuple[str, float, str]  # figure, value, unit or bar


def child(*command: str, tuned: bool = False) -> Any:
    """Run one of our scripts in a process of its own; return the JSON of its last line.

    ``tuned`` sets glibc's allocator as for a training; otherwise it is left alone.
    """
    environment = {key: value for key, value in os.environ.items() if key not in TUNED}
    environment |= TUNED if tuned else {}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(names: list[str], rounds: int, run: Callable[[str], Any]) -> dict[str, list[Any]]:
    """Call ``run`` for each name in turn, several rounds; return its results by name."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            print(f"  {turn + 1}/{rounds} {name}", file=sys.stderr)
            found[name].append(run(name))
    return found


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over several runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each of the calls, interleaved, after a warm-up of one."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def step(quick: bool) -> list[Row]:
    """Training steps of FCN-LeNet at 375x500, batch 8, and their memory."""
    size = ["--height", "48", "--width", "64", "--batch", "2", "--steps", "2"] if quick else []

    def run(name: str) -> dict[str, float]:
        tuned = "ours" in name
        found: dict[str, float] = child(str(HERE / "step.py"), name, *size, tuned=tuned)
        return found

    runs = in_turns(QUICK_STEPS if quick else STEPS, 1 if quick else 3, run)
    found = {name: median_of(values) for name, values in runs.items()}
    rows = []
    for name, figures in found.items():
        rows.append((f"{name}: ms an image", figures["ms_an_image"], ""))
        bar = BARS.get(name.removeprefix("classic, "), "")
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

    def run(name: str) -> dict[str, float]:
        tuned = name != "straightforward"
        found: dict[str, float] = child(str(HERE / "epoch.py"), *name.split(), tuned=tuned)
        return found

    # more rounds for the ratios that have to be known to three per cent
    runs = in_turns(["straightforward"], 3, run) | in_turns(["ours", "ours --reuse"], 7, run)
    rates = {name: median_of(values) for name, values in runs.items()}
    plain, reuse = (
        statistics.median(run["toyfcn"] / run["loop"] for run in runs[name])
        for name in ("ours", "ours --reuse")
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
    size = (48, 64) if quick else (375, 500)
    torch.manual_seed(0)
    scores = torch.randn(8, CLASSES, *size)
    target = torch.randint(0, CLASSES, (8, *size), dtype=torch.uint8)
    target[:, :, ::20] = VOID
    labels, long_labels, long_target = argmax_labels(scores), scores.argmax(1), target.long()
    peer = MulticlassConfusionMatrix(CLASSES, ignore_index=VOID, validate_args=False)
    calls: dict[str, Callable[[], Any]] = {
        "copy": scores.clone,
        "matrix, torchmetrics": lambda: peer.update(long_labels, long_target),
        "matrix, ours": lambda: confusion(target, labels, CLASSES),
        "labels and matrix, argmax + torchmetrics": lambda: peer.update(
            scores.argmax(1), long_target
        ),
        "labels and matrix, ours": lambda: confusion(target, argmax_labels(scores), CLASSES),
    }
    images = torch.randint(0, 256, (8, 3, *size), dtype=torch.uint8)
    validations = validation(images, target)
    with torch.no_grad():
        taken = timed(calls, 3 if quick else 9)
        keep_memory(TrainerConfig())  # as a training's validation has it
        taken |= timed(validations, 3 if quick else 15)
    ms = {name: 1000 * seconds for name, seconds in taken.items()}
    both = "labels and matrix, argmax + torchmetrics", "labels and matrix, ours"
    alone = ms["matrix, torchmetrics"] / ms["matrix, ours"]
    forward, ours, usual = (ms[name] for name in validations)
    return [
        *((f"{name}: ms", value, "") for name, value in ms.items()),
        ("matrix: times torchmetrics' speed", alone, "≥ 8"),
        ("labels and matrix: times the usual speed", ms[both[0]] / ms[both[1]], "≥ 4"),
        ("validation / forward pass", ours / forward, "≤ 1.15"),
        ("usual validation / forward pass", usual / forward, ""),
    ]


def validation(images: Tensor, targets: Tensor) -> dict[str, Callable[[], Any]]:
    """Return the forward pass of photos one by one, their validation here, and the usual one."""
    net = build_network(ModelConfig(), CLASSES).eval()
    scored = folded(net)  # as validations do
    scorer = Scorer([str(label) for label in range(CLASSES)], VOID)
    batch: Batch = {"image": images, "mask": targets, "id": [str(i) for i in range(len(images))]}
    peer = MulticlassConfusionMatrix(CLASSES, ignore_index=VOID, validate_args=False)

    def forward() -> None:
        for i in range(len(images)):
            net(images[i : i + 1])

    def ours() -> None:
        scorer.update(scored, [batch])

    def usual() -> None:
        for i in range(len(images)):
            full, labels = net(images[i : i + 1]), targets[i : i + 1].long()
            F.cross_entropy(full, labels, ignore_index=VOID)
            peer.update(full.argmax(1), labels)

    return {
        "8 photos, forward pass": forward,
        "8 photos, validation": ours,
        "8 photos, usual validation": usual,
    }


def data(quick: bool) -> list[Row]:
    """Reading VOC2007: see data.py."""
    root = os.environ.get("TOYFCN_VOC")
    if quick or not root:
        return []
    return [(what, figure, bar) for what, figure, bar in child(str(HERE / "data.py"))]


def predict(quick: bool) -> list[Row]:
    """toyfcn-predict on 200 photos of VOC2007 and on one of 20,000 x 20,000: see predict.py."""
    if quick or not os.environ.get("TOYFCN_VOC"):
        return []
    found = child(str(HERE / "predict.py")) | child(str(HERE / "predict.py"), "--side", "20000")
    bars = {"ratio": "≥ 2", "GB above": "≤ 2"}
    return [
        (f"{part}: {figure}", value, bars.get(figure, ""))
        for part, figures in found.items()
        for figure, value in figures.items()
    ]


def startup(quick: bool) -> list[Row]:
    """How long a command takes to answer, beside the imports that it needs."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        run_folder, photo = Path(folder, "run"), Path(folder, "photo.jpg")
        train = [str(Path(python).with_name("toyfcn-train")), "debug=fast"]
        subprocess.run(
            [*train, f"hydra.run.dir={run_folder}"], capture_output=True, check=True, cwd=folder
        )
        Image.effect_noise((500, 375), 50).save(photo)
        given = [f"ckpt={run_folder}/checkpoints/last.ckpt", f"source={photo}", f"out={folder}/out"]
        commands = {
            "bare Hydra: import": "import hydra, omegaconf",
            "torch: import": "import torch",
            "toyfcn-train --help": "import sys; sys.argv[1:] = ['--help']; "
            "from toyfcn.commands.train import main; main()",
            "toyfcn-train, a typo": "import sys; sys.argv[1:] = ['model.strid=4']; "
            "from toyfcn.commands.train import main; main()",
            "toyfcn-predict, one photo": f"import sys; sys.argv[1:] = {given}; "
            "from toyfcn.commands.predict import main; main()",
        }

        def run(code: str) -> Callable[[], Any]:
            return lambda: subprocess.run([python, "-c", code], capture_output=True, check=False)

        seconds = timed({name: run(code) for name, code in commands.items()}, 1 if quick else 5)
    ratio = seconds["toyfcn-predict, one photo"] / seconds["torch: import"]
    rows = [(f"{name}: s", value, "") for name, value in seconds.items()]
    return [*rows, ("toyfcn-predict of one photo / import torch", ratio, "≤ 1.3, with the forward")]


SECTIONS: dict[str, Callable[[bool], list[Row]]] = {
    "step": step,
    "epoch": epoch,
    "scoring": scoring,
    "predict": predict,
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
    """Measure the chosen sections; print them, and write them to files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: only to check that it runs"
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument("--gpu", action="store_true", help="the figures of a GPU: see gpu.py")
    parser.add_argument("--out", default=str(HERE / "results"), help="folder for the results")
    args = parser.parse_args()
    if args.gpu:
        raise SystemExit(subprocess.call([sys.executable, str(HERE / "gpu.py")]))
    if unknown := set(args.only.split(",")) - set(SECTIONS):
        parser.error(f"--only={unknown.pop()} must be one of {', '.join(SECTIONS)}")

    name = f"{os.cpu_count()}-core-{platform.machine()}"
    machine = {"machine": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    written = out / f"{name}.json"
    before = json.loads(written.read_text()) if written.exists() else {}
    # earlier sections are kept if they were measured with the same torch and threads
    found: dict[str, list[Row]] = before["figures"] if before.items() >= machine.items() else {}
    for section in args.only.split(","):
        print(f"{section}: {SECTIONS[section].__doc__}", file=sys.stderr)
        if not (rows := SECTIONS[section](args.quick)):
            print("  skipped: it needs TOYFCN_VOC, and no --quick", file=sys.stderr)
            continue
        found[section] = rows
        print(table({section: rows}, machine), flush=True)
        (out / f"{name}.md").write_text(table(found, machine))
        content = machine | {"figures": found}
        written.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
