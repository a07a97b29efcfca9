"""A page in the browser to try checkpoints on photos of one's own: what toyfcn-demo does."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from toyfcn.config.extras import import_extra
from toyfcn.config.inference import DemoConfig
from toyfcn.config.option import as_list
from toyfcn.data.image_io import read_image
from toyfcn.evaluation import pictures
from toyfcn.inference.predictor import Pixels, Predictor, load

log = logging.getLogger(__name__)
BYTES = 8  # a pixel, of the largest file that is taken: four channels of 16 bits


class Found(NamedTuple):
    """What a network finds in a photo, with sides of at most ``pictures.LARGEST`` pixels.

    ``photo`` is uint8 (H, W, 3), ``labels`` and ``confidence`` (255 is 1) are uint8 (H, W);
    ``shares`` are those of the classes that occur, in the pixels of the whole photo.
    """

    photo: Pixels
    labels: Pixels
    confidence: Pixels
    shares: dict[str, float]


def run_command(config: DemoConfig) -> None:
    """Serve the page until Ctrl+C or SIGTERM; then the photos that it was given are removed.

    Raises:
        ValueError: gradio is missing, or the port is taken.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio asks itself whether it is there
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="toyfcn-demo-") as folder:
        # which gradio reads when it is imported
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder}
        chosen = [as_list(given) for given in (config.ckpt, config.compare) if given is not None]
        networks = {" + ".join(ckpts): load(ckpts, config.device, config.trust) for ckpts in chosen}
        page = build_page(networks, config.max_megapixels)
        if config.host != DemoConfig.host:
            log.warning("everybody who reaches host=%s can use this page", config.host)
        try:
            page.launch(
                server_name=config.host,
                server_port=config.port,
                max_file_size=BYTES * config.max_megapixels * 1_000_000,
                share=False,
                run_history=False,
                footer_links=[],
                state_session_capacity=50,  # 25 MB each
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError:
            raise ValueError(
                f"cannot listen at host={config.host} port={config.port}: choose others"
            ) from None
        print(f"open {page.local_url} in a browser; Ctrl+C ends it", flush=True)
        page.block_thread()


def look(predictor: Predictor, path: Path, megapixels: int) -> Found:
    """Label a photo.

    Raises:
        ValueError: it cannot be read, or has more pixels than ``megapixels`` millions.
    """
    image = read_image(path, predictor.scale, predictor.channels, megapixels * 1_000_000)
    labels, _, confidence = predictor.label(image, confidence=True)
    assert confidence is not None
    counts = np.bincount(labels.ravel(), minlength=len(predictor.classes)) / labels.size
    return Found(
        pictures.fitted(pictures.shown(image, predictor.show_bands)),
        pictures.fitted(labels, Image.Resampling.NEAREST),
        pictures.fitted(confidence),
        {name: float(n) for name, n in zip(predictor.classes, counts, strict=True) if n},
    )


def draw(found: Found, predictor: Predictor, view: str, shown: Sequence[str]) -> Pixels:
    """Draw confidence, or the classes ``shown`` over the photo: uint8 (H, W, 3)."""
    if view == "confidence":
        return np.repeat(found.confidence[..., None], 3, axis=2)
    classes = predictor.classes
    hidden = [label for label, name in enumerate(classes) if name not in (*shown, "background")]
    drawn = pictures.overlay(found.photo, found.labels, classes, predictor.palette, hidden)
    return np.asarray(drawn)


def import_gradio() -> ModuleType:
    """Import gradio, which only this page needs."""
    return import_extra("gradio", "demo", "toyfcn-demo")


class Answers:
    """What the page shows for a photo and its choices."""

    def __init__(self, networks: dict[str, Predictor], megapixels: int) -> None:
        self.networks, self.megapixels, self.gradio = networks, megapixels, import_gradio()

    def uploaded(self, given: Any) -> str | None:
        """Check a path as gradio does not check all: it may be any that a client has made up.

        This replaces gradio's reading by Pillow, whose errors would not reach the page.
        """
        if given is None or given.path is None:
            return None
        path, folder = Path(given.path).resolve(), Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
        if not path.is_relative_to(folder):
            told = "only photos that were uploaded are labeled"
            raise self.gradio.Error(told, print_exception=False)
        return str(path)

    def examine(self, path: str | None, view: str) -> list[Any]:
        """Label a photo: the state, the choice of classes and all results of a new one."""
        found: list[Found] = []
        try:
            if path is not None:
                nets = self.networks.values()
                found = [look(net, Path(path), self.megapixels) for net in nets]
        except ValueError as error:  # which names the page's own copy
            self.gradio.Warning(str(error).replace(path or "", Path(path or "").name))
        names = [n for n in dict.fromkeys(n for f in found for n in f.shares) if n != "background"]
        choice = self.gradio.CheckboxGroup(names, value=names)
        return [found, choice, *self.show(found, view, names)]

    def show(self, found: list[Found], view: str, shown: list[str]) -> list[Any]:
        """Return a picture and the shares of each network."""
        if not found:
            return [None] * 2 * len(self.networks)
        each = zip(found, self.networks.values(), strict=True)
        return [part for f, net in each for part in (draw(f, net, view, shown), f.shares)]


def build_page(networks: dict[str, Predictor], megapixels: int) -> Any:
    """Return the page, a ``gradio.Blocks``: photo and choices, and what each network finds.

    Raises:
        ValueError: gradio is missing.
    """
    gradio, answers = import_gradio(), Answers(networks, megapixels)
    buttons = ["download", "fullscreen"]  # not "share", which sends pictures to a public site
    with gradio.Blocks(title="toyfcn", fill_width=True, analytics_enabled=False) as page:
        state = gradio.State([])
        with gradio.Row():
            with gradio.Column():
                photo = gradio.Image(
                    label="photo",
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                    buttons=buttons,
                )
                photo.preprocess = answers.uploaded
                view = gradio.Radio(
                    ["classes", "confidence"],
                    value="classes",
                    label="show",
                    info="confidence: the probability of each pixel's class, white is 1",
                )
                shown = gradio.CheckboxGroup([], label="classes shown")
            results: list[Any] = []
            for name in networks:
                with gradio.Column():
                    results += [
                        gradio.Image(label=name, format="png", buttons=buttons, interactive=False),
                        gradio.Label(
                            label="shares of the pixels", num_top_classes=8, show_heading=False
                        ),
                    ]
        events: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        photo.change(answers.examine, [photo, view], [state, shown, *results], **events)
        for choice in (view, shown):
            choice.input(answers.show, [state, view, shown], results, **events)
    return page
