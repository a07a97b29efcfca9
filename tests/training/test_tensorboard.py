"""TensorBoard as a user sees it: in a browser, on a tiny sweep."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from toyfcn.commands.train import main
from toyfcn.training.tensorboard import log_graph

BIN = Path(sys.executable).parent
TINY = """# @package _global_
data: {train_images: 6, val_images: 2, test_images: 2, size: [48, 56], batch_size: 2}
model: {width: 0.25}
trainer: {max_steps: 4, val_every: 2}
logger: {every: 1, panels: 2, histograms: true, graph: true}
"""


def test_what_cannot_be_traced_trains_as_it_would() -> None:
    """Not in evaluation mode, in which norms learn no statistics."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("cannot be traced")

    logger: Any = SimpleNamespace(experiment=SimpleNamespace(add_graph=refuse))
    net = torch.nn.Conv2d(3, 2, 1).train()
    with pytest.raises(RuntimeError):
        log_graph(logger, net, torch.zeros(3, 8, 8))
    assert net.training


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over two learning rates."""
    home = tmp_path_factory.mktemp("home")
    (home / "own" / "experiment").mkdir(parents=True)
    (home / "own" / "experiment" / "tiny.yaml").write_text(TINY)
    words = ["toyfcn-train", "--config-dir", "own", "-m", "experiment=tiny", "trainer.threads=1"]
    words += ["recipe.lr=0.01,0.001", "model.stride=4", "hydra.sweep.dir=sweep"]
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "argv", words)
        main()
    torch.set_num_threads(threads)
    return home / "sweep"


@pytest.fixture(scope="module")
def server(sweep: Path) -> Iterator[str]:
    """The address of a TensorBoard on the sweep's folder."""
    words = [BIN / "tensorboard", "--logdir", sweep, "--port", "0", "--host", "127.0.0.1"]
    log = sweep / "tensorboard.log"
    with log.open("w") as out, subprocess.Popen(words, stdout=out, stderr=out) as process:
        found = None
        for _ in range(120):
            if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
                break
            time.sleep(0.5)
        assert found, log.read_text()
        yield found[0]
        process.terminate()


TEXT = """
const texts = [];
const walk = node => {
  if (node.nodeType === Node.TEXT_NODE) texts.push(node.textContent);
  if (node.shadowRoot) walk(node.shadowRoot);
  if (!["STYLE", "SCRIPT"].includes(node.nodeName)) node.childNodes.forEach(walk);
};
walk(document.body);
return texts.join(" ");
"""


def see(browser: Any, address: str, words: list[str], picture: str) -> str:
    """Open a page, wait until all the words stand there, and return its text."""
    browser.get("about:blank")
    browser.get(address)
    text, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        text = browser.execute_script(TEXT)
        if all(word in text for word in words):
            break
        time.sleep(0.5)
    time.sleep(2)  # for what is drawn after it is written
    if folder := os.environ.get("TOYFCN_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder, picture)))
    assert [word for word in words if word not in text] == [], text[-3000:]
    return text


@pytest.mark.slow
def test_tensorboard_in_a_browser(server: str, browser: Any, sweep: Path) -> None:
    runs = [f"{job}/tensorboard" for job in "01"]
    for _ in range(60):  # TensorBoard serves before it has read
        with urllib.request.urlopen(f"{server}/data/runs") as answer:
            if set(runs) <= set(json.load(answer)):
                break
        time.sleep(0.5)
    parameters = ["recipe.lr", "model.name", "fcn_lenet", "seed", "0.0100", "0.0010"]
    figures = ["with_best/val_miou", "with_best/test_miou"]
    see(browser, f"{server}/#hparams", [*runs, *parameters, *figures], "hparams.png")
    see(browser, f"{server}/#scalars", ["val", "train", "best"], "scalars.png")
    see(browser, f"{server}/#images", ["panels", "with_best"], "images.png")
    see(browser, f"{server}/#text", ["config"], "text.png")


def test_what_a_sweep_logs(sweep: Path) -> None:
    keys, rates = [], []
    for job in "01":
        events = EventAccumulator(str(sweep / job / "tensorboard"), {"histograms": 0})
        events.Reload()
        tags = events.Tags()
        metrics = json.loads((sweep / job / "metrics.json").read_text())
        found = events.Scalars("with_best/test_miou")[0].value
        assert found == pytest.approx(metrics["test"]["miou"])
        assert {"with_best/confusion_val", "with_best/confusion_test"} <= set(tags["images"])
        assert len([tag for tag in tags["images"] if tag.startswith("panels/")]) == 2
        assert len([tag for tag in tags["images"] if tag.startswith("worst/")]) == 2
        assert any(tag.startswith("weights/net.trunk") for tag in tags["histograms"])
        assert any(tag.startswith("gradients/net.trunk") for tag in tags["histograms"])
        assert [event.step for event in events.Histograms(tags["histograms"][0])] == [2, 4]
        assert tags["graph"]
        (text,) = events.Tensors("config/text_summary")
        assert b"```yaml" in text.tensor_proto.string_val[0]
        assert b"batch_size: 2" in text.tensor_proto.string_val[0]
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        told = HParamsPluginData.FromString(content).session_start_info.hparams
        keys.append(set(told))
        rates.append(told["recipe.lr"].number_value)
    assert keys[0] == keys[1] >= {"recipe.lr", "seed", "model.stride", "data.name"}
    assert rates == [0.01, 0.001]
