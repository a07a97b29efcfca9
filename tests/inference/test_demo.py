"""toyfcn-demo: what it finds and draws, what it refuses, and its page in a browser."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import Command
from PIL import Image

import toyfcn
from toyfcn.config.inference import DemoConfig
from toyfcn.inference.demo import draw, look


def blurred_noise(path: Path, height: int, width: int) -> Path:
    """Write a photo in which something is found."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8))
    small.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def test_what_is_found_is_what_the_predictor_says(best: Path) -> None:
    photo, predictor = blurred_noise(best.parent / "a.png", 60, 90), toyfcn.load(best)
    found, labels = look(predictor, photo, 1), predictor.predict(photo)
    assert (found.labels == labels).all()
    assert (found.photo == np.asarray(Image.open(photo))).all()
    highest = predictor.probabilities(photo).amax(0).numpy()
    assert np.abs(found.confidence / 255 - highest).max() < 0.003
    wanted = {predictor.classes[i]: (labels == i).mean() for i in np.unique(labels)}
    assert found.shares == pytest.approx(wanted) and len(wanted) > 2


def test_classes_are_switched_off(best: Path) -> None:
    photo, predictor = blurred_noise(best.parent / "a.png", 60, 90), toyfcn.load(best)
    found = look(predictor, photo, 1)
    names = [name for name in found.shares if name != "background"]
    whole, less = (draw(found, predictor, "classes", shown) for shown in (names, names[1:]))
    hidden = found.labels == predictor.classes.index(names[0])
    assert (less[:60, :90][hidden] == found.photo[hidden]).all()
    assert (less[:60, :90][~hidden] == whole[:60, :90][~hidden]).all()
    assert (draw(found, predictor, "confidence", [])[..., 1] == found.confidence).all()


def test_a_large_photo_is_shown_smaller_and_counted_whole(best: Path) -> None:
    photo = blurred_noise(best.parent / "a.jpg", 40, 3200)
    predictor = toyfcn.load(best)
    found, labels = look(predictor, photo, 1), predictor.predict(photo)
    assert found.photo.shape == (20, 1600, 3)
    assert found.labels.shape == found.confidence.shape == (20, 1600)
    wanted = {predictor.classes[i]: (labels == i).mean() for i in np.unique(labels)}
    assert found.shares == pytest.approx(wanted)


def test_what_is_no_photo_or_too_large_is_refused(best: Path) -> None:
    predictor = toyfcn.load(best)
    large, broken = best.parent / "large.png", best.parent / "broken.jpg"
    Image.new("1", (2000, 1001)).save(large)
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="it claims 2000 x 1001 pixels, and 2,000,000 are the mos"):
        look(predictor, large, 2)
    with pytest.raises(ValueError, match=r"cannot read the photo .*broken\.jpg"):
        look(predictor, broken, 2)


@pytest.fixture
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets back what the command sets in this process."""
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_options_and_a_missing_package(
    best: Path, command: Command, monkeypatch: pytest.MonkeyPatch, process_as_before: None
) -> None:
    with pytest.raises(ValueError, match="compare=a is what ckpt= names"):
        DemoConfig(ckpt=["a"], compare="a")
    monkeypatch.setitem(sys.modules, "gradio", None)
    answer = command("demo", f"ckpt={best}")
    assert answer.code == 2
    assert answer.err.strip() == (
        "toyfcn-demo: gradio is missing: pip install 'toyfcn[demo]' brings what toyfcn-demo needs"
    )


# ---- in a browser, where gradio is installed ----
SERVE = """
import sys
def heard(event, given):
    if event == "socket.connect" and given[1][0] not in ("127.0.0.1", "localhost"):
        print("CONNECTS TO", given[1], file=sys.stderr)
    if event == "socket.bind":
        print("LISTENS AT", given[1], file=sys.stderr)
sys.addaudithook(heard)
from toyfcn.commands.demo import main
main()
"""


class Served(NamedTuple):
    """A page with two networks: its address, its process, and the file of all that this prints."""

    address: str
    process: "subprocess.Popen[bytes]"
    log: Path


@pytest.fixture
def served(best: Path) -> Iterator[Served]:
    """A page of toyfcn-demo in a process of its own."""
    pytest.importorskip("gradio")
    second, port = best.with_name("second.ckpt"), 7000 + os.getpid() % 800
    second.write_bytes(best.read_bytes())
    words = [f"ckpt={best}", f"compare={second}", "max_megapixels=1", f"port={port}"]
    log = best.with_name("log")
    environment = os.environ | {"TMPDIR": str(best.parent)}
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-c", SERVE, *words], stdout=out, stderr=out, env=environment
        ) as process,
    ):
        for _ in range(240):
            if "in a browser" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.5)
        assert f"open http://127.0.0.1:{port}/ in a browser" in log.read_text(), log.read_text()
        yield Served(f"http://127.0.0.1:{port}/", process, log)
        process.terminate()


def wait(browser: Any, *words: str, gone: str = "\0") -> str:
    """Wait until all the words stand on the page, and one does not; return its text."""
    text, deadline = "", time.monotonic() + 30
    while time.monotonic() < deadline:
        text = browser.find_element("tag name", "body").text
        if all(word in text for word in words) and gone not in text:
            return text
        time.sleep(0.2)
    pytest.fail(f"not on the page: {words}, or still there: {gone}\n{text}")


def shot(browser: Any, name: str) -> None:
    if folder := os.environ.get("TOYFCN_SCREENSHOTS"):
        time.sleep(2)  # for what is drawn after it is written
        browser.save_screenshot(str(Path(folder, f"demo_{name}.png")))


def shown_picture(browser: Any, number: int) -> bytes:
    """Download what a network's picture shows now."""
    found = browser.find_elements("css selector", "img[src*='/gradio_api/file=']")
    with urllib.request.urlopen(found[number].get_attribute("src")) as answer:
        return bytes(answer.read())


def made_up(address: str, path: str) -> str:
    """Ask for the labels of a photo on the server's disk, as no browser would; return the reply."""
    head = {"content-type": "application/json"}
    asked = {"data": [{"path": path}, "classes"], "fn_index": 0, "session_hash": "mine"}
    urllib.request.urlopen(
        urllib.request.Request(f"{address}gradio_api/queue/join", json.dumps(asked).encode(), head)
    ).close()
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash=mine") as answer:
        return next(line.decode() for line in answer if b"process_completed" in line)


@pytest.mark.slow
def test_the_page_in_a_browser(served: Served, browser: Any, best: Path) -> None:
    address = served.address
    photo = blurred_noise(best.parent / "a.png", 240, 360)
    predictor = toyfcn.load(best)
    browser.get(address)
    wait(browser, "Drop Image Here", str(best), "second.ckpt")
    shot(browser, "empty")

    def upload(path: Path) -> None:
        browser.find_element("css selector", "input[type=file]").send_keys(str(path))

    def clear() -> None:
        browser.find_element("css selector", "button[aria-label='Remove Image']").click()
        wait(browser, "Drop Image Here")

    upload(photo)
    found = look(predictor, photo, 1)
    names = [name for name in found.shares if name != "background"]
    wait(browser, *names, f"{100 * found.shares[names[0]]:.0f}%")
    shot(browser, "classes")
    before = shown_picture(browser, -1)
    browser.find_element("css selector", "input[type=checkbox]").click()
    for _ in range(50):
        if (after := shown_picture(browser, -1)) != before:
            break
        time.sleep(0.2)
    out = best.with_name("shown.png")
    out.write_bytes(after)
    wanted = draw(found, predictor, "classes", names[1:])
    assert (np.asarray(Image.open(out)) == wanted).all()
    browser.find_elements("css selector", "input[type=radio]")[1].click()
    for _ in range(50):
        out.write_bytes(shown_picture(browser, -1))
        if Image.open(out).size == (360, 240):  # there is no legend
            break
        time.sleep(0.2)
    assert (np.asarray(Image.open(out))[..., 0] == found.confidence).all()
    shot(browser, "confidence")

    broken, large, big = (best.with_name(n) for n in ("broken.jpg", "large.png", "big.jpg"))
    broken.write_bytes(b"no photo")
    Image.new("1", (20_000, 20_000)).save(large)
    big.write_bytes(bytes(9_000_000))
    refusals = {
        broken: "cannot read the photo broken.jpg: it is not a picture",
        large: "cannot read the photo large.png: Image size (400000000 pixels) exceeds limit",
        big: "exceed the maximum allowed size of 7.6 Mb",
    }
    for path, told in refusals.items():
        clear()
        upload(path)
        text = wait(browser, told, gone=names[0])  # nor is the last photo's result there
        assert str(best.parent / "toyfcn-demo") not in text
    shot(browser, "refused")
    assert "only photos that were uploaded" in made_up(address, str(photo))

    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    asked = {url for url in asked if not url.startswith(("data:", "blob:", "about:", "chrome:"))}
    assert asked and all(url.startswith(address) for url in asked)
    printed = served.log.read_text()
    assert "CONNECTS TO" not in printed
    assert "LISTENS AT ('127.0.0.1'" in printed
    assert "0.0.0.0" not in printed
    assert list(best.parent.glob("toyfcn-demo-*"))


@pytest.mark.slow
def test_a_port_is_taken_and_the_end_removes_what_was_given(
    served: Served, best: Path, command: Command, process_as_before: None
) -> None:
    port = served.address.strip("/").rpartition(":")[2]
    answer = command("demo", f"ckpt={best}", f"port={port}")
    assert answer.code == 2
    assert f"cannot listen at host=127.0.0.1 port={port}: choose others" in answer.err
    assert list(best.parent.glob("toyfcn-demo-*"))
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    assert not list(best.parent.glob("toyfcn-demo-*"))
