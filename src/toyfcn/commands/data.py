"""toyfcn-data: check a data set, draw one, download one."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from toyfcn.cli.launch import hint, launch, stop
from toyfcn.config.commands import DataCommandConfig
from toyfcn.config.data import ShapesConfig

NAME = "toyfcn-data"
USAGE = f"""usage: {NAME} WORD [option=value ...]

  check     read every file of a data set and tell every fault; exit code 1 if there is any
  draw      draw a shapes world of any size
  download  fetch PASCAL VOC: data=voc2007, voc2011 or voc2012

`{NAME} WORD --help` lists the options."""


def main() -> None:
    """Start the command: the first word says what to do, the rest is for Hydra."""
    jobs: dict[str, Callable[[DataCommandConfig], int]] = {
        "check": check,
        "draw": draw,
        "download": download,
    }
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in ("-h", "--help"):
        print(USAGE)
        return
    if word not in jobs:
        told = f"{word!r} is none of them" if word else "it is missing"
        guess = hint(word, list(jobs))
        stop(NAME, ValueError(f"the first word says what to do, and {told} ({guess})"))
    del sys.argv[1]
    faults = 0

    def job(config: DataCommandConfig) -> None:
        nonlocal faults
        faults += jobs[word](config)

    launch(f"{NAME} {word}", "data", job)
    if faults:
        sys.exit(1)


def check(config: DataCommandConfig) -> int:
    """Read everything, print what is there and what is wrong; return the number of faults."""
    from toyfcn.data.datasets import open_source
    from toyfcn.data.tools.check import check_source, print_report
    from toyfcn.runs.record import write_json

    data = config.data
    scoring = [split for split in (data.val_split, data.test_split) if split is not None]
    report = check_source(
        open_source(data),
        train_split=data.train_split,
        scoring_splits=scoring,
        allow_overlap=data.allow_overlap,
        splits=config.splits,
        workers=config.workers,
    )
    print_report(report)
    if config.report is not None:
        path = Path(config.report).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, report)
        except OSError as error:
            raise ValueError(f"cannot write the report {path}: {error.strerror}") from None
        print(f"report: {path}")
    return len(report["faults"])


def draw(config: DataCommandConfig) -> int:
    """Draw a shapes world and say how to train on it."""
    from toyfcn.data.shapes import world
    from toyfcn.data.tools.progress import progress

    data = config.data
    if not isinstance(data, ShapesConfig):
        raise ValueError(f"draw makes shapes worlds, and data={data.name} is none: use data=shapes")
    folder = Path(data.root).expanduser()
    before = (folder / "world.json").is_file()
    with progress("drawing") as advance:
        try:
            world.draw(
                folder,
                seed=data.world_seed,
                train=data.train_images,
                val=data.val_images,
                test=data.test_images,
                size=(data.size[0], data.size[1]),
                progress=advance,
            )
        except OSError as error:
            raise ValueError(f"cannot draw into {folder}: {error.strerror or error}") from None
    counts = f"{data.train_images} + {data.val_images} + {data.test_images}"
    print(
        f"{folder} {'holds this world already' if before else 'is drawn'}: {counts} photos "
        f"(train, val, test) of {data.size[1]}x{data.size[0]} pixels"
    )
    plain = ShapesConfig()
    settings = {key: getattr(data, key) for key in ShapesConfig.__annotations__}
    chosen = {key: value for key, value in settings.items() if value != getattr(plain, key)}
    print(f"train on it: toyfcn-train {options('shapes', chosen)}")
    return 0


def download(config: DataCommandConfig) -> int:
    """Fetch a VOC year and say how to go on."""
    from toyfcn.data.tools.download import download_voc

    print(download_voc(config))
    chosen = options(config.data.name, {"root": config.data.root})
    print(f"check it:    {NAME} check {chosen}\ntrain on it: toyfcn-train {chosen}")
    return 0


def options(name: str, chosen: Mapping[str, object]) -> str:
    """Write data options as they are typed, quoted for Hydra and for the shell."""
    words = [f"data={name}"]
    for key, value in chosen.items():
        text = str(value)
        if isinstance(value, list):
            text = text.replace(" ", "")
        elif not re.fullmatch(r"[\w./~:@%+-]*", text):
            text = "'" + text.replace("'", "\\'") + "'"
        words.append(f"data.{key}={text}")
    return shlex.join(words)
