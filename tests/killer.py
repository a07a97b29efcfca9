"""Stops a training at random moments, goes on each time, and compares its end with a calm run's.

    python tests/killer.py --kill 20 --term 10 --seed 0

Every session is a process of its own, forked from one that has the libraries loaded.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SAVE_EVERY = 7
WORDS = f"""
    data.train_images=14 data.val_images=3 data.test_images=2 data.size=[48,48] data.batch_size=4
    model.width=0.3 trainer.val_every=25 trainer.save_every={SAVE_EVERY} logger.every=1
    logger.panels=1 trainer.threads=1 trainer.accelerator=cpu trainer.patience=1000
    recipe.average=0.9
    """
PRELOAD = ["toyfcn.commands.train", "toyfcn.training.run", "torch.utils.tensorboard"]


# ---- what two runs are compared by ----
def weights(folder: Path, name: str = "last") -> dict[str, Any]:
    """All that training has changed: weights, averages, optimizer, lr schedule, best so far."""
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
    parts = {key: content.get(key) for key in keys}
    lr = content["lr_schedulers"], content["toyfcn_run"]["score"]
    stop = [v for k, v in content["callbacks"].items() if k.startswith("EarlyStopping")]
    return parts | {"lr": lr, "stop": stop}


def equal(left: Any, right: Any) -> bool:
    """Whether two nests of tensors and plain values are the same to the last bit."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All points that TensorBoard has, by tag; pictures stand as their length."""
    events = EventAccumulator(
        str(folder / "tensorboard"),
        size_guidance={"scalars": 0, "images": 0},
    )
    events.Reload()
    tags = events.Tags()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    for tag in tags["images"]:
        found[tag] = [(e.step, float(len(e.encoded_image_string))) for e in events.Images(tag)]
    for tag, points in found.items():
        assert all(a[0] < b[0] for a, b in pairwise(points)), (tag, points)
    return found


def same_end(run: Path, calm: Path) -> None:
    """Assert that two runs ended alike: weights, figures, and every point of the curves."""
    assert equal(weights(run), weights(calm)), "last.ckpt differs"
    assert equal(weights(run, "best"), weights(calm, "best")), "best.ckpt differs"
    assert (run / "metrics.json").read_bytes() == (calm / "metrics.json").read_bytes()
    found, wanted = curves(run), curves(calm)
    assert found.keys() == wanted.keys()
    for tag in wanted:  # as text, since NaN is the figure of a class that does not occur
        assert str(found[tag]) == str(wanted[tag]), tag


# ---- killing ----
def session(home: str, arguments: list[str], deadly: str | None) -> None:
    """Run toyfcn-train in this process, its output in a file."""
    from toyfcn.commands import train

    def strike(*given: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if deadly is not None:
        module, _, name = deadly.rpartition(".")
        setattr(importlib.import_module(module), name, strike)

    os.chdir(home)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["toyfcn-train", *arguments]
    train.main()


def start(home: Path, *arguments: str, deadly: str | None = None) -> Any:
    """Start a session, which kills itself when it calls ``deadly``; return its process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=session, args=(str(home), list(arguments), deadly))
    process.start()
    return process


def lines(home: Path) -> int:
    """How often a training was begun."""
    return (home / "log").read_text().count(" parameters, ") if (home / "log").exists() else 0


def stamp(path: Path) -> int:
    """When a file was put there; 0 where it is not."""
    try:
        return path.stat().st_ino + path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_at_random(home: Path, kills: int, terms: int, seed: int = 0, steps: int = 500) -> str:
    """Do it; raise AssertionError where the ends differ; return what happened in a line."""
    options = [*WORDS.split(), f"trainer.max_steps={steps}"]
    calm = start(home, *options, "hydra.run.dir=calm")
    calm.join()
    assert calm.exitcode == 0, (home / "log").read_text()[-2000:]
    seconds = json.loads((home / "calm" / "run.json").read_text())["train_s"]

    rng = random.Random(seed)
    strikes = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    rng.shuffle(strikes)
    struck, finished, places = 0, False, []
    last = home / "run" / "checkpoints" / "last.ckpt"
    for strike in strikes:
        before = lines(home)
        workers = f"data.workers={rng.choice((0, 0, 1, 2))}"
        begun = (home / "run" / "run.json").exists()  # Hydra writes its files before, bit by bit
        place = ["resume=run"] if begun else [*options, "hydra.run.dir=run"]
        process = start(home, *place, workers)
        while process.is_alive() and lines(home) == before and rng.random() > 0.002:
            time.sleep(0.01)  # now and then it is struck before it trains
        # then after so many saves, and a little later
        for _ in range(rng.randint(0, 2 * steps // (SAVE_EVERY * len(strikes)))):
            saved = stamp(last)
            while process.is_alive() and stamp(last) == saved:
                time.sleep(0.002)
        if process.is_alive():
            process.join(rng.uniform(0, 1.5 * SAVE_EVERY * seconds / steps))
        if process.is_alive():
            os.kill(process.pid, strike)
            struck += 1
        process.join(120)
        told = (home / "log").read_text()[-2000:]
        codes = {0, -strike} | ({143} if strike == signal.SIGTERM else set())
        assert process.exitcode in codes, (process.exitcode, told)
        try:
            places.append(torch.load(last, weights_only=True)["toyfcn_run"]["step"])
        except FileNotFoundError:
            assert not places, "last.ckpt is gone"
    final = start(home, "resume=run")
    final.join()
    finished = final.exitcode == 0
    assert finished, (home / "log").read_text()[-2000:]
    same_end(home / "run", home / "calm")
    assert places == sorted(places)
    return f"{struck} strikes of {len(strikes)} met a running process; last.ckpt at {places}; equal"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kill", type=int, default=20)
    parser.add_argument("--term", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(kill_at_random(Path(folder), given.kill, given.term, given.seed, given.steps))
