"""Your own data: every form of mask, splits that stay, and one line for whatever is wrong."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

from toyfcn.config.data import FolderConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.cache import fingerprint
from toyfcn.data.color_masks import read_colors
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.folder import FolderSource, folder_source
from toyfcn.data.palettes import palette
from toyfcn.data.splits import draw_splits
from toyfcn.data.tools import run_check

COLOURS: dict[str, Any] = {"colours": [[0, 0, 0], [255, 0, 0]], "void_colour": [255, 255, 255]}


def source_of(root: Path, **options: Any) -> FolderSource:
    given: dict[str, Any] = {
        "images": "photos",
        "masks": "masks",
        "classes": ["background", "cat"],
    } | COLOURS
    return folder_source(FolderConfig(root=str(root), **given | options))


def recode(folder: Path, change: Callable[[np.ndarray], Image.Image], suffix: str = ".png") -> None:
    """Save every mask of a folder anew, from its labels (0, 1 and 255)."""
    for path in list((folder / "masks").iterdir()):
        colors = np.asarray(Image.open(path))
        labels = np.where(colors[..., 1] == 255, 255, colors[..., 0] == 255).astype(np.uint8)
        path.unlink()
        change(labels).save(path.with_suffix(suffix))


def target(height: int, width: int) -> torch.Tensor:
    labels = torch.zeros(height, width, dtype=torch.uint8)
    labels[7:21, 9:25] = 255
    labels[8:20, 10:24] = 1
    return labels


def colored(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(palette())
    return image


# ---- photos and masks ----


def test_photos_and_masks_of_any_suffix_belong_together(own_folder: Path) -> None:
    source = source_of(own_folder)
    assert len(source.ids("all")) == 12
    assert source.image_path("a1").name == "a1.PNG" and source.mask_path("a1").name == "a1.png"
    for name in source.ids("all"):
        image, mask = source.pair(name)
        assert torch.equal(mask, target(*image.shape[1:]))
    assert (source.classes, source.void) == (("background", "cat"), 255)
    assert source.palette[:6] == (0, 0, 0, 255, 0, 0) and source.palette[-3:] == (255, 255, 255)


@pytest.mark.parametrize(
    ("change", "suffix"),
    [
        (Image.fromarray, ".png"),
        (Image.fromarray, ".bmp"),
        (Image.fromarray, ".tif"),
        (colored, ".png"),
    ],
)
def test_palette_and_gray_masks_hold_labels(
    own_folder: Path, change: Callable[[np.ndarray], Image.Image], suffix: str
) -> None:
    recode(own_folder, change, suffix)
    source = source_of(own_folder, colours=None, void_colour=None)
    for name in source.ids("all"):
        image, mask = source.pair(name)
        assert torch.equal(mask, target(*image.shape[1:]))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA"])
def test_black_and_white_masks_go_by_color(own_folder: Path, mode: str) -> None:
    def change(labels: np.ndarray) -> Image.Image:
        return Image.fromarray((labels == 1) * np.uint8(255)).convert(mode)

    recode(own_folder, change, ".gif" if mode == "P" else ".png")
    source = source_of(own_folder, colours=[[0, 0, 0], [255] * 3], void_colour=None)
    assert source.mask("a0").sum() == 12 * 14 and source.mask("a0").max() == 1


def test_gray_masks_may_have_colors_in_pictures(own_folder: Path) -> None:
    recode(own_folder, Image.fromarray)
    by_value = {"colours": None, "void_colour": None}
    source = source_of(own_folder, **by_value, palette=[[9, 8, 7], [1, 2, 3]])
    assert source.palette[:9] == (9, 8, 7, 1, 2, 3, *palette()[6:9])
    assert source.mask("a0").equal(source_of(own_folder, **by_value).mask("a0"))
    with pytest.raises(ValueError, match=r"data\.palette has 1 colors, but there are 2 classes"):
        source_of(own_folder, **by_value, palette=[[9, 8, 7]])
    with pytest.raises(ValueError, match=r"data\.palette is for masks without colors"):
        source_of(own_folder, palette=[[9, 8, 7], [1, 2, 3]])
    with pytest.raises(ValueError, match=r"data\.palette: \[9, 8, 700\] is not"):
        source_of(own_folder, **by_value, palette=[[9, 8, 700], [1, 2, 3]])


def test_white_that_would_be_void_is_pointed_out(
    own_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    by_value = {"colours": None, "void_colour": None}
    recode(own_folder, Image.fromarray)
    source_of(own_folder, **by_value)
    assert "if it stands for" not in caplog.text
    for path in (own_folder / "masks").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) == 1) * np.uint8(255)).save(path)
    source_of(own_folder, **by_value)
    assert "if it stands for cat, set data.values=[0,255]" in caplog.text


def test_colors_against_a_comparison_of_every_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colors = np.unique(rng.integers(0, 256, (300, 3)), axis=0)[rng.permutation(255)]
    labels = rng.integers(0, 255, (61, 47))
    Image.fromarray(colors[labels].astype(np.uint8)).save(tmp_path / "m.png")
    table = tuple((int(r), int(g), int(b)) for r, g, b in colors)
    found = read_colors(tmp_path / "m.png", table, None, 255)
    assert (found.numpy() == labels).all()
    with pytest.raises(ValueError, match="m.png holds 1 color .*" + re.escape(str(table[254]))[2]):
        read_colors(tmp_path / "m.png", table[:254], None, 255)


def test_void_may_be_any_value_or_none(own_folder: Path) -> None:
    recode(own_folder, lambda labels: Image.fromarray(np.where(labels == 255, 9, labels)))
    by_value = {"colours": None, "void_colour": None}
    mask = source_of(own_folder, **by_value, void=9).mask("a0")
    assert set(mask.unique().tolist()) == {0, 1, 9}
    for void in (255, None):
        with pytest.raises(ValueError, match=r"a0.png holds the values \[9\]"):
            source_of(own_folder, **by_value, void=void).mask("a0")
    Image.new("L", (40, 32), 255).save(own_folder / "masks/a0.png")
    assert source_of(own_folder, **by_value, void=255).mask("a0").unique().tolist() == [255]
    with pytest.raises(ValueError, match=r"a0.png holds the value 255, but data.void=null"):
        source_of(own_folder, **by_value, void=None).mask("a0")


def test_a_source_is_small_frozen_and_travels(own_folder: Path) -> None:
    source = source_of(own_folder)
    packed = pickle.dumps(source)
    assert len(packed) < 6000
    again = pickle.loads(packed)
    assert again == source and again.ids("all") == source.ids("all")
    with pytest.raises(AttributeError):
        source.void = 3  # type: ignore[misc]  # it is frozen


def test_the_cache_tells_color_lists_apart(own_folder: Path) -> None:
    sources = [source_of(own_folder), source_of(own_folder, colours=[[255, 0, 0], [0, 0, 0]])]
    assert len({fingerprint(source, source.ids("all")) for source in sources}) == 2


# ---- splits ----


def test_new_photos_never_move_old_ones() -> None:
    names = [f"img{i}" for i in range(2000)]
    before = draw_splits(iter(names[:1000]), (0.2, 0.1), 5)
    after = draw_splits(iter(reversed(names)), (0.2, 0.1), 5)
    for split in ("train", "val", "test"):
        assert set(before[split]) == set(after[split]) & set(names[:1000])
    assert after["all"] == tuple(sorted(names))
    assert abs(len(after["val"]) - 400) < 60 and abs(len(after["test"]) - 200) < 50
    assert before["val"] != draw_splits(iter(names[:1000]), (0.2, 0.1), 6)["val"]


@pytest.mark.parametrize("count", range(2, 9))
def test_no_wanted_split_is_empty(count: int) -> None:
    for seed in range(40):
        names = [str(i) for i in range(count)]
        for fractions in ((0.001, 0.0), (0.9, 0.0), (0.001, 0.001), (0.5, 0.4)):
            parts = draw_splits(iter(names), fractions, seed)
            assert parts["val"] and parts["train"]
            assert bool(parts["test"]) == (fractions[1] > 0 and count > 2)
            assert sorted(parts["train"] + parts["val"] + parts["test"]) == names


def test_lists_name_ids_or_files(own_folder: Path) -> None:
    lists = own_folder / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("a3\na1.PNG\r\n\na2\n")
    (lists / "val.txt").write_text("a0.jpg\n")
    shutil.copy(own_folder / "photos/a0.jpg", own_folder / "photos/no mask.jpg")  # unlisted
    source = source_of(own_folder, lists="lists")
    assert source.ids("train") == ("a3", "a1", "a2")
    assert source.ids("val") == ("a0",)
    assert source.splits() == ("train", "val")
    shutil.copy(own_folder / "masks/a0.png", own_folder / "masks/no mask.png")
    (lists / "val.txt").write_text("no mask.jpg\n")
    assert source_of(own_folder, lists="lists").ids("val") == ("no mask",)


# ---- mistakes ----


def spoil(folder: Path, what: str) -> None:
    photos, masks = folder / "photos", folder / "masks"
    if what == "no mask":
        (masks / "a3.png").unlink()
        (masks / "a4.png").unlink()
    elif what == "no photo":
        (photos / "a3.jpg").unlink()
    elif what == "two photos":
        shutil.copy(photos / "a0.jpg", photos / "a0.jpeg")
    elif what == "jpeg masks":
        for path in masks.iterdir():
            path.rename(path.with_suffix(".jpg"))
    elif what == "broken link":
        (photos / "a0.jpg").unlink()
        (photos / "a0.jpg").symlink_to(folder / "nowhere.jpg")
    elif what == "bad list":
        (folder / "lists").mkdir()
        (folder / "lists" / "train.txt").write_text("a0\nzebra\n")
    elif what == "path in list":
        (folder / "lists").mkdir()
        (folder / "lists" / "train.txt").write_text("../photos/a0.jpg\n")
    elif what == "twice in list":
        (folder / "lists").mkdir()
        (folder / "lists" / "train.txt").write_text("a0\na0.jpg\n")
    elif what == "16 bit":
        Image.fromarray(np.zeros((32, 40), np.uint16)).save(masks / "a0.png")
    elif what == "truncated":
        (masks / "a0.png").write_bytes((masks / "a0.png").read_bytes()[:60])
    elif what == "other color":
        Image.new("RGB", (40, 32), (1, 2, 3)).save(masks / "a0.png")
    elif what == "other size":
        Image.new("RGB", (41, 32)).save(masks / "a0.png")


def read_all(root: Path, split: str, **options: object) -> None:
    source = source_of(root, **options)
    for name in source.ids(split):
        source.pair(name)


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("no mask", {}, r"2 photos without a mask \(a3\.jpg, a4\.PNG in .*photos\)"),
        ("no photo", {}, r"1 mask without a photo \(a3\.png in .*masks\)"),
        ("two photos", {}, r"two photos of one name: a0\.jpeg and a0\.jpg"),
        ("jpeg masks", {}, r"data\.masks: .*holds no mask \(looked for \.png"),
        ("broken link", {}, r"photo .*a0\.jpg is missing"),
        ("bad list", {"lists": "lists"}, r"train\.txt names 'zebra', but its photo .* is missing"),
        ("path in list", {"lists": "lists"}, r"'\.\./photos/a0\.jpg', which is not an image id"),
        ("twice in list", {"lists": "lists"}, r"names 'a0' twice"),
        ("16 bit", {}, r"a0\.png: its mode is I;16"),
        ("truncated", {}, r"cannot read the mask .*a0\.png"),
        ("other color", {}, r"a0\.png holds 1 color .*\[1,2,3\]"),
        ("other size", {}, r"a0\.jpg is 40 x 32 pixels, but .*a0\.png is 41 x 32"),
        ("", {"images": None}, r"data\.images is missing"),
        ("", {"images": "fotos"}, r"data\.images=fotos: .*fotos is not a folder"),
        ("", {"lists": "lists"}, r"data\.lists=lists: .* is not a folder"),
        ("", {"classes": []}, r"data\.classes names 0 classes"),
        ("", {"classes": ["a", " "]}, r"data\.classes names ' ', which cannot be printed"),
        ("", {"classes": ["a", "a"]}, r"data\.classes names 'a' twice"),
        ("", {"classes": ["a", "b", "c"]}, r"2 colors, but there are 3 classes"),
        ("", {"classes_file": "names.txt"}, r"both given"),
        (
            "",
            {"classes": [], "classes_file": "names.txt"},
            r"cannot read data\.classes_file=.*names",
        ),
        ("", {"colours": [[0, 0], [1, 1, 1]]}, r"\[0, 0\] is not \[r,g,b\]"),
        ("", {"colours": [[0, 0, 0], [0, 0, 0]]}, r"\[0, 0, 0\] is given twice"),
        ("", {"colours": None}, r"data\.void_colour needs data\.colours"),
        ("", {"val_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
        ("", {"train_split": "trian"}, r"no split is called 'trian': .*train, val, test, all"),
    ],
)
def test_mistakes_are_told_in_one_line(
    own_folder: Path, what: str, options: dict[str, object], words: str
) -> None:
    spoil(own_folder, what)
    split = "train" if "list" in what else str(options.get("train_split", "all"))
    with pytest.raises(ValueError, match=words) as caught:
        read_all(own_folder, split, **options)
    assert "\n" not in str(caught.value)


# ---- from the command line ----


def test_train_eval_predict_and_check(own_folder: Path, command: Command) -> None:
    def run(name: str, *words: str) -> str:
        answer = command(name, *words)
        assert answer.code == 0, answer.err
        return answer.out

    (own_folder / "names.txt").write_text("background\ncat\n")
    data = [
        *("data=folder", "data.images=photos", "data.masks=masks", "data.classes_file=names.txt"),
        *("data.colours=[[0,0,0],[255,0,0]]", "data.void_colour=[255,255,255]"),
        "data.test_fraction=0.2",
    ]
    small = ["data.batch_size=3", "data.buckets=2", "model.width=0.2", "trainer.max_steps=4"]
    out = run("train", *data, *small, "trainer.val_every=2", "hydra.run.dir=run")
    assert "cat" in out
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["val"]["images"] + metrics["test"]["images"] < 12
    assert list(metrics["val"]["iou"]) == ["background", "cat"]

    run("eval", "ckpt=run/checkpoints/best.ckpt", "split=test", "hydra.run.dir=scored")
    assert json.loads(Path("scored/metrics.json").read_text()) == {"test": metrics["test"]}
    shutil.rmtree("masks")
    run("predict", "ckpt=run/checkpoints/best.ckpt", "source=photos", "out=out")
    mask = Image.open("out/a0.png")
    assert mask.size == (40, 32) and mask.getpalette()[3:6] == [255, 0, 0]
    assert len(list(Path("out").glob("*_overlay.png"))) == 12


def test_check_finds_every_file_without_its_partner(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "photos/a3.jpg").unlink()
    (own_folder / "masks/a7.png").unlink()
    config = FolderConfig(
        root=str(own_folder),
        images="photos",
        masks="masks",
        classes=["background", "cat"],
        **COLOURS,
    )
    assert run_check.run(DataCommandConfig(data=config, report=None)) == 1
    printed = capsys.readouterr().out
    for words in ("photos/a3.jpg: is missing", "masks/a7.png: is missing", "2 faults"):
        assert words in printed


def test_masks_with_an_ending_of_their_own_are_told_of_once(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mask in list((own_folder / "masks").iterdir()):
        mask.rename(mask.with_stem(f"{mask.stem}_mask"))
    told = "data.images=photos data.masks=masks 'data.mask_name={stem}_mask.png'"
    with pytest.raises(ValueError, match=re.escape(told)):
        source_of(own_folder, **COLOURS).ids("train")
    config = FolderConfig(
        root=str(own_folder), images="photos", masks="masks", classes=["a", "cat"], **COLOURS
    )
    assert run_check.run(DataCommandConfig(data=config, report=None)) == 1
    printed = capsys.readouterr().out
    assert told in printed and "24 faults" in printed
    assert printed.count("is missing") == 10 and printed.count("7 more files are missing") == 2


def test_check_tells_of_void_alone_and_of_16_bits(
    own_folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for mask in (own_folder / "masks").iterdir():
        Image.new("L", Image.open(mask).size, 255).save(mask)
    photo = next((own_folder / "photos").glob("*.jpg"))
    deep = Image.fromarray(np.full((32, 40), 4095, np.uint16))
    deep.save(photo.with_suffix(".tif"))
    photo.unlink()
    (own_folder / "photos/x.raw").write_bytes(b"")
    config = FolderConfig(
        root=str(own_folder), images="photos", masks="masks", classes=["a", "cat"]
    )
    assert run_check.run(DataCommandConfig(data=config, report=None)) == 1
    assert "the training split train has no labeled pixel" in capsys.readouterr().out
    assert "1 photos have 16 bits" in caplog.text
    assert f"left out of {own_folder / 'photos'}: 1 .raw" in caplog.text


def test_more_classes_than_voc_has(own_folder: Path) -> None:
    """255 of them, the most that fit beside void."""
    recode(own_folder, lambda labels: Image.fromarray(np.where(labels == 1, 254, labels)))
    config = FolderConfig(
        root=str(own_folder),
        images="photos",
        masks="masks",
        classes=[f"class {i}" for i in range(255)],
        batch_size=4,
    )
    data = SegmentationData.open(config)
    data.setup()
    assert data.config.test_split is None
    labels = torch.cat([batch["mask"].unique() for batch in data.train_dataloader()]).unique()
    assert labels.tolist() == [0, 254, 255]
