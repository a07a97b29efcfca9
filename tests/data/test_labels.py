"""Values of masks that are no labels, and classes that are merged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import toyfcn
from toyfcn.config.data import FolderConfig, ShapesConfig, VOCConfig
from toyfcn.data.cache import fingerprint
from toyfcn.data.class_weights import class_weights, count_pixels
from toyfcn.data.datasets import open_source
from toyfcn.data.palettes import palette
from toyfcn.data.source import FileSource
from toyfcn.data.voc import CLASSES
from toyfcn.runs.checkpoint import load
from toyfcn.runs.resume import stored_config

MERGE = {"vehicle": ["car", "bus", "train", "motorbike"], "animal": ["cat", "dog", "cow"]}


def folder(root: Path, held: list[int], **options: Any) -> FileSource:
    """A data set of two photos whose masks have these values in turn."""
    for part in ("photos", "masks"):
        (root / part).mkdir(exist_ok=True)
    for name in "ab":
        Image.new("RGB", (12, 8)).save(root / f"photos/{name}.png")
        Image.fromarray(raw(held)).save(root / f"masks/{name}.png")
    config = FolderConfig(root=str(root), images="photos", masks="masks", **options)
    source = open_source(config)
    assert isinstance(source, FileSource)
    return source


def raw(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint8)[np.arange(96).reshape(8, 12) % len(values)]


@pytest.mark.parametrize(
    ("values", "options", "labels"),
    [
        ([0, 255], {"values": [0, 255]}, [0, 1]),
        ([1, 2, 3], {"values": [1, 2, 3]}, [0, 1, 2]),
        ([1, 2, 3, 255], {"values": [1, 2, 3]}, [0, 1, 2, 255]),
        ([3, 1, 2, 7], {"values": [1, 2, 3], "void": 7}, [2, 0, 1, 255]),
        ([0, 255, 128], {"values": {0: "a", 255: "b", 128: "void"}}, [0, 1, 255]),
        ([4, 5, 6, 255], {"values": {4: "b", 5: "a", 6: "b"}}, [1, 0, 1, 255]),
        ([0, 1], {"values": {0: "void", 1: "a"}, "classes": ["void", "a"]}, [0, 1]),
    ],
)
def test_values_become_labels(
    tmp_path: Path, values: list[int], options: dict[str, Any], labels: list[int]
) -> None:
    given = options["values"]
    classes = [*"abc"][: len(given)] if isinstance(given, list) else [*"ab"]
    source = folder(tmp_path, values, **{"classes": classes} | options)
    assert source.void == 255
    expected = dict(zip(values, labels, strict=True))
    found = source.mask("a").tolist()
    assert found == [[expected[value] for value in row] for row in raw(values).tolist()]


def test_a_mapping_names_the_classes(tmp_path: Path) -> None:
    source = folder(tmp_path, [9, 8, 7], values={9: "sky", 8: "sea", 7: "void"})
    assert source.classes == ("sky", "sea")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"values": [0, 1]}, r"a\.png holds the values \[2, 9\], but known are \[0, 1, 255\]"),
        ({"values": [0, 1], "void": None}, r"holds the values \[2, 9\], but known are \[0, 1\]"),
        ({"values": [0, 1, 2]}, r"data\.values lists 3 values, but there are 2 classes: cat, dog"),
        ({"values": {0: "cat", 1: "dgo"}}, r"1: no class is called dgo \(did you mean dog\?\)"),
        ({"values": {0: "cat", 1: "cat"}}, r"data\.values has no value for the class dog"),
        ({"values": [0, 300]}, r"data\.values=.*: 300 is no value from 0 to 255"),
        ({"values": [0, 0]}, r"data\.values lists 0 twice"),
        ({"values": {"0": "cat"}}, r"'0' is no value from 0 to 255"),
        ({"values": "0,1"}, r"data\.values=0,1: None is no value"),
        (
            {"values": [0, 1], "colours": [[0, 0, 0], [1, 1, 1]]},
            r"data\.values is for masks without colors",
        ),
    ],
)
def test_mistakes_in_values(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        folder(tmp_path, [0, 1, 2, 9], classes=["cat", "dog"], **options).mask("a")


def test_values_that_would_fit_are_proposed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder(tmp_path, [0, 1, 255], classes=["a", "b"])
    folder(tmp_path, [0, 1], classes=["a", "b", "c"])
    assert not caplog.messages
    folder(tmp_path, [1, 2, 3, 255], classes=["a", "b", "c"])
    assert "set data.values=[1,2,3]" in caplog.text


def test_merged_classes_of_voc(tiny_voc: Path) -> None:
    """Against a loop over the classes by name."""
    whole = open_source(VOCConfig(root=str(tiny_voc)))
    source = open_source(VOCConfig(root=str(tiny_voc), merge=MERGE | {"void": ["sofa"]}))
    lost = {name for members in MERGE.values() for name in members} | {"sofa"}
    kept = [name for name in CLASSES if name not in lost or name in ("bus", "cat")]
    expected = ["vehicle" if n == "bus" else "animal" if n == "cat" else n for n in kept]
    assert list(source.classes) == expected and source.void == 255
    for name in ("000000", "000003", "000005"):
        old, new = whole.mask(name), source.mask(name)
        for label, own in enumerate(CLASSES):
            group = next((key for key, members in MERGE.items() if own in members), own)
            wanted = 255 if own == "sofa" else expected.index(group)
            assert (new[old == label] == wanted).all()
        assert (new[old == 255] == 255).all()
    colors = np.array(source.palette).reshape(256, 3)
    own = np.array(palette()).reshape(256, 3)
    for label, name in enumerate(kept):
        assert (colors[label] == own[CLASSES.index(name)]).all()
    assert (colors[255] == own[255]).all()


def test_merged_classes_have_weights_of_their_own(tiny_voc: Path) -> None:
    config = VOCConfig(root=str(tiny_voc), merge={"thing": list(CLASSES[1:])})
    whole, source = open_source(VOCConfig(root=str(tiny_voc))), open_source(config)
    ids = source.ids("train")
    before, counts = count_pixels(whole, ids), count_pixels(source, ids)
    assert counts.tolist() == [before[0], before[1:].sum()]
    assert class_weights(counts, "sqrt").shape == (2,)
    assert isinstance(source, FileSource) and isinstance(whole, FileSource)
    assert fingerprint(source, ids) != fingerprint(whole, ids)


def test_values_and_merged_classes_together(tmp_path: Path) -> None:
    options = {"values": [1, 2, 3, 4], "classes": [*"abcd"], "merge": {"x": ["b", "d"]}}
    source = folder(tmp_path, [1, 2, 3, 4, 255], **options)
    assert source.classes == ("a", "x", "c")
    labels = np.array([0, 0, 1, 2, 1])
    expected = np.where(raw([1, 2, 3, 4, 255]) == 255, 255, labels[raw([1, 2, 3, 4, 4])])
    assert np.array_equal(source.mask("a"), expected)


def test_void_that_is_a_label_stays_void(tmp_path: Path) -> None:
    """Of five classes, merged into three, void may be the value 2 or 9."""
    merge = {"x": ["b", "c"], "y": ["d", "e"]}
    for void in (0, 9):
        values = [0, 1, 2, 3, 4, *([9] if void == 9 else [])]
        source = folder(tmp_path, values, classes=[*"abcde"], void=void, merge=merge)
        labels = {0: 0, 1: 1, 2: 1, 3: 2, 4: 2} | {void: 255}
        assert source.mask("a").tolist() == [[labels[v] for v in r] for r in raw(values).tolist()]


@pytest.mark.parametrize(
    ("merge", "told"),
    [
        ({"x": ["cat", "dgo"]}, r"data\.merge: x: no class is called dgo \(did you mean dog"),
        ({"x": ["cat"], "y": ["cat", "dog"]}, r"data\.merge: y: cat is void, or listed twice"),
        ({"dog": ["cat", "cow"]}, r"data\.merge: dog is a class: list it too, dog: \[dog, …\]"),
        ({"x": ["void"]}, r"void is void, or listed twice"),
        ({"": ["cat"]}, r"'' is no name of a class"),
        ({"x": []}, r"'x' is no name of a class, or lists none"),
        ({"x": list(CLASSES)}, r"data\.merge leaves 1 classes"),
    ],
)
def test_mistakes_in_merged_classes(tiny_voc: Path, merge: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        open_source(VOCConfig(root=str(tiny_voc), merge=merge))


def test_checkpoints_know_merged_classes(train: Command, command: Command, tiny_voc: Path) -> None:
    words = ["data=voc2007", f"data.root={tiny_voc}", "data.test_split=null", "data.batch_size=2"]
    merge = "data.merge={thing:[aeroplane,bicycle,bird],void:[tvmonitor]}"
    small = ["model.width=0.1", "trainer.max_steps=2", "recipe.class_weights=sqrt"]
    answer = train(*words, merge, *small, "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    assert "thing" in answer.out and "aeroplane" not in answer.out
    ckpt = "run/checkpoints/best.ckpt"
    predictor = toyfcn.load(ckpt)
    assert len(predictor.classes) == 18 and predictor.classes[1] == "thing"
    assert predictor.palette[3:6] == [128, 0, 0]
    answer = command("eval", f"ckpt={ckpt}", "split=train", "hydra.run.dir=scored")
    assert answer.code == 0 and "thing" in answer.out, answer.err
    photo = tiny_voc / "VOCdevkit/VOC2007/JPEGImages/000000.jpg"
    answer = command("predict", f"ckpt={ckpt}", f"source={photo}", "out=out")
    assert answer.code == 0, answer.err
    whole = command("eval", f"ckpt={ckpt}", "data=voc2007", f"data.root={tiny_voc}")
    assert whole.code == 2 and "set data.merge as it was trained" in whole.err
    answer = train(*words, "data.merge={thing:[aeroplan]}", *small)
    assert answer.code == 2 and "did you mean aeroplane?" in answer.err
    for merge in ("{thing:bird}", "[bird,bicycle]"):
        answer = train(*words, f"data.merge={merge}", *small)
        assert answer.code == 2 and "is not like {vehicle: [car, bus]}" in answer.err


def test_merged_shapes_are_drawn_as_before(tmp_path: Path) -> None:
    size = {"train_images": 3, "val_images": 1, "test_images": 1, "size": [48, 48]}
    config = ShapesConfig(root=str(tmp_path / "world"), **size)
    whole = open_source(config)
    merge = {"shape": list(whole.classes[1:])}
    source = open_source(ShapesConfig(root=str(tmp_path / "world"), merge=merge, **size))
    for name in source.ids("train"):
        old = whole.mask(name)
        expected = torch.where((old > 0) & (old < 255), torch.ones_like(old), old)
        assert torch.equal(source.mask(name), expected)


def test_a_mapping_travels_with_run_and_checkpoint(command: Command, tmp_path: Path) -> None:
    folder(
        tmp_path,
        [0, 7, 8, 9],
        classes=["sky", "sea"],
        values={0: "sky", 7: "sea", 8: "sky", 9: "void"},
    )
    for name in "cdef":
        for part in ("photos", "masks"):
            (tmp_path / part / f"{name}.png").write_bytes((tmp_path / part / "a.png").read_bytes())
    words = ["data=folder", "data.images=photos", "data.masks=masks", "data.batch_size=2"]
    words += ["data.values={0:sky,7:sea,8:sky,9:void}", "model.width=0.1", "trainer.max_steps=2"]
    answer = command("train", *words, "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    for config in (stored_config(tmp_path / "run").data, load("run/checkpoints/best.ckpt").data):
        assert isinstance(config, FolderConfig)
        assert config.values == {0: "sky", 7: "sea", 8: "sky", 9: "void"}
