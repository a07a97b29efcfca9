"""toyfcn-data convert: what it writes is checked and trained on by the commands that it prints."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from annotated import FORMATS, SIZES, coco_content, masks, photos
from conftest import Command
from PIL import Image

from toyfcn.config.data_commands import ConvertConfig
from toyfcn.data.source import palette
from toyfcn.data.tools import run_convert


def convert(format_: str, source: object, **options: object) -> int:
    given = source if isinstance(source, list) else str(source)
    return run_convert.run(ConvertConfig(from_=format_, source=given, **options))


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_printed_checks_and_trains(
    format_: str, command: Command, one_thread: None, tmp_path: Path
) -> None:
    source = FORMATS[format_](tmp_path / "my photos")
    before = {p: p.read_bytes() for p in (tmp_path / "my photos").rglob("*") if p.is_file()}
    out = tmp_path / "it's (new)"
    quoted = str(out).replace("'", "\\'")
    answer = command("data", "convert", f"from={format_}", f"source={source}", f"out='{quoted}'")
    assert answer.code == 0, answer.err
    assert {p: p.read_bytes() for p in before} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name, "my photos"]
    assert {p.name for p in (out / "images").iterdir()} == {*SIZES}
    for name, wanted in masks(format_, source).items():
        with Image.open(out / "masks" / f"{name}.png") as mask:
            assert mask.mode == "P" and mask.getpalette() == palette()
            assert np.array_equal(np.array(mask), wanted)

    *_, check, train = (line.partition(":")[2].strip() for line in answer.out.splitlines())
    checked = command("data", *shlex.split(check)[1:])
    assert checked.code == 0 and "every file is sound" in checked.out, checked
    assert ("lists:  train 1, val 1, all 2" in checked.out) == (format_ != "yolo")
    if format_ in ("yolo", "coco"):  # with lists and without
        small = ["trainer.max_steps=2", "model.width=0.25", "model.short_side=32"]
        trained = command("train", *shlex.split(train)[1:], *small, "trainer=cpu")
        assert trained.code == 0, trained.err


def test_classes_come_in_the_order_of_the_format(tmp_path: Path) -> None:
    orders = {
        "labelme": "house, sun, tree",  # sorted
        "coco": "tree, house",  # by the categories' ids
        "cvat": "tree, house",  # as in <meta>
        "labelstudio": "cat, house, sun, tree",  # sorted
        "yolo": "tree, house",  # by their numbers
    }
    for format_, order in orders.items():
        source = FORMATS[format_](tmp_path / format_)
        assert convert(format_, source, out=str(tmp_path / "out" / format_)) == 0
        text = (tmp_path / "out" / format_ / f"conf/data/{format_}.yaml").read_text()
        listed = text.partition("classes:\n")[2].splitlines()
        names = [line.removeprefix("- ") for line in listed if line.startswith("- ")]
        assert names == ["background", *order.split(", ")]


def test_classes_of_a_list_or_a_file(tmp_path: Path) -> None:
    source = FORMATS["labelme"](tmp_path / "in")
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ntree\nhouse\n")
    by_file = masks("labelme", source, classes=str(tmp_path / "labels.txt"), void=["sun"])["a"]
    by_list = masks("labelme", source, classes=["tree", "house"], void=["sun"])["a"]
    alone = masks("labelme", source)["a"]  # house, sun, tree
    assert np.array_equal(by_file, by_list)
    assert np.array_equal(np.array([0, 2, 255, 1])[alone], by_file)
    with pytest.raises(ValueError, match=r"cannot read classes=.*none\.txt"):
        masks("labelme", source, classes=str(tmp_path / "none.txt"))


def test_files_called_after_splits_become_lists(tmp_path: Path, capsys: object) -> None:
    for number, (split, name) in enumerate(zip(("train", "val"), SIZES, strict=True)):
        photos(tmp_path / f"{split}2017")
        content = coco_content()
        image = content["images"][number]
        content["images"] = [image]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        (tmp_path / f"instances_{split}2017.json").write_text(json.dumps(content))
        assert image["file_name"] == name
    files = [str(tmp_path / f"instances_{split}2017.json") for split in ("train", "val")]
    folders = [str(tmp_path / f"{split}2017") for split in ("train", "val")]
    assert convert("coco", files, photos=folders, out=str(tmp_path / "out"), link=True) == 0
    assert (tmp_path / "out/lists/train.txt").read_text() == "a\n"
    assert (tmp_path / "out/lists/val.txt").read_text() == "b\n"
    assert (tmp_path / "out/images/a.png").samefile(tmp_path / "train2017/a.png")
    again = [files[0], files[0]]
    with pytest.raises(ValueError, match=r"a\.png is annotated twice"):
        convert("coco", again, photos=folders[0], out=str(tmp_path / "other"))


def test_splits_that_are_the_same_photos_are_no_lists(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in COCO128's data.yaml; with a path on another machine, and files that macOS leaves."""
    source = FORMATS["yolo"](tmp_path / "in")
    (source / "images/train/._a.png").write_bytes(b"\0")
    text = "path: /home/me/sets\ntrain: ../images\nval: images\nnames: [tree, house]\n"
    (source / "data.yaml").write_text(text)
    assert convert("yolo", source, out=str(tmp_path / "out")) == 0
    assert not (tmp_path / "out/lists").exists()
    assert "photos of val that an earlier split has, and keeps: 2" in caplog.text
    assert "path: /home/me/sets is no folder below it" in caplog.text


def test_photos_of_one_name_get_the_names_of_their_folders(tmp_path: Path) -> None:
    for part in ("x", "y"):
        FORMATS["labelme"](tmp_path / "in" / part)
    assert {*masks("labelme", tmp_path / "in")} == {"x_a", "x_b", "y_a", "y_b"}


def test_photos_without_a_shape(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = FORMATS["yolo"](tmp_path / "in")
    (source / "labels/val/b.txt").unlink()
    assert not masks("yolo", source)["b"].any()
    assert "photos without a shape: 1" in caplog.text
    assert {*masks("yolo", source, empty=False)} == {"a"}


def test_photos_elsewhere(tmp_path: Path) -> None:
    """Annotations that labelme has written into a folder of their own name ../photos/a.png."""
    FORMATS["labelme"](tmp_path / "photos")
    (tmp_path / "annotations").mkdir()
    for file in (tmp_path / "photos").glob("*.json"):
        content = json.loads(file.read_text())
        content["imagePath"] = f"..\\photos\\{content['imagePath']}"
        (tmp_path / "annotations" / file.name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"imagePath: .* leads out .*photos=FOLDER"):
        masks("labelme", tmp_path / "annotations")
    found = masks("labelme", tmp_path / "annotations", photos=str(tmp_path / "photos"))
    wanted = masks("labelme", tmp_path / "photos")
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_a_photo_on_its_side(tmp_path: Path) -> None:
    """Sizes are of the upright photo, as labeling tools show it."""
    file = FORMATS["coco"](tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "b.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.jpg", exif=exif)
    assert masks("coco", file)["b"].shape == SIZES["b.jpg"]
    content = json.loads(file.read_text())
    content["images"][1].update(height=52, width=40)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="turned by its EXIF orientation, has 52 x 40"):
        masks("coco", file)


def test_nothing_is_left_where_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    source = FORMATS["labelme"](tmp_path / "in")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ValueError, match=r"cannot write into .*out: No space left on device"):
        convert("labelme", source, out=str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    source = FORMATS["coco"](tmp_path / "in")
    with pytest.raises(ValueError, match=r"pip install 'toyfcn\[convert\]'"):
        convert("coco", source, out=str(tmp_path / "out"))
