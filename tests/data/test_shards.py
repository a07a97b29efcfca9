"""docs/extend.md's data set in shards: from a folder and over HTTP, in several processes."""

import contextlib
import io
import re
import signal
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from conftest import start_train
from killer import same_end
from PIL import Image

from toyfcn.config.data import CustomConfig
from toyfcn.data.datamodule import SegmentationData

PAGE = (Path(__file__).parents[2] / "docs/extend.md").read_text(encoding="utf-8")


def png(pixels: Any, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=95)
    return file.getvalue()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with myshards.py, and shards of 3 photos each: 8 of train, 2 of val."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "myshards", raising=False)
    (code,) = re.findall(r"```python\n(# myshards\.py\n.*?)```", PAGE, re.S)
    (tmp_path / "myshards.py").write_text(code)
    (tmp_path / "shards").mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for first in range(0, count, 3):
            with tarfile.open(tmp_path / f"shards/{split}-{first:04}.tar", "w") as tar:
                for number in range(first, min(first + 3, count)):
                    mask = np.zeros((48, 48), np.uint8)
                    mask[: 8 + 4 * number] = 1
                    photo = np.stack([100 + 90 * mask] * 3, -1) + rng.integers(0, 9, (48, 48, 3))
                    for name, data in (
                        (f"{number}.jpg", png(photo.astype(np.uint8), "JPEG")),
                        (f"{number}.png", png(mask, "PNG")),
                    ):
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
    return tmp_path


def opened(url: str, **options: Any) -> SegmentationData:
    args = {"url": url, "classes": ["ground", "sky"]}
    config = CustomConfig(
        target="myshards:Shards", args=args, test_split=None, batch_size=3, augment=False, **options
    )
    return SegmentationData.open(config)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_photo_comes_once_an_epoch(home: Path, workers: int) -> None:
    data = opened("shards", workers=workers)
    loader = data.train_dataloader()
    for _ in range(2):
        batches = list(loader)
        seen = Counter(name for batch in batches for name in batch["id"])
        assert seen == {f"train/{number}": 1 for number in range(8)}
        for batch in batches:
            for name, mask in zip(batch["id"], batch["mask"], strict=True):
                assert int(mask.sum()) == 48 * (8 + 4 * int(name.rpartition("/")[2]))


class Ranges(SimpleHTTPRequestHandler):
    """Serves parts of files, as object stores do."""

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            super().do_GET()
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        start, end = 0, len(data) - 1
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or end), end)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end + 1 - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data[start : end + 1])


@pytest.fixture
def url(home: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(home)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/shards"
    server.shutdown()
    server.server_close()


def test_they_are_read_over_http_as_from_a_folder(home: Path, url: str) -> None:
    pytest.importorskip("aiohttp")
    fsspec.config.conf.clear()
    remote, local = opened(url, workers=0), opened("shards")
    assert remote.split_ids("train") == local.split_ids("train")
    for name in local.split_ids("val"):
        for one, other in zip(remote.source.pair(name), local.source.pair(name), strict=True):
            assert torch.equal(one, other)


WORDS = """
    data=custom data.target=myshards:Shards data.test_split=null data.batch_size=4 data.workers=2
    model.width=0.25 model.norm=none trainer.max_steps=60 trainer.val_every=30 trainer.threads=1
    trainer.accelerator=cpu logger.panels=1 logger.every=1 trainer=ddp
    """


@pytest.mark.slow
def test_two_processes_with_two_workers_stop_and_go_on(home: Path) -> None:
    words = [*WORDS.split(), "data.args={url: shards, classes: [ground, sky]}"]
    whole = start_train(home, *words, "hydra.run.dir=whole")
    _, told = whole.communicate(timeout=300)
    assert whole.returncode == 0, told
    run = start_train(home, *words, "hydra.run.dir=run", "trainer.save_every=1")
    deadline = time.time() + 120
    while not (home / "run/checkpoints/last.ckpt").exists() and time.time() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 143, told
    run = start_train(home, "resume=run", "trust=[myshards]")
    _, told = run.communicate(timeout=300)
    assert run.returncode == 0, told
    same_end(home / "run", home / "whole")
