"""Where a run fails: drawn errors, the photos that are chosen, and the page of a run."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from matplotlib.figure import Figure
from PIL import Image

from toyfcn.evaluation import pictures
from toyfcn.evaluation.per_image import ImageCounts
from toyfcn.report.errors import chosen
from toyfcn.report.page import plot
from toyfcn.report.plots import rendered
from toyfcn.report.theme import LIGHT

SMALL = """data.train_images=4 data.val_images=3 data.test_images=3 data.size=[48,56]
    data.batch_size=2 model.width=0.25 trainer.max_steps=2 logger.panels=0"""


def test_errors_are_drawn_in_the_color_of_their_kind() -> None:
    photo = np.zeros((1, 7, 3), np.uint8)
    target = np.array([[0, 1, 1, 0, 1, 2, 255]], np.uint8)
    labels = np.array([[0, 1, 0, 1, 2, 1, 1]], np.uint8)

    def seen(label: int | None) -> list[str]:
        names = {tuple(42 + c * 2 // 3 for c in color): k for k, color in pictures.MARKS.items()}
        row = pictures.marked(photo, target, labels, 255, label)[0].tolist()
        return [names.get(tuple(pixel), "-") for pixel in row]

    assert seen(None) == ["-", "correct", "missed", "false", "confused", "confused", "-"]
    assert seen(1) == ["-", "correct", "missed", "false", "missed", "false", "-"]
    assert seen(2) == ["-", "-", "-", "-", "false", "missed", "-"]


def test_the_worst_median_and_best_are_chosen() -> None:
    hits = np.array([[40, 4], [40, 0], [40, 10], [40, 7]])
    matrices = np.zeros((4, 2, 2), np.int64)
    matrices[:, [0, 1], [0, 1]] = hits
    matrices[:, 1, 0] = 10 - hits[:, 1]
    matrices[1, 1] = 0  # the second photo has no object
    counts = ImageCounts(
        ("background", "cat"),
        tuple("abcd"),
        np.full((4, 2), 10),
        matrices,
        np.zeros((4, 2), np.int64),
        np.zeros(4),
    )
    whole, cat, _ = chosen(counts)
    assert cat == ("cat", 1, [0, 3, 2], pytest.approx([0.4, 0.7, 1.0]))
    assert whole[0] == "all classes" and whole[2][0] == 0 and whole[3][-1] == 1.0


def test_the_page_of_a_run_shows_where_it_fails(train: Command, command: Command) -> None:
    assert train(*SMALL.split(), "hydra.run.dir=run").code == 0
    answer = command("report", "run")
    assert answer.code == 0 and "could not" not in answer.out + answer.err
    page = Path("run/report.html").read_text()
    for title in ("Kinds of error", "Confusion", "Object size", "Worst, median and best photos"):
        assert f"<h2>{title}</h2>" in page
    with Image.open("run/plots/photos.jpg") as sheet:
        assert sheet.height > 250 * 3
    # elsewhere, without the data, there is all but the photos
    Path("run/plots/photos.jpg").unlink()
    Path("data").rename("gone")
    Path("run").rename("moved")
    Path("data").write_text("no folder")
    assert command("report", "moved").code == 0
    assert "<h2>Confusion</h2>" in Path("moved/report.html").read_text()
    Path("moved/images.npz").write_bytes(b"PK")
    assert command("report", "moved").code == 0
    assert "<h2>Confusion</h2>" not in Path("moved/report.html").read_text()


@pytest.mark.parametrize(("inches", "pixels"), [(6.4, 640), (9.6, 960)])
def test_a_small_plot_is_not_enlarged_on_the_page(inches: float, pixels: int) -> None:
    drawn = rendered(lambda theme: Figure(figsize=(inches, 2)), LIGHT)
    assert drawn is not None and f"max-width: {pixels}px" in plot(drawn, drawn, "title")
