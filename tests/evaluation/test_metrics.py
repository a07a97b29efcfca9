"""The figures against hand-computed ones, a second implementation, torchmetrics and real masks."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torchmetrics.classification import MulticlassJaccardIndex

from toyfcn.data.voc import find_voc, voc_source
from toyfcn.evaluation.metrics import (
    Scores,
    boundary_counts,
    boundary_iu,
    confusion,
    count_pairs,
    matrix_of,
)
from toyfcn.evaluation.score_table import print_scores

SCALARS = ("pixel_acc", "mean_acc", "miou", "fwiou", "baseline_miou")


def bytes_of(values):
    return torch.tensor(values, dtype=torch.uint8)


def by_sets(truth, prediction, classes):
    """The figures from sets of pixels, class by class, without a confusion matrix."""
    labelled = truth != 255
    truth, prediction = truth[labelled], prediction[labelled]
    iou, acc, weighted = [], [], 0.0
    for label in range(classes):
        is_true, is_said = truth == label, prediction == label
        both, either = (is_true & is_said).sum(), (is_true | is_said).sum()
        iou.append(both / either if either else math.nan)
        acc.append(both / is_true.sum() if is_true.any() else math.nan)
        weighted += is_true.mean() * iou[-1] if is_true.any() else 0
    return {
        "pixel_acc": (truth == prediction).mean(),
        "mean_acc": np.nanmean(acc),
        "miou": np.nanmean(iou),
        "fwiou": weighted,
        "iou": iou,
    }


def random_pair(classes, seed=0, shape=(3, 40, 50)):
    """Truth with void, prediction half right; the upper classes occur on one side or on neither."""
    rng = np.random.default_rng([seed, classes])
    truth = rng.integers(0, max(1, classes - 2), shape).astype(np.uint8)
    prediction = np.where(
        rng.random(shape) < 0.5, truth, rng.integers(0, max(1, classes - 1), shape)
    )
    truth[rng.random(shape) < 0.1] = 255
    return truth, np.minimum(prediction, classes - 1).astype(np.int64)


# Three classes; six pixels of class 0, four of class 1, none of class 2, two void.
TRUTH = [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 255, 255]]


def test_hand_computed_with_void_and_a_class_on_neither_side():
    said = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 2, 2]])
    matrix = confusion(bytes_of(TRUTH), said, 3)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[5, 1, 0], [1, 3, 0], [0, 0, 0]]
    scores = Scores.of(matrix)
    assert scores.pixel_acc == pytest.approx(8 / 10)
    assert scores.mean_acc == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert scores.iou[:2] == pytest.approx((5 / 7, 3 / 5))
    assert math.isnan(scores.iou[2])
    assert scores.miou == pytest.approx(23 / 35)
    assert scores.fwiou == pytest.approx(117 / 175)
    assert scores.baseline_miou == pytest.approx(0.6 / 2)


def test_hand_computed_with_a_class_that_is_only_predicted():
    said = torch.tensor([[0, 0, 0, 0], [2, 1, 1, 1], [1, 0, 2, 2]])
    matrix = confusion(bytes_of(TRUTH), said, 3)
    assert matrix.tolist() == [[4, 1, 1], [1, 3, 0], [0, 0, 0]]
    scores = Scores.of(matrix)
    assert scores.pixel_acc == pytest.approx(7 / 10)
    assert scores.mean_acc == pytest.approx((4 / 6 + 3 / 4) / 2)  # undefined for class 2
    assert scores.iou == pytest.approx((4 / 7, 3 / 5, 0))
    assert scores.miou == pytest.approx(41 / 105)
    assert scores.fwiou == pytest.approx(102 / 175)
    assert scores.baseline_miou == pytest.approx(0.6 / 2)  # says nothing of class 2


@pytest.mark.parametrize("classes", [1, 2, 3, 21, 127, 128, 200, 255])
def test_random_masks_equal_sets_of_pixels(classes):
    truth, said = random_pair(classes)
    scores = Scores.of(confusion(torch.from_numpy(truth), torch.from_numpy(said), classes))
    expected = by_sets(truth, said, classes)
    most = np.bincount(truth[truth != 255], minlength=classes).argmax()
    assert scores.baseline_class == most
    expected["baseline_miou"] = by_sets(truth, np.full_like(said, most), classes)["miou"]
    for key in SCALARS:
        assert getattr(scores, key) == pytest.approx(expected[key], abs=1e-12), key
    assert scores.iou == pytest.approx(expected["iou"], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("classes", [3, 200])
def test_any_integers_predict(dtype, classes):
    truth, said = map(torch.from_numpy, random_pair(classes))
    assert confusion(truth, said.to(dtype), classes).equal(confusion(truth, said, classes))


@pytest.mark.parametrize("classes", [3, 21])
def test_agrees_with_torchmetrics(classes):
    truth, said = map(torch.from_numpy, random_pair(classes, seed=1))
    scores = Scores.of(confusion(truth, said, classes))
    for average, ours in (("macro", scores.miou), ("weighted", scores.fwiou)):
        theirs = MulticlassJaccardIndex(classes, average=average, ignore_index=255)
        assert theirs(said, truth.long()).item() == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("void", [255, 0])
def test_void_is_never_counted(void):
    truth, said = bytes_of([0, 1, 1, void]), torch.tensor([0, 1, 0, 1])
    counted = {255: [[1, 0], [1, 1]], 0: [[0, 0], [1, 1]]}
    assert confusion(truth, said, 2, void).tolist() == counted[void]


def test_nothing_but_void_gives_no_figures():
    scores = Scores.of(confusion(bytes_of([255, 255]), torch.tensor([0, 1]), 2))
    assert all(math.isnan(getattr(scores, key)) for key in SCALARS if key != "fwiou")
    assert scores.as_dict(["a", "b"])["iou"] == {"a": None, "b": None}


@pytest.mark.parametrize(("classes", "label"), [(3, 3), (3, 254), (21, 21), (200, 200)])
def test_a_label_outside_the_classes_is_an_error(classes, label):
    with pytest.raises(ValueError, match=rf"\[{label}\].*{classes} classes"):
        confusion(bytes_of([0, 255, label]), torch.zeros(3, dtype=torch.int64), classes)


@pytest.mark.parametrize(
    ("classes", "label"), [(3, 3), (3, -1), (3, 255), (200, 200), (200, 70000)]
)
def test_a_prediction_outside_the_classes_is_an_error(classes, label):
    with pytest.raises(ValueError, match=f"prediction.*{classes} classes"):
        confusion(bytes_of([0, 1, 255]), torch.tensor([0, label, 0]), classes)


def test_truth_and_prediction_of_unlike_shapes_are_an_error():
    with pytest.raises((ValueError, RuntimeError)):  # a broadcast would count pixels twice
        confusion(bytes_of([[[0, 1]]]), torch.zeros(4, 1, 2, dtype=torch.int64), 2)


def test_counts_add_up():
    truth, said = map(torch.from_numpy, random_pair(5))
    counts = sum(count_pairs(t, s, 5) for t, s in zip(truth, said, strict=True))
    assert matrix_of(counts, 255).equal(confusion(truth, said, 5))


def test_as_dict_is_plain_and_names_classes():
    report = Scores.of(torch.tensor([[5, 1, 0], [1, 3, 0], [0, 0, 0]])).as_dict(["x", "y", "z"])
    assert set(report) == {*SCALARS, "iou", "baseline_class"}
    assert report["baseline_class"] == "x"
    assert report["iou"] == {"x": pytest.approx(5 / 7), "y": pytest.approx(3 / 5), "z": None}
    with pytest.raises(ValueError, match="zip"):
        Scores.of(torch.eye(3, dtype=torch.int64)).as_dict(["x", "y"])


def test_the_baseline_is_the_most_frequent_class_by_name():
    """Of CamVid's kind: label 0 is sky, most is road."""
    figures = Scores.of(torch.tensor([[1, 1, 0], [0, 3, 3], [0, 0, 2]])).as_dict(
        ["sky", "road", "x"]
    )
    assert figures["baseline_class"] == "road"
    assert figures["baseline_miou"] == pytest.approx((6 / 10) / 3)
    out = io.StringIO()
    print_scores({"val": figures | {"images": 1}, "test": None}, Console(file=out, width=80))
    assert "all-road mean IU" in out.getvalue() and "0.200" in out.getvalue()


def test_nothing_labeled_has_no_figure():
    figures = Scores.of(torch.zeros(2, 2, dtype=torch.int64)).as_dict(["a", "b"])
    assert figures.pop("iou") == {"a": None, "b": None}
    assert set(figures.values()) == {None}


@pytest.mark.usefixtures("one_thread")
def test_all_background_on_real_masks(voc_root):
    source = voc_source(find_voc(voc_root, 2007))
    pairs, counts = torch.zeros(256, 21, dtype=torch.int64), np.zeros(256, np.int64)
    for name in source.ids("val"):
        mask = source.mask(name)
        pairs += count_pairs(mask, torch.zeros_like(mask), 21)
        counts += np.bincount(np.asarray(Image.open(source.mask_path(name))).ravel(), minlength=256)
    scores, share = Scores.of(matrix_of(pairs, 255)), counts[0] / counts[:21].sum()
    assert scores.pixel_acc == pytest.approx(share, abs=1e-12)
    assert scores.miou == pytest.approx(share / 21, abs=1e-12)
    assert scores.baseline_miou == pytest.approx(share / 21, abs=1e-12)
    assert share / 21 == pytest.approx(0.0351, abs=1e-4)


def test_boundary_iu_by_hand():
    """A square of 7x7 in 13x13, predicted one pixel too far right; bands are 2 wide.

    Square: 7² - 3² = 40 pixels in each band. The bands are rings that share 2 · 6 + 2 · 6 pixels in
    their top and bottom two rows and one column on each side of their three middle rows: 30. Of
    the background the bands are 2 at the square (11² - 7² = 72) and 2 at the end of the image
    (13² - 9² = 88), which overlap in the ring between (11² - 9² = 40): 120 of the truth.
    """
    truth = torch.zeros(1, 13, 13, dtype=torch.uint8)
    truth[:, 3:10, 3:10] = 1
    prediction = truth.roll(1, 2).long()
    counts = boundary_counts(truth, prediction, 3)
    square = 30 / (40 + 40 - 30)
    band, predicted, both = counts.tolist()
    assert band == [120, 40, 0]
    assert both[1] == 30
    background = both[0] / (120 + predicted[0] - both[0])
    assert boundary_iu(counts) == pytest.approx((square + background) / 2)


def eroded(mask: np.ndarray, turns: int) -> np.ndarray:
    """3x3 erosion with nothing beyond the image's end."""
    for _ in range(turns):
        padded = np.pad(mask, 1)
        shifts = [padded[1 + y : len(padded) - 1 + y, 1 + x :][:, : mask.shape[1]]
                  for y in (-1, 0, 1) for x in (-1, 0, 1)]  # fmt: skip
        mask = np.logical_and.reduce(shifts)
    return mask


def test_boundary_iu_equals_erosion_of_each_class():
    rng = np.random.default_rng(0)
    found = torch.zeros(3, 4, dtype=torch.int64)
    counts = np.zeros((2, 4))
    for _ in range(3):
        truth, prediction = (
            np.kron(rng.integers(0, 4, (4, 5)), np.ones((6, 6))).astype(np.uint8) for _ in "ab"
        )
        prediction = np.roll(np.where(rng.random((4, 5)).repeat(6, 0).repeat(6, 1) < 0.8, truth,
                                      prediction), 1, 0)  # fmt: skip
        truth[2:5, 3:14] = 255
        seen = np.where(truth == 255, 255, prediction)
        for label in range(4):
            bands = [(m == label) & ~eroded(m == label, 2) for m in (truth, seen)]
            counts[0, label] += (bands[0] & bands[1]).sum()
            counts[1, label] += (bands[0] | bands[1]).sum()
        pair = torch.from_numpy(truth)[None], torch.from_numpy(prediction)[None].long()
        found += boundary_counts(*pair, 4)
    assert boundary_iu(found) == pytest.approx((counts[0] / counts[1]).mean())


def test_boundary_iu_of_the_truth_itself_and_of_void():
    truth = torch.randint(0, 3, (2, 20, 20), dtype=torch.uint8)
    assert boundary_iu(boundary_counts(torch.full_like(truth, 255), truth.long(), 3)) is None
    assert boundary_iu(boundary_counts(truth, truth.long(), 3)) == 1
