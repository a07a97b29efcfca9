"""Fixtures that several test files share."""

import functools
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import VOCConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.locations import find_voc
from toyfcn.data.source import palette
from toyfcn.data.voc import voc_source
from toyfcn.models.build import build_network
from toyfcn.runs import checkpoint


class Answer(NamedTuple):
    """What a command leaves: its exit code, and what it has printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs a command of ours in this process, in a folder of its own: command("eval", *words)."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: str) -> Answer:
        main = importlib.import_module(f"toyfcn.commands.{name}").main
        monkeypatch.setattr(sys, "argv", [f"toyfcn-{name}", *words])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def train(command: Command, one_thread: None) -> Command:
    """Runs toyfcn-train likewise, on one thread."""
    return functools.partial(command, "train")


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sends this process SIGTERM in the middle of a step."""

    from toyfcn.training.task import SegmentationTask  # with Lightning, which few tests need

    def arm(step: int) -> None:
        work = SegmentationTask.training_step

        def striking(task: SegmentationTask, *given: Any) -> Any:
            if task.global_step == step:
                monkeypatch.setattr(SegmentationTask, "training_step", work)
                signal.raise_signal(signal.SIGTERM)
            return work(task, *given)

        monkeypatch.setattr(SegmentationTask, "training_step", striking)

    return arm


@pytest.fixture(scope="session")
def voc_root() -> Path:
    """Folder that holds VOCdevkit with the real photos."""
    root = os.environ.get("TOYFCN_VOC")
    if not root:
        pytest.skip("real photos: set TOYFCN_VOC to the folder that holds VOCdevkit")
    return Path(root)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One torch thread: threads that wait for each other crawl on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_voc(tmp_path: Path) -> Path:
    """Folder that holds VOCdevkit/VOC2007 with six photos: train 4, val 2, trainval 6.

    Photos are 48x32 and 32x40 pixels (width x height) in turn. A mask is background, a rectangle
    of class 1 + index within a void line, and one pixel of class 20 in the corner.
    """
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    lists = folder / "ImageSets" / "Segmentation"
    for part in (folder / "JPEGImages", folder / "SegmentationClass", lists):
        part.mkdir(parents=True)
    ids = [f"00000{index}" for index in range(6)]
    for index, name in enumerate(ids):
        width, height = ((48, 32), (32, 40))[index % 2]
        noise = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        labels = np.zeros((height, width), np.uint8)
        labels[7:21, 9:25] = 255
        labels[8:20, 10:24] = index + 1
        labels[-1, -1] = 20
        mask = Image.fromarray(labels)
        mask.putpalette(palette())
        mask.save(folder / "SegmentationClass" / f"{name}.png")
    for split, names in {"train": ids[:4], "val": ids[4:], "trainval": ids}.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path


@pytest.fixture
def best(tiny_voc: Path, request: pytest.FixtureRequest) -> Path:
    """A checkpoint of 21 classes with random score layers; its stride may be a parameter."""
    model = ModelConfig(width=0.5, stride=getattr(request, "param", 4))
    config = TrainConfig(data=VOCConfig(root=str(tiny_voc), test_split=None), model=model)
    source = voc_source(find_voc(tiny_voc, 2007))
    torch.manual_seed(0)
    net = build_network(config.model, 21)
    for head in net.heads:
        torch.nn.init.normal_(head.weight)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    path = tiny_voc / "best.ckpt"
    torch.save({"state_dict": state, "toyfcn": checkpoint.make_metadata(config, source)}, path)
    return path


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """Folder with photos/ and masks/ of 12 pairs a0 … a11, as their owner might have them.

    Photos are .jpg, .PNG and .webp in turn, 40x32 or 32x48 pixels. Masks are RGB: black, red where
    a rectangle lies, and white around it, which stands for void.
    """
    for part in ("photos", "masks"):
        (tmp_path / part).mkdir()
    for index in range(12):
        width, height = ((40, 32), (32, 48))[index % 2]
        noise = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        suffix = (".jpg", ".PNG", ".webp")[index % 3]
        Image.fromarray(noise).save(tmp_path / "photos" / f"a{index}{suffix}")
        colours = np.zeros((height, width, 3), np.uint8)
        colours[7:21, 9:25] = 255
        colours[8:20, 10:24] = (255, 0, 0)
        Image.fromarray(colours).save(tmp_path / "masks" / f"a{index}.png")
    (tmp_path / "photos" / "notes.txt").write_text("not a photo")
    (tmp_path / "photos" / ".a0.jpg").write_text("not one either")
    return tmp_path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no browser: needs chromium and chromedriver on the path")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1500,1000")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})  # what pages ask for
    session = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield session
    session.quit()


def start_train(home: Path, *words: str) -> "subprocess.Popen[str]":
    """Start toyfcn-train in a process of its own."""
    return subprocess.Popen(
        [Path(sys.executable).with_name("toyfcn-train"), *words],
        cwd=home,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
