"""toyfcn-compare: runs, checkpoints, sweeps and folders of scores against each other."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import toyfcn
from toyfcn.evaluation.per_image import ImageCounts, read_images, write_images
from toyfcn.report.comparison import names

SMALL = """data.train_images=4 data.val_images=5 data.test_images=2 data.size=[48,56]
    data.batch_size=2 model.width=0.25 trainer.max_steps=2 trainer.threads=1 logger.panels=0"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the runs a/0, a/1, b/0 and b/1, of two seeds each."""
    home, threads = tmp_path_factory.mktemp("home"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for stride, name in ((2, "a"), (4, "b")):
            for seed in (0, 1):
                words = [*SMALL.split(), f"seed={seed}", f"model.stride={stride}"]
                toyfcn.train(words, folder=f"{name}/{seed}")
    yield home
    torch.set_num_threads(threads)


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))


@pytest.fixture
def home(trained: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_runs_sweeps_and_checkpoints(home: Path, command: Command) -> None:
    answer = command("compare", "a/0", "b/0", "a/1", "photos=2", "hydra.run.dir=out")
    assert answer.code == 0, answer.err
    assert "b/0 against a/0: mean IU" in answer.out
    found = rows(home / "out")
    assert len(found) == 2 * 9 and {row["second"] for row in found} == {"b/0", "a/1"}
    seen = read_images(home / "b/0")[0]["val"].matrices.sum(0)
    assert float(found[1]["second_score"]) == pytest.approx(np.trace(seen) / seen.sum(), abs=1e-6)
    page = (home / "out/compare.html").read_text()
    assert "The photos that differ most" in page and "<script" not in page
    assert Image.open(home / "out/photos.png").width > 1000
    assert "| mean IU |" in (home / "out/compare.md").read_text()
    # the checkpoint that is scored again is the run itself; a folder of runs counts its seeds
    answer = command("compare", "b/0", "b/0/checkpoints/best.ckpt", "photos=0", "hydra.run.dir=own")
    assert answer.code == 0 and "[+0.0000, +0.0000]: no significant difference" in answer.out
    assert not (home / "own/photos.png").exists()
    answer = command("compare", "a", "b", "split=test", "photos=0", "hydra.run.dir=seeds")
    means = [rows(home / "seeds")[1][key] for key in ("first_score", "second_score")]
    for side, mean in zip("ab", means, strict=True):
        scored = [read_images(home / side / s)[0]["test"].matrices.sum(0) for s in "01"]
        assert float(mean) == pytest.approx(
            np.mean([np.trace(m) / m.sum() for m in scored]), abs=1e-6
        )


def test_fail_below_makes_it_a_test(tmp_path: Path, command: Command) -> None:
    labeled, label = np.full((20, 3), 100), np.arange(3)
    for name, hits in (("good", 100), ("bad", 50)):
        matrices = np.zeros((20, 3, 3), np.int64)
        matrices[:, label, label] = hits
        matrices[:, label, (label + 1) % 3] = labeled - hits
        ids = tuple(f"p{i:02}" for i in range(20))
        empty = (np.full((20, 2), 20), matrices, np.zeros((20, 3), np.int64), np.zeros(20))
        (tmp_path / name).mkdir()
        write_images(tmp_path / name, {"val": ImageCounts(("a", "b", "c"), ids, *empty)})
    assert command("compare", "good", "bad", "fail_below=0.01").code == 1
    assert command("compare", "bad", "good", "fail_below=0.01").code == 0
    assert command("compare", "good", "bad", "fail_below=0.9").code == 0
    answer = command("compare", "good", "bad")  # without checkpoints there are no pictures
    assert answer.code == 0 and "bad is worse" in answer.out
    assert "\npixel accuracy " in answer.out  # the table fits into 80 columns


def test_photos_without_labels_pass_no_test(tmp_path: Path, command: Command) -> None:
    zero = np.zeros((2, 3), np.int64)
    counted = (np.full((2, 2), 20), np.zeros((2, 3, 3), np.int64), zero, np.zeros(2))
    write_images(tmp_path, {"val": ImageCounts(("a", "b", "c"), ("p", "q"), *counted)})
    answer = command("compare", ".", ".", "fail_below=0.01")
    assert answer.code == 2 and "has a labeled pixel" in answer.err


def test_what_cannot_be_compared_is_told_in_one_line(home: Path, command: Command) -> None:
    (home / "empty").mkdir()
    for words, said in (
        ("a/0", "name two or more runs"),
        ("a/0 empty", "empty holds no images.npz"),
        ("a/0 nowhere", "there is no file or folder nowhere"),
        (". a/0", "holds runs that differ in model.stride"),
        ("a/0 b/0 split=train", "split=train: not all were scored on one list"),
        ("a/0 b/0 trainer.test_views=8", "trainer.test_views has no effect on what was scored"),
        ("a/0 b/0 data.limit=1", "data.limit has no effect on what was scored before"),
        ("a/0 b/0 resamples=3", "resamples=3 is below 100"),
    ):
        answer = command("compare", *words.split())
        assert answer.code == 2 and said in answer.err, (words, answer.err)
        assert len(answer.err.strip().splitlines()) == 1


def test_names_tell_paths_apart() -> None:
    assert names(["outputs/x/1", "outputs/y/1"]) == ["x", "y"]
    assert names(["runs/a", "runs/a"])[0] != names(["runs/a", "runs/a"])[1]
    assert names(["r/checkpoints/best.ckpt", "r/checkpoints/last.ckpt"]) == [
        "best.ckpt",
        "last.ckpt",
    ]
