"""Pixel counts and class weights against counts and a plain loop."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from toyfcn.data.class_weights import cached_counts, class_weights, count_pixels, listed_weights
from toyfcn.data.source import FileSource
from toyfcn.data.voc import find_voc, voc_source


@pytest.fixture
def source(tiny_voc: Path) -> FileSource:
    return voc_source(find_voc(tiny_voc, 2007))


@pytest.mark.parametrize("void", [0, 20, 255])
def test_void_is_never_counted(source: FileSource, void: int) -> None:
    """Wherever it lies among the labels: in VOC above all classes, elsewhere often at 0."""
    ids = source.ids("train")
    labels = np.concatenate([source.mask(name).numpy().ravel() for name in ids])
    expected = np.bincount(labels, minlength=256)
    expected[void] = 0
    wide = dataclasses.replace(source, void=void, classes=tuple(str(i) for i in range(256)))
    assert count_pixels(wide, ids).tolist() == expected.tolist()


def test_counts_of_earlier_versions_are_not_read(source: FileSource, tmp_path: Path) -> None:
    ids = source.ids("train")
    first = cached_counts(source, ids, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    path.rename(path.with_name(path.name.replace(".class_counts.json", ".counts.json")))
    assert torch.equal(cached_counts(source, ids, tmp_path / "cache"), first)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_weights_are_double() -> None:
    counts = [6400, 400, 77, 25, 0, 3]
    median = sorted(n for n in counts if n)[2]
    expected = [min(max(math.sqrt(median / n), 0.25), 4) if n else 1 for n in counts]
    weights = class_weights(torch.tensor(counts), "sqrt")
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx(expected, rel=1e-15)
    assert listed_weights([0.1, 2], ("a", "b")).tolist() == [0.1, 2]
