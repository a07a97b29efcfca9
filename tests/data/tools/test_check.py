"""The check finds every planted fault, in file and reason, and blames no sound file."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toyfcn.data.source import FileSource
from toyfcn.data.tools.check import check_source
from toyfcn.data.tools.run_check import print_report
from toyfcn.data.voc import CLASSES, find_voc, voc_source


@pytest.fixture
def source(tiny_voc: Path) -> FileSource:
    return voc_source(find_voc(tiny_voc, 2007), name="tiny")


def checked(source: FileSource, **options):
    options = {"train_split": "train", "scoring_splits": ["val"], "workers": 2} | options
    return check_source(source, **options)


def found(report) -> set[tuple[str, str]]:
    """(name of the file, reason) of each fault."""
    return {(Path(fault["file"]).name, fault["reason"]) for fault in report["faults"]}


def test_a_sound_data_set(source):
    report = checked(source)
    assert report["faults"] == []
    assert report["splits"] == {"train": 4, "trainval": 6, "val": 2}
    assert (report["data"], report["images"], report["mask_modes"]) == ("tiny", 6, {"P": 6})
    assert report["distinct_sizes"] == 2
    assert report["width"] == {"min": 32, "median": 40, "max": 48}
    assert report["height"] == {"min": 32, "median": 36, "max": 40}


def test_shares_are_of_the_labeled_pixels(source):
    report = checked(source)
    pixels = 3 * 48 * 32 + 3 * 32 * 40
    void, of_each = 14 * 16 - 12 * 14, 12 * 14
    assert report["void_share"] == pytest.approx(6 * void / pixels)
    labeled = pixels - 6 * void
    classes = report["classes"]
    assert list(classes) == list(CLASSES)
    assert classes["aeroplane"] == {"share": pytest.approx(of_each / labeled), "images": 1}
    assert classes["tvmonitor"] == {"share": pytest.approx(6 / labeled), "images": 6}
    assert classes["sofa"] == {"share": 0, "images": 0}
    assert sum(of["share"] for of in classes.values()) == pytest.approx(1)


def test_chosen_splits_only(source):
    source.mask_path("000000").unlink()  # of train
    report = checked(source, splits=["val"])
    assert (report["splits"], report["images"], report["faults"]) == ({"val": 2}, 2, [])


# ---- one fault at a time ----


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as image:
        pixels, palette = np.array(image), image.getpalette()
    changed = Image.fromarray(change(pixels))
    if palette:
        changed.putpalette(palette)
    changed.save(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_values(pixels: np.ndarray) -> np.ndarray:
    pixels[0, :2] = 21, 77
    return pixels


def swap(path: Path) -> None:
    """Replace a file by a symlink to itself."""
    path.unlink()
    path.symlink_to(path)


FAULTS = {
    "no photo": ("jpg", Path.unlink, "is missing"),
    "no mask": ("png", Path.unlink, "is missing"),
    "loop": ("jpg", swap, "is missing"),
    "a folder": ("png", lambda path: (path.unlink(), path.mkdir()), "is not a file"),
    "a pipe": ("jpg", lambda path: (path.unlink(), os.mkfifo(path)), "is not a file"),
    "cut photo": ("jpg", cut, r"^image file is truncated"),
    "cut mask": ("png", cut, "(?i)truncated|broken"),
    "empty photo": ("jpg", lambda path: path.write_bytes(b""), "^it is not a picture$"),
    "text mask": ("png", lambda path: path.write_text("x"), "^it is not a picture$"),
    "RGB mask": ("png", lambda path: Image.new("RGB", (48, 32)).save(path), "mode is RGB"),
    "16-bit mask": ("png", lambda path: Image.new("I;16", (48, 32)).save(path), "mode is I;16"),
    "values": ("png", lambda path: edit(path, with_values), r"values \[21, 77\].*end at 20"),
    "size": ("png", lambda path: edit(path, lambda p: p[:-1]), "48 x 31.*photo 48 x 32"),
    "size of the photo": ("jpg", lambda path: edit(path, lambda p: p[:, 1:]), "photo 47 x 32"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_bad_file_is_the_only_one_blamed(source, kind):
    suffix, spoil, reason = FAULTS[kind]
    path = source.image_path("000002") if suffix == "jpg" else source.mask_path("000002")
    spoil(path)
    (fault,) = checked(source)["faults"]
    blamed = source.mask_path("000002") if "size" in kind else path  # a mask is to fit its photo
    assert fault["file"] == str(blamed)
    assert str(blamed) not in fault["reason"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(fault["reason"])


LISTS = {
    "twice": ("000004\n000005\n000004\n", "names '000004' twice"),
    "climbs": ("000004\n../../x\n000005\n", "holds '../../x', which is not an image id"),
    "trained on": (
        "000004\n000001\n",
        "names '000001', but the training split train has that photo too",
    ),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_bad_list(source, kind):
    content, reason = LISTS[kind]
    (source.lists / "val.txt").write_text(content)
    assert found(checked(source)) == {("val.txt", reason)}


def test_an_overlap_that_is_meant_is_none(source):
    (source.lists / "val.txt").write_text("000001\n")
    assert checked(source, allow_overlap=True)["faults"] == []
    assert len(checked(source, scoring_splits=["train"])["faults"]) == 4


def test_an_overlap_across_the_years(source):
    for path in (source.image_path("000000"), source.mask_path("000000")):
        shutil.copy(path, path.with_name(f"2007_000000{path.suffix}"))
    (source.lists / "val.txt").write_text("2007_000000\n")
    (reason,) = [reason for _, reason in found(checked(source))]
    assert "'2007_000000'" in reason


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe"])
def test_a_list_that_gives_nothing(source, content):
    path = source.lists / "val.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    report = checked(source)
    ((name, reason),) = found(report)
    assert name == "val.txt"
    assert any(words in reason for words in ("does not exist", "no image", "cannot read"))
    assert report["images"] == 6  # the other lists are read all the same


def test_a_name_too_long_for_a_file(source):
    (source.lists / "val.txt").write_text("a" * 300 + "\n000004\n")
    assert {reason for _, reason in found(checked(source))} == {"File name too long"}


def test_a_missing_id_is_blamed_once_though_two_lists_name_it(source):
    source.image_path("000001").unlink()  # in train and trainval
    assert len(checked(source)["faults"]) == 1


def test_a_wrong_size_and_wrong_values_are_two_faults(source):
    edit(source.mask_path("000003"), lambda pixels: with_values(pixels)[:-1])
    assert len(found(checked(source))) == 2


def test_nothing_there_at_all(source):
    shutil.rmtree(source.lists)
    report = checked(source)
    assert {name for name, _ in found(report)} == {"train.txt", "val.txt"}
    print_report(report)


# ---- all at once ----


def test_all_faults_at_once_and_none_besides(source, capsys):
    source.image_path("000000").unlink()
    cut(source.image_path("000001"))
    Image.new("RGBA", (48, 32)).save(source.mask_path("000002"))
    edit(source.mask_path("000003"), with_values)
    (source.lists / "val.txt").write_text("000004\n000004\n000000\nb/c\n000005\n")
    report = checked(source, scoring_splits=["val", "test"])
    files = [Path(fault["file"]).name for fault in report["faults"]]
    lists = ["test.txt", "val.txt", "val.txt", "val.txt"]
    assert sorted(files) == ["000000.jpg", "000001.jpg", "000002.png", "000003.png", *lists]
    assert report["mask_modes"] == {"P": 5, "RGBA": 1}
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    for fault in report["faults"]:
        assert lines.count(f"{fault['file']}: {fault['reason']}") == 1
    assert lines[-1] == "8 faults"


@pytest.mark.parametrize("workers", [1, 4])
def test_the_report_does_not_depend_on_the_workers(source, workers):
    cut(source.mask_path("000001"))
    reports = [checked(source, workers=n) | {"seconds": 0} for n in (2, workers)]
    assert reports[0] == reports[1]


def test_names_that_are_not_text_print(source, capsys):
    train = source.lists / "train.txt"
    Path(os.fsdecode(os.fsencode(source.lists) + b"/\xff.txt")).write_bytes(train.read_bytes())
    report = checked(source)
    assert report["splits"] == {"train": 4, "trainval": 6, "val": 2, "\\udcff": 4}
    print_report(report)
    assert "every file is sound" in capsys.readouterr().out


def test_void_may_lie_among_the_classes(source):
    report = checked(dataclasses.replace(source, void=20, classes=(*CLASSES, *"x" * 235)))
    assert report["faults"] == []
    assert report["void_share"] == pytest.approx(6 / (3 * 48 * 32 + 3 * 32 * 40))
    assert report["classes"]["tvmonitor"] == {"share": 0, "images": 0}


def test_a_bar_where_there_is_a_terminal(source, capsys, monkeypatch):
    checked(source)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes anything for a terminal
    checked(source)
    assert "checking" in capsys.readouterr().err


def test_the_real_photos_are_sound(voc_root):
    report = checked(voc_source(find_voc(voc_root, 2007)), scoring_splits=["val", "test"])
    assert report["faults"] == []
    assert report["images"] == 632
