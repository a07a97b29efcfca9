"""Layouts of data sets as people have them: no file is moved, and few options say how to read one.

Each tree is written by a function that says itself which mask belongs to which photo.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toyfcn.config.data import FolderConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.folder import FolderSource, folder_source
from toyfcn.data.layout import MASKS, Naming
from toyfcn.data.layout_search import best_fit
from toyfcn.data.tools import run_check

CLASSES = ["road", "car"]
Expected = dict[str, list[tuple[Path, Path]]]  # by split: photo and mask


def write(root: Path, *places: tuple[str, str, str], seed: int = 0) -> Expected:
    """Write pairs, each of a split, a photo and a mask, and return them by split."""
    found: Expected = {}
    for number, (split, photo, mask) in enumerate(places):
        rng = np.random.default_rng([seed, number])
        for name in (photo, mask):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(root / photo)
        Image.fromarray(rng.integers(0, 2, (24, 32), np.uint8)).save(root / mask)
        found.setdefault(split, []).append((root / photo, root / mask))
    return found


SPLITS = ("train", "train", "train", "val", "val", "test")


def camvid(root: Path) -> Expected:
    return write(
        root, *((s, f"{s}/{i}_L.png", f"{s}annot/{i}_L.png") for i, s in enumerate(SPLITS))
    )


def mmsegmentation(root: Path) -> Expected:
    names = [(s, f"img_dir/{s}/i{i}.jpg", f"ann_dir/{s}/i{i}.png") for i, s in enumerate(SPLITS)]
    return write(root, *names[:5])


def ade20k(root: Path) -> Expected:
    names = [("training", 0), ("training", 1), ("validation", 0)]
    return write(root, *((s, f"images/{s}/{i}.jpg", f"annotations/{s}/{i}.png") for s, i in names))


def cityscapes(root: Path) -> Expected:
    names = []
    for i, split in enumerate(SPLITS):
        city = f"{split}/{('ulm', 'bern')[i % 2]}"
        name = f"{i:06}_000019"
        photo = f"leftImg8bit/{city}/{name}_leftImg8bit.png"
        mask = f"gtFine/{city}/{name}_gtFine_labelIds.png"
        names.append((split, photo, mask))
    found = write(root, *names)
    for _, _, mask in names:
        for other in ("color.png", "instanceIds.png", "polygons.json"):
            path = root / mask.replace("labelIds.png", other)
            Image.new("RGB", (32, 24)).save(path) if path.suffix == ".png" else path.write_text("")
    return found


def flat(root: Path) -> Expected:
    return write(root, *(("all", f"photos/{i}.jpg", f"masks/{i}.png") for i in range(5)))


def nested(root: Path) -> Expected:
    names = ("ulm/1", "ulm/2", "bern/1", "bern/old/1", "top")
    return write(root, *(("all", f"photos/{n}.jpg", f"masks/{n}.png") for n in names))


def suffix(root: Path) -> Expected:
    return write(root, *(("all", f"photos/{i}.jpg", f"masks/{i}_mask.png") for i in range(5)))


def beside(root: Path) -> Expected:
    return write(root, *(("all", f"pairs/{i}.png", f"pairs/{i}_gt.png") for i in range(5)))


def beside_by_suffix(root: Path) -> Expected:
    return write(root, *(("all", f"pairs/{i}.jpg", f"pairs/{i}.png") for i in range(5)))


def prefix(root: Path) -> Expected:
    return write(root, *(("all", f"a/img_{i}.png", f"b/label_{i}.png") for i in range(5)))


LAYOUTS: dict[Callable[[Path], Expected], dict[str, str]] = {
    camvid: {"images": "{split}", "masks": "{split}annot"},
    mmsegmentation: {
        "images": "img_dir/{split}",
        "masks": "ann_dir/{split}",
        "test_split": "null",
    },
    ade20k: {
        "images": "images/{split}",
        "masks": "annotations/{split}",
        "train_split": "training",
        "val_split": "validation",
        "test_split": "null",
    },
    cityscapes: {
        "images": "leftImg8bit/{split}",
        "masks": "gtFine/{split}",
        "image_name": "{stem}_leftImg8bit",
        "mask_name": "{stem}_gtFine_labelIds.png",
    },
    flat: {"images": "photos", "masks": "masks"},
    nested: {"images": "photos", "masks": "masks"},
    suffix: {"images": "photos", "masks": "masks", "mask_name": "{stem}_mask.png"},
    beside: {"images": "pairs", "masks": "pairs", "mask_name": "{stem}_gt.png"},
    beside_by_suffix: {
        "images": "pairs",
        "masks": "pairs",
        "image_name": "{stem}.jpg",
        "mask_name": "{stem}.png",
    },
    prefix: {
        "images": "a",
        "masks": "b",
        "image_name": "img_{stem}",
        "mask_name": "label_{stem}.png",
    },
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


def config_of(root: Path, options: dict[str, Any]) -> FolderConfig:
    values = {key: None if value == "null" else value for key, value in options.items()}
    return FolderConfig(root=str(root), classes=CLASSES, batch_size=2, **values)


@every_layout
def test_photos_and_masks_are_those_that_were_written(
    layout: Callable[[Path], Expected], tmp_path: Path
) -> None:
    expected = layout(tmp_path)
    options = LAYOUTS[layout]
    assert len(options) <= 4 or layout is ade20k  # its splits have names of their own
    data = SegmentationData.open(config_of(tmp_path, options))
    data.setup()
    for split, pairs in expected.items():
        ids = data.source.ids(split)
        assert isinstance(data.source, FolderSource)
        found = {(data.source.image_path(name), data.source.mask_path(name)) for name in ids}
        assert found == set(pairs)
        for batch in [batch for batches in data.scoring_loader(split) for batch in batches]:
            for name, image, mask in zip(batch["id"], batch["image"], batch["mask"], strict=True):
                photo_path, mask_path = data.source.places(name)
                assert np.array_equal(mask, np.asarray(Image.open(mask_path)))
                if photo_path.endswith(".png"):
                    photo = np.asarray(Image.open(photo_path))
                    assert np.array_equal(image.permute(1, 2, 0), photo)
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 24, 32)


@every_layout
def test_the_options_are_found_by_looking(
    layout: Callable[[Path], Expected], tmp_path: Path
) -> None:
    pairs = sum(map(len, layout(tmp_path).values()))
    fit = best_fit(tmp_path)
    assert fit is not None and fit.given == LAYOUTS[layout]
    assert (fit.pairs, fit.photos) == (pairs, pairs)
    with pytest.raises(ValueError, match=re.escape(f"of {pairs} photos with a mask): {fit}")):
        folder_source(FolderConfig(root=str(tmp_path), classes=CLASSES))


@every_layout
def test_check_names_the_layout(
    layout: Callable[[Path], Expected], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout(tmp_path)
    config = config_of(tmp_path, LAYOUTS[layout])
    assert run_check.run(DataCommandConfig(data=config, report=str(tmp_path / "r.json"))) == 0
    images, masks = LAYOUTS[layout]["images"], LAYOUTS[layout]["masks"]
    (line,) = re.findall(r"^layout: (.*)", capsys.readouterr().out, re.M)
    assert line.startswith(f"photos {tmp_path}/{images}/{config.image_name}, masks ")
    assert f", masks {tmp_path}/{masks}/{config.mask_name}" in line
    assert json.loads((tmp_path / "r.json").read_text())["layout"] == line
    assert ("(4 photos in folders below)" in line) == (layout is nested)


# ---- splits that are folders ----


def test_a_split_without_a_folder_is_told_of(tmp_path: Path) -> None:
    mmsegmentation(tmp_path)
    options = {"images": "img_dir/{split}", "masks": "ann_dir/{split}"}
    data = SegmentationData.open(config_of(tmp_path, options))
    told = (
        r"no split is called 'test': .*exist for train, val; data\.test_split=null trains without"
    )
    with pytest.raises(ValueError, match=told):
        data.setup()
    (tmp_path / "img_dir/test").mkdir()  # with photos, perhaps, but no masks
    with pytest.raises(ValueError, match=told):
        SegmentationData.open(config_of(tmp_path, options)).setup()


def test_other_folders_beside_those_of_the_splits_are_none_of_its_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camvid(tmp_path)
    write(tmp_path, ("", "run/1.png", "run/2.png"))
    (tmp_path / "run/notes.txt").write_text("")
    source = folder_source(config_of(tmp_path, LAYOUTS[camvid]))
    assert source.splits() == ("test", "train", "val") and not caplog.messages
    (tmp_path / "train/notes.txt").write_text("")
    folder_source(config_of(tmp_path, LAYOUTS[camvid]))
    assert "{split}: 1 .txt (a photo is" in caplog.text


def test_splits_of_other_names_are_told_of(tmp_path: Path) -> None:
    ade20k(tmp_path)
    options = {"images": "images/{split}", "masks": "annotations/{split}"}
    with pytest.raises(ValueError, match=r"for training, validation; set data.train_split=train"):
        SegmentationData.open(config_of(tmp_path, options)).setup()


def test_folders_of_splits_that_are_not_used_are_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mmsegmentation(tmp_path)
    source = folder_source(config_of(tmp_path, {"images": "img_dir", "masks": "ann_dir"}))
    assert len(source.ids("all")) == 5 and source.ids("all")[0] == "train/i0"
    assert "data.images=img_dir/{split} data.masks=ann_dir/{split} would use" in caplog.text


def test_a_photo_in_two_split_folders_is_an_overlap(tmp_path: Path) -> None:
    camvid(tmp_path)
    options = LAYOUTS[camvid]
    SegmentationData.open(config_of(tmp_path, options)).setup()
    for part in ("", "annot"):
        shutil.copy(tmp_path / f"train{part}/0_L.png", tmp_path / f"val{part}/0_L.png")
    with pytest.raises(ValueError, match=r"1 of the 3 photos of val_split=val are trained on"):
        SegmentationData.open(config_of(tmp_path, options)).setup()
    rng = np.random.default_rng(9)  # another photo of that name, and of as many bytes
    for split in ("train", "val"):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        for old in (tmp_path / split).glob("0_L.png"):
            old.unlink()
        Image.fromarray(pixels).save(tmp_path / split / "0_L.bmp")
    SegmentationData.open(config_of(tmp_path, options)).setup()


def test_photos_of_another_split_may_lack_masks(tmp_path: Path) -> None:
    camvid(tmp_path)
    Image.new("RGB", (32, 24)).save(tmp_path / "test/x.png")
    source = folder_source(config_of(tmp_path, LAYOUTS[camvid]))
    assert source.splits() == ("test", "train", "val") and len(source.ids("train")) == 3
    with pytest.raises(ValueError, match=r"1 photo without a mask \(test/x.png in"):
        source.ids("test")


# ---- folders below ----


def test_folders_without_masks_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nested(tmp_path)
    for name in ("photos/thumbs/1.jpg", "photos/thumbs/2.jpg", "masks/old/9.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 24)).save(tmp_path / name)
    (tmp_path / "photos/.cache").mkdir()
    Image.new("RGB", (32, 24)).save(tmp_path / "photos/.cache/1.jpg")
    source = folder_source(config_of(tmp_path, LAYOUTS[nested]))
    assert source.ids("all") == ("bern/1", "bern/old/1", "top", "ulm/1", "ulm/2")
    assert "photos: 2 photos in folders without masks" in caplog.text
    assert "masks: 1 masks in folders without photos" in caplog.text


def test_masks_may_lie_below_the_photos_and_links_lead_to_folders(tmp_path: Path) -> None:
    write(tmp_path / "real", *(("all", f"{i}.jpg", f"masks/{i}.png") for i in range(3)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ulm").symlink_to(tmp_path / "real")
    (tmp_path / "real/loop").symlink_to(tmp_path / "real")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/ulm").symlink_to(tmp_path / "real/masks")
    source = folder_source(config_of(tmp_path / "real", {"images": ".", "masks": "masks"}))
    assert source.ids("all") == ("0", "1", "2")
    source = folder_source(config_of(tmp_path, {"images": "data", "masks": "masks"}))
    assert source.ids("all") == ("ulm/0", "ulm/1", "ulm/2")


# ---- names ----


@pytest.mark.parametrize(
    ("pattern", "file", "stem"),
    [
        ("{stem}", "a.b.png", "a.b"),
        ("{stem}_mask.png", "a_mask.png", "a"),
        ("{stem}_mask.png", "a_mask.PNG", "a"),
        ("{stem}_mask.png", "a_mask.tif", None),
        ("{stem}_mask", "a_mask.tif", "a"),
        ("{stem}_v1.5", "a_v1.5.png", "a"),
        ("{stem}.png", "a.png", "a"),
        ("gt_{stem}", "gt_a.gif", "a"),
        ("gt_{stem}", "gt_.gif", None),
        ("{stem}_mask", "a.png", None),
        ("{stem}", "a.jpg", None),
    ],
)
def test_the_stem_of_a_name(pattern: str, file: str, stem: str | None) -> None:
    assert Naming(pattern, MASKS).stem(file) == stem


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mask_name": "mask"}, r"data\.mask_name=mask is no name with \{stem\} in it"),
        ({"mask_name": "m/{stem}"}, r"data\.mask_name=m/\{stem\} is no name"),
        ({"mask_name": "{stem}{split}"}, r"data\.mask_name=.* and no other braces"),
        ({"images": "{split}/{split}"}, r"data\.images=.* may hold \{split\} once"),
        ({"images": "a/{split}"}, r"data\.images=a/\{split\} has \{split\}, so data\.masks needs"),
        ({"masks": "a/{split}"}, r"data\.masks=a/\{split\} has \{split\}, so data\.images needs"),
        (
            {"images": "{split}", "masks": "{split}m", "lists": "lists"},
            r"data\.lists and \{split\} in data\.images both name the splits",
        ),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FolderConfig(**{"images": "photos", "masks": "masks"} | options)


def test_one_folder_of_files_that_cannot_be_told_apart(tmp_path: Path) -> None:
    beside(tmp_path)
    with pytest.raises(
        ValueError, match=r"both .*; this would fit .*'data.mask_name=\{stem\}_gt.png"
    ):
        folder_source(config_of(tmp_path, {"images": "pairs", "masks": "pairs"}))


# ---- lists ----


def lists_of(root: Path, **lines: str) -> FolderSource:
    (root / "lists").mkdir(exist_ok=True)
    for split, text in lines.items():
        (root / f"lists/{split}.txt").write_bytes(text.encode("utf-8-sig"))
    return folder_source(config_of(root, {"images": "photos", "masks": "masks", "lists": "lists"}))


@pytest.mark.parametrize(
    "text",
    [
        "photos/b/1.jpg masks/x/7.png\nphotos/a.jpg masks/a-label.png\n",
        "b/1.jpg\tx/7.png\r\na.jpg\ta-label.png\r\n",
        "./photos/b/1.jpg, ./masks/x/7.png\n\na.jpg,masks/a-label.png",
        "photos\\b\\1.jpg masks\\x\\7.png\nphotos\\a.jpg masks\\a-label.png",
    ],
)
def test_lists_of_pairs(tmp_path: Path, text: str) -> None:
    write(
        tmp_path,
        ("train", "photos/b/1.jpg", "masks/x/7.png"),
        ("train", "photos/a.jpg", "masks/a-label.png"),
        ("train", "photos/unused.jpg", "masks/other.png"),
    )
    source = lists_of(tmp_path, train=text, val="a\n")
    assert source.ids("train") == ("b/1", "a") and source.ids("val") == ("a",)
    assert source.mask_path("b/1") == tmp_path / "masks/x/7.png"
    assert source.image_path("a") == tmp_path / "photos/a.jpg"
    for name in source.ids("train"):
        assert np.array_equal(source.mask(name), np.asarray(Image.open(source.mask_path(name))))


def test_folders_may_lie_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mmsegmentation(tmp_path / "data")
    (tmp_path / "here/lists").mkdir(parents=True)
    (tmp_path / "here/lists/train.txt").write_text("train/i0.jpg\ntrain/i1\n")
    data = tmp_path / "data"
    options = {"images": str(data / "img_dir"), "masks": str(data / "ann_dir")}
    source = folder_source(config_of(tmp_path / "here", options | {"lists": "lists"}))
    assert source.ids("train") == ("train/i0", "train/i1")
    source = folder_source(config_of(tmp_path / "here", options))
    assert f"data.images={data}/img_dir/{{split}}" in caplog.text
    options = {key: f"{folder}/{{split}}" for key, folder in options.items()}
    source = folder_source(config_of(tmp_path / "here", options))
    assert len(source.ids("val")) == 2 and source.mask_path("val/i3").is_file()


def test_a_photo_with_two_masks_in_lists(tmp_path: Path) -> None:
    flat(tmp_path)
    with pytest.raises(
        ValueError, match=r"val\.txt gives 1\.jpg the mask 2\.png, another .* 1\.png"
    ):
        lists_of(tmp_path, train="1.jpg 1.png\n", val="1.jpg 2.png\n")
    source = lists_of(tmp_path, train="1.jpg 1.png\n", val="2.jpg 9.png\n")
    with pytest.raises(
        ValueError, match=r"val\.txt names '2', but its mask .*masks/9\.png is missing"
    ):
        source.ids("val")


def test_lists_of_files_flags_and_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flat(tmp_path)
    nested(tmp_path)
    with caplog.at_level(logging.INFO):
        source = lists_of(
            tmp_path,
            train="1  1\r\n2 -1\r\n3  0\r\n",
            val="photos/ulm/1.jpg\nulm/2\nbern/1.jpg\n",
            test="2.jpg\n",
        )
        assert source.ids("train") == ("1", "3")
    assert "train.txt: left out 1 lines with the flag -1" in caplog.text
    assert source.ids("val") == ("ulm/1", "ulm/2", "bern/1")
    assert source.ids("test") == ("2",)
