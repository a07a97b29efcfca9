"""What is refused or told before training: colors of masks, void alone, photos of 16 bits."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toyfcn.config.data import FolderConfig
from toyfcn.data.folder import FolderSource, folder_source
from toyfcn.data.palettes import palette
from toyfcn.data.preflight import check, refuse_void_only
from toyfcn.data.tools.check import check_source
from toyfcn.data.voc import find_voc, voc_source

OWN = [0, 0, 0, 200, 30, 30, 30, 200, 30, 30, 30, 200, 200, 200, 30]  # of five classes


def by_gif(mask: Image.Image) -> Image.Image:
    """The mask as it comes back from a GIF: its colors kept, its indices numbered anew."""
    file = io.BytesIO()
    mask.save(file, "GIF", optimize=True)
    with Image.open(file) as image:
        again = image.copy()
    assert not np.array_equal(np.array(again), np.array(mask))
    return again


def by_optimizer(mask: Image.Image) -> Image.Image:
    """The mask as a palette optimizer writes it: the most frequent color first."""
    return mask.convert("RGB").quantize(8, method=Image.Quantize.FASTOCTREE)


@pytest.mark.parametrize("change", [by_gif, by_optimizer])
def test_a_voc_mask_with_other_colors_is_named(tiny_voc: Path, change) -> None:
    source = voc_source(find_voc(tiny_voc, 2007))
    check(source, source.ids("trainval"))
    path = source.mask_path("000003")
    with Image.open(path) as image:
        change(image.copy()).save(path)
    for read in (lambda: source.mask("000003"), lambda: check(source, source.ids("trainval"))):
        with pytest.raises(ValueError, match=r"palette gives.*data\.colours") as caught:
            read()
        assert str(path) in str(caught.value)
    (fault,) = check_source(source, train_split="train", scoring_splits=["val"])["faults"]
    assert fault["file"] == str(path)


def test_gray_and_unused_colors_are_no_fault_in_voc(tiny_voc: Path) -> None:
    source = voc_source(find_voc(tiny_voc, 2007))
    gray = [value for i in range(256) for value in (i, i, i)]
    unused = palette()
    unused[3 * 19 : 3 * 19 + 3] = [1, 2, 3]
    for name, colors in (("000000", gray), ("000001", unused)):
        with Image.open(source.mask_path(name)) as image:
            mask = image.copy()
        mask.putpalette(colors)
        mask.save(source.mask_path(name))
    check(source, source.ids("trainval"))
    assert check_source(source, train_split="train", scoring_splits=["val"])["faults"] == []


def folder(tmp_path: Path, count: int = 12, **options) -> FolderSource:
    """Photos and palette masks of five classes, of which each mask holds some."""
    for part in ("photos", "masks"):
        (tmp_path / part).mkdir()
    for index in range(count):
        labels = np.zeros((12, 16), np.uint8)
        labels[2:8, 3:9], labels[6:11, 8:15] = 1 + index % 4, 1 + (index + 2) % 4
        mask = Image.fromarray(labels)
        mask.putpalette(OWN)
        mask.save(tmp_path / "masks" / f"m{index:02}.png")
        Image.fromarray(np.repeat(40 * labels[..., None], 3, 2)).save(
            tmp_path / "photos" / f"m{index:02}.png"
        )
    config = {"root": str(tmp_path), "images": "photos", "masks": "masks"}
    return folder_source(FolderConfig(**config, classes=list("abcde"), **options))


def faulty(source: FolderSource) -> set[str]:
    report = check_source(source, train_split="train", scoring_splits=["val"])
    assert all("palette" in fault["reason"] for fault in report["faults"])
    return {Path(fault["file"]).stem for fault in report["faults"]}


def rewrite(source: FolderSource, names: list[str], change) -> None:
    for name in names:
        with Image.open(source.mask_path(name)) as image:
            mask = image.copy()
        change(mask).save(source.mask_path(name))


@pytest.mark.parametrize("change", [by_gif, by_optimizer])
@pytest.mark.parametrize("share", [1, 6])
def test_masks_of_a_folder_are_compared_with_each_other(tmp_path: Path, change, share: int) -> None:
    source = folder(tmp_path)
    ids = source.ids("all")
    check(source, ids)
    assert faulty(source) == set()
    rewrite(source, list(ids[1::2][:share]), change)
    assert faulty(source) == set(ids[1::2][:share])
    with pytest.raises(ValueError, match=f"{ids[1]}.png.*its palette gives.*data.colours"):
        check(source, ids)


def test_masks_that_agree_are_sound_whatever_their_palettes(tmp_path: Path) -> None:
    """Cut short, filled with zeros or shades behind the last label, gray ones among them."""
    source = folder(tmp_path)

    def other(mask: Image.Image) -> Image.Image:
        highest = np.array(mask).max()
        fill = (b"", bytes(300), bytes(i for i in range(9, 250) for _ in range(3)))[highest % 3]
        changed = Image.fromarray(np.array(mask))
        if highest != 4:
            changed.putpalette(bytes(OWN[: 3 * highest + 3]) + fill)
        return changed

    rewrite(source, list(source.ids("all")), other)
    check(source, source.ids("all"))
    assert faulty(source) == set()


def test_one_color_for_two_labels_is_sound_where_all_have_it_so(tmp_path: Path) -> None:
    source = folder(tmp_path)

    def two_alike(mask: Image.Image) -> Image.Image:
        mask.putpalette([*OWN[:9], *OWN[3:6], *OWN[12:]])
        return mask

    rewrite(source, list(source.ids("all")), two_alike)
    rewrite(source, ["m00"], lambda mask: (mask.putpalette([*mask.getpalette(), 9, 9, 9]), mask)[1])
    check(source, source.ids("all"))
    assert faulty(source) == set()


def test_a_training_split_of_void_only_is_refused(tmp_path: Path, caplog) -> None:
    source = folder(tmp_path)
    ids = source.ids("train")
    refuse_void_only(source, {"train": ids}, "train")
    for name in ids:
        Image.fromarray(np.full((12, 16), 255, np.uint8)).save(source.mask_path(name))
    with pytest.raises(
        ValueError, match=r"every pixel of the \d+ masks of the split 'train' is void"
    ):
        refuse_void_only(source, {"train": ids}, "train")
    refuse_void_only(source, {"test": ids}, "train")
    assert "'test' is void (255): its scores will be null" in caplog.text


def test_vocs_colors_in_another_order_are_warned_of(tmp_path: Path, caplog) -> None:
    source, voc = folder(tmp_path), palette()
    with caplog.at_level(logging.WARNING):
        check(source, source.ids("all"))
        for name in source.ids("all"):
            with Image.open(source.mask_path(name)) as image:
                mask = image.copy()
            mask.putpalette([*voc[:3], *voc[6:9], *voc[3:6], *voc[9:]])
            mask.save(source.mask_path(name))
        assert not caplog.records
        check(source, source.ids("all"))
        assert faulty(source) == set()
    assert len(caplog.records) == 2
    assert all("which is VOC's of label" in message for message in caplog.messages)


@pytest.mark.parametrize("white", [None, 4095])
def test_photos_of_16_bits_are_told_once(tmp_path: Path, caplog, white: int | None) -> None:
    source = folder(tmp_path, white=white)
    for index in (3, 4):
        shades = np.full((12, 16), 4095, np.uint16)
        Image.fromarray(shades).save(source.image_path(f"m{index:02}"))
    with caplog.at_level(logging.WARNING):
        check(source, source.ids("all"))
    (record,) = caplog.records
    assert "2 photos have 16 bits" in record.getMessage() and "m03.png" in record.getMessage()
    assert ("set it to the largest value" in record.getMessage()) == (white is None)
    assert int(source.image("m03").min()) == (255 if white else 16)
