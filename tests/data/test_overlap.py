"""Photos that are trained on and scored: refused in training, told in scoring, across years."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from toyfcn.config.data import VOCConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.data.overlap import identities, shared
from toyfcn.data.source import FileSource
from toyfcn.data.splits import read_list
from toyfcn.data.voc import CLASSES, LISTS, canonical, voc_source

LIST = "ImageSets/Segmentation"


def data_of(root: Path, **options: Any) -> SegmentationData:
    options = {"test_split": None} | options
    config = VOCConfig(root=str(root), **options)
    return SegmentationData.open(config)


def pascal(folder: Path) -> FileSource:
    return voc_source(folder, CLASSES)


def test_canonical_names() -> None:
    assert canonical("2007_000032") == canonical("000032") == "000032"
    for other in ("2008_000032", "2007_00032", "x2007_000032", "2007_000032x"):
        assert canonical(other) == other


def test_the_lists_that_come_along() -> None:
    augmented, valid = (read_list(LISTS / f"{name}.txt") for name in ("trainaug", "seg11valid"))
    assert (len(augmented), len(valid)) == (10_582, 736)
    source = pascal(Path("nowhere"))
    assert not shared(source, valid, identities(source, augmented))
    assert len(set(identities(source, augmented))) == 10_582


def test_half_of_voc2007_is_in_seg11valid(voc_root: Path) -> None:
    source = pascal(voc_root / "VOCdevkit" / "VOC2007")
    valid = identities(source, read_list(LISTS / "seg11valid.txt"))
    assert len(shared(source, source.ids("trainval"), valid)) == 217


def test_training_refuses_what_it_scores(tiny_voc: Path) -> None:
    words = (
        r"2 of the 2 photos of val_split=val are trained on by train_split=trainval \(6 photos\): "
        r"000004, 000005; .*data\.allow_overlap=true"
    )
    with pytest.raises(ValueError, match=words):
        data_of(tiny_voc, train_split="trainval").setup()
    with pytest.raises(ValueError, match="of test_split=train are trained on by train_split=train"):
        data_of(tiny_voc, test_split="train").setup()
    data_of(tiny_voc, train_split="trainval", allow_overlap=True).setup()
    data_of(tiny_voc).setup()


def test_two_names_of_one_photo_are_one_photo(tiny_voc: Path) -> None:
    """A tree where the same photo lies under VOC2007's and a later year's name."""
    folder = tiny_voc / "VOCdevkit" / "VOC2007"
    for part, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        shutil.copy(folder / part / f"000001{suffix}", folder / part / f"2007_000001{suffix}")
    (folder / LIST / "val.txt").write_text("2007_000001\n000005\n")
    with pytest.raises(ValueError, match=r"1 of the 2 photos of val_split=val .*: 2007_000001;"):
        data_of(tiny_voc).setup()


def test_elsewhere_a_name_alone_says_little(tmp_path: Path) -> None:
    """Two folders whose photos are called alike hold other photos; a copy is the same photo."""
    sources = []
    for index, content in enumerate(("one", "another", "one")):
        images = tmp_path / str(index)
        images.mkdir()
        (images / "0001.jpg").write_text(content)
        sources.append(
            FileSource(name="own", images=images, masks=images, lists=images, classes=("a", "b"))
        )
    first, other, copy = (identities(source, ["0001"]) for source in sources)
    assert first == copy != other


@pytest.fixture
def run(command: Command) -> Callable[[str, str], str]:
    """Runs a command that goes well; returns what it prints."""

    def run(name: str, words: str) -> str:
        answer = command(name, *words.split())
        assert answer.code == 0, answer.err
        return answer.out + answer.err

    return run


def later_year(tiny_voc: Path) -> None:
    """Draw VOC2012 beside VOC2007: its photos by their later names, and a new one."""
    old, new = (tiny_voc / "VOCdevkit" / f"VOC{year}" for year in (2007, 2012))
    (new / LIST).mkdir(parents=True)
    names = {f"00000{i}": f"2007_00000{i}" for i in range(6)} | {"000001": "2008_000001"}
    for part, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        (new / part).mkdir()
        for before, after in names.items():
            shutil.copy(old / part / f"{before}{suffix}", new / part / f"{after}{suffix}")
    (new / LIST / "val.txt").write_text("".join(f"{name}\n" for name in names.values()))


def test_scoring_tells_what_was_trained_on(tiny_voc: Path, run: Callable[[str, str], str]) -> None:
    later_year(tiny_voc)
    small = "model.width=0.2 data.batch_size=2 data.crop=[24,24] trainer.max_steps=1"
    words = f"data.root={tiny_voc} data.test_split=null {small} logger.panels=0"
    run("train", f"data=voc2007 {words} hydra.run.dir=run")
    best = "ckpt=run/checkpoints/best.ckpt"
    assert "trained on" not in run("eval", best)
    out = run("eval", f"{best} data=voc2012 data.root={tiny_voc}")
    assert "scored on 3 photos of 6 that the checkpoint was trained on (2007_000000, 2007_" in out

    # a run that starts from this one has seen its photos too
    lists = tiny_voc / "VOCdevkit" / "VOC2007" / LIST
    (lists / "a.txt").write_text("000004\n")
    (lists / "b.txt").write_text("000005\n000000\n")
    splits = "data.train_split=a data.val_split=b data.batch_size=1"
    out = run("train", f"data=voc2007 {words} {best} {splits} hydra.run.dir=next")
    assert "split=b: scored on 1 photos of 2" in out
    out = run("eval", "ckpt=next/checkpoints/best.ckpt split=trainval")
    assert "scored on 5 photos of 6" in out


# ---- VOC as it is in the world ----


def test_augmented_masks(tiny_voc: Path) -> None:
    folder = tiny_voc / "VOCdevkit" / "VOC2007"
    added = folder / "SegmentationClassAug"
    with pytest.raises(ValueError, match=r"data\.masks=SegmentationClassAug: .* is not a folder"):
        data_of(tiny_voc, masks="SegmentationClassAug")
    added.mkdir()
    (folder / "SegmentationClass" / "000001.png").rename(added / "000001.png")
    with pytest.raises(ValueError, match=r"000001\.png is missing, though there is one in .*Aug: "):
        data_of(tiny_voc).setup()
    data = data_of(tiny_voc, masks="SegmentationClassAug")
    data.setup()
    paths = [data.source.mask_path(name).parent.name for name in ("000000", "000001")]
    assert paths == ["SegmentationClass", "SegmentationClassAug"]
    for name in data.source.ids("trainval"):
        data.source.pair(name)


def test_lists_from_the_package_fit_any_tree(tiny_voc: Path) -> None:
    """A VOC2012 tree with all of seg11valid, and of trainaug what VOC itself has masks for."""
    old, new = (tiny_voc / "VOCdevkit" / f"VOC{year}" for year in (2007, 2012))
    for part in ("JPEGImages", "SegmentationClass", LIST):
        (new / part).mkdir(parents=True)
    valid = read_list(LISTS / "seg11valid.txt")
    augmented = read_list(LISTS / "trainaug.txt")
    for name in (*valid, *augmented[:9]):
        (new / "JPEGImages" / f"{name}.jpg").hardlink_to(old / "JPEGImages/000000.jpg")
        (new / "SegmentationClass" / f"{name}.png").hardlink_to(
            old / "SegmentationClass/000000.png"
        )
    source = open_source(VOCConfig(root=str(tiny_voc), year=2012, name="voc2012"))
    assert source.ids("seg11valid") == valid
    (new / "JPEGImages" / f"{augmented[9]}.jpg").hardlink_to(old / "JPEGImages/000000.jpg")
    with pytest.raises(
        ValueError, match=r"has masks only in SegmentationClassAug .SBD's.*data.masks="
    ):
        source.ids("trainaug")
    (new / LIST / "seg11valid.txt").write_text(valid[0])  # the tree's own list comes first
    assert source.ids("seg11valid") == valid[:1]


def test_the_diarys_experiment(tiny_voc: Path, run: Callable[[str, str], str]) -> None:
    """In the layout of VOC2011's tar."""
    (tiny_voc / "TrainVal").mkdir()
    (tiny_voc / "VOCdevkit").rename(tiny_voc / "TrainVal" / "VOCdevkit")
    folder = tiny_voc / "TrainVal" / "VOCdevkit"
    (folder / "VOC2007").rename(folder / "VOC2011")
    words = f"data.root={tiny_voc} data.batch_size=2 trainer.max_steps=2 trainer.reuse_memory=false"
    out = run("train", f"experiment=voc2011_lenet {words} hydra.run.dir=run")
    assert "voc2011: 4 images" in out and "val (2 images)" in out
    assert Path("run/checkpoints/best.ckpt").is_file()
