"""Loaders: the same batches for any number of workers, lazy, restartable, flat in memory."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from toyfcn.config.data import VOCConfig
from toyfcn.data import datamodule, source
from toyfcn.data.collate import Batch
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.loader import ResumableLoader
from toyfcn.data.splits import share_of
from toyfcn.evaluation.metrics import confusion
from toyfcn.models.losses import cross_entropy_sums


def data_of(root: Path, **options: Any) -> SegmentationData:
    config = VOCConfig(root=str(root), batch_size=2, crop=[24, 24], colour=0.2, **options)
    return SegmentationData.open(config, seed=7)


def same(left: Batch, right: Batch) -> bool:
    tensors = torch.equal(left["image"], right["image"]) and torch.equal(
        left["mask"], right["mask"]
    )
    return tensors and left["id"] == right["id"]


def test_a_loader_starts_where_its_state_says(
    tiny_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    read = source.read_image

    def noted(path: Path, *given: Any) -> torch.Tensor:
        opened.append(path)
        return read(path, *given)

    loader = data_of(tiny_voc).train_dataloader()
    whole = [batch for _ in range(3) for batch in loader]
    for step in range(7):
        first = data_of(tiny_voc).train_dataloader()
        taken = 0
        while taken < step:
            for _ in first:
                taken += 1
                if taken == step:
                    break
        second = data_of(tiny_voc).train_dataloader()
        second.load_state_dict(first.state_dict())
        opened.clear()
        monkeypatch.setattr(source, "read_image", noted)
        rest = [batch for _ in range(3) for batch in second][: 6 - step]
        monkeypatch.undo()
        assert all(same(a, b) for a, b in zip(whole[step:], rest, strict=True))
        if rest:
            assert opened[0].stem == rest[0]["id"][0]  # nothing before it was read


def test_scoring_groups_like_sizes_and_pads_nothing(tiny_voc: Path) -> None:
    data = data_of(tiny_voc)
    data.config.batch_size = 6
    (batches,) = list(data.scoring_loader("trainval"))
    assert [len(batch["id"]) for batch in batches] == [3, 3]
    assert [tuple(batch["mask"].shape[1:]) for batch in batches] == [(32, 48), (40, 32)]
    source = data.source
    for batch in batches:
        for image, mask, name in zip(batch["image"], batch["mask"], batch["id"], strict=True):
            photo, labels = source.pair(name)
            assert torch.equal(image, photo) and torch.equal(mask, labels)


def test_scoring_again_begins_at_the_beginning(tiny_voc: Path) -> None:
    loader: ResumableLoader = data_of(tiny_voc).val_dataloader()
    for _ in range(3):
        for batches in loader:  # the last batch is left without asking for more, as Lightning does
            assert batches[0]["id"]
            break
    assert len(list(loader)) == len(loader)


def whole(root: Path, **options: Any) -> SegmentationData:
    """Whole photos, 48x32 and 32x40 pixels, four of them for training."""
    options = {"batch_size": 4, "flip": 0.0} | options
    config = VOCConfig(root=str(root), **options)
    return SegmentationData.open(config, seed=7)


def test_whole_photos_are_padded_to_the_largest_sides(tiny_voc: Path) -> None:
    data = whole(tiny_voc)
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == (4, 3, 40, 48) and batch["mask"].shape == (4, 40, 48)
    for image, mask, name in zip(batch["image"], batch["mask"], batch["id"], strict=True):
        photo, labels = data.source.pair(name)
        height, width = labels.shape
        assert torch.equal(image[:, :height, :width], photo)
        assert torch.equal(mask[:height, :width], labels)
        outside = torch.ones(40, 48, dtype=torch.bool)
        outside[:height, :width] = False
        assert (mask[outside] == 255).all()
        assert (image[:, outside] == torch.tensor([124, 116, 104])[:, None]).all()


def test_padding_enters_neither_loss_nor_metrics(tiny_voc: Path) -> None:
    (batch,) = whole(tiny_voc).train_dataloader()
    scores = torch.randn(4, 21, 40, 48, generator=torch.Generator().manual_seed(0))
    parts = [
        (scores[i : i + 1, :, : mask.shape[0], : mask.shape[1]], mask[None])
        for i, mask in enumerate(whole(tiny_voc).source.mask(name) for name in batch["id"])
    ]
    weight = torch.ones(21)
    alone = [cross_entropy_sums(s, m, weight, 255) for s, m in parts]
    padded = cross_entropy_sums(scores, batch["mask"], weight, 255)
    for sums, total in zip(zip(*alone, strict=True), padded, strict=True):
        assert sum(s.item() for s in sums) == pytest.approx(total.item(), rel=1e-5)
    counts = sum(confusion(m, s.max(1).indices, 21) for s, m in parts)
    assert torch.equal(confusion(batch["mask"], scores.max(1).indices, 21), counts)


@pytest.mark.parametrize("sampling", ["epoch", "uniform"])
def test_buckets_read_headers_once_and_leave_nothing_to_pad(
    tiny_voc: Path, sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    size = source.image_size
    monkeypatch.setattr(
        source, "image_size", lambda path, count: looked.append(path.stem) or size(path, count)
    )
    list(whole(tiny_voc, batch_size=2).train_dataloader())
    assert not looked
    options = {"batch_size": 2, "buckets": 2, "sampling": sampling}
    loader = whole(tiny_voc, **options).train_dataloader()
    batches = [batch for _ in range(3) for batch in loader]
    assert looked == [f"00000{i}" for i in range(4)]
    assert len(batches) == 6 and not any(len(set(b["id"])) < 2 for b in batches)
    assert {tuple(b["mask"].shape[1:]) for b in batches} == {(32, 48), (40, 32)}
    workers = whole(tiny_voc, **options, workers=2).train_dataloader()
    again = [batch for _ in range(3) for batch in workers]
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))
    with pytest.raises(ValueError, match=r"data\.buckets sorts whole photos"):
        VOCConfig(crop=[24, 24], buckets=2)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
def test_workers_outlive_a_signal_that_comes_as_they_start(
    tiny_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = datamodule.prepare_worker

    def struck(worker: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        ready(worker)

    monkeypatch.setattr(datamodule, "prepare_worker", struck)
    loader = data_of(tiny_voc, workers=2).train_dataloader()
    assert len(list(loader)) == 2
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


MEASURE = """
import re, sys, torch
from pathlib import Path
from typing import Any
from toyfcn.config.data import VOCConfig
from toyfcn.data.datamodule import SegmentationData
torch.set_num_threads(1)
config = VOCConfig(root=sys.argv[1], batch_size=10, train_split=sys.argv[2], cache=sys.argv[3])
config.cache_folder = sys.argv[1] + "/cache"
data = SegmentationData.open(config)
assert sum(len(batch["id"]) for batch in data.train_dataloader()) == int(sys.argv[2][1:])
status = Path("/proc/self/status").read_text()
print(re.search(r"RssAnon:\\s+(\\d+)", status)[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's figure")
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_private_memory_does_not_grow_with_the_data_set(tiny_voc: Path, cache: str) -> None:
    """Every image read once, of 200 and of 20,000: RssAnon within 5 %."""
    folder = tiny_voc / "VOCdevkit" / "VOC2007"
    ids = [f"many{i:06}" for i in range(20_000)]
    for name in ids:  # ids of their own, one file's bytes
        for part in ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"):
            (folder / part.format(name)).hardlink_to(folder / part.format("000000"))
    used = []
    for count in (200, len(ids)):
        names = "".join(f"{name}\n" for name in ids[:count])
        (folder / f"ImageSets/Segmentation/n{count}.txt").write_text(names)
        answer = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tiny_voc), f"n{count}", cache],
            capture_output=True,
            text=True,
            check=True,
        )
        used.append(int(answer.stdout))
    print(f"RssAnon in kB: 200 images {used[0]}, 20,000 images {used[1]}")
    assert used[1] < 1.05 * used[0]


def test_a_fraction_of_the_training_photos(tiny_voc: Path) -> None:
    whole = data_of(tiny_voc)
    train, val = whole.split_ids("train"), whole.split_ids("val")
    before: set[str] = set()
    for fraction, count in ((0.01, 1), (0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)):
        data = data_of(tiny_voc, train_fraction=fraction)
        ids = data.split_ids("train")
        assert len(ids) == count and before <= set(ids)  # a part of the larger ones
        assert ids == tuple(name for name in train if name in ids)  # in the list's order
        assert data.split_ids("val") == val
        before = set(ids)
    many = [f"{number:06d}" for number in range(1000)]
    found = [int(name) for name in share_of(many, 0.2)]
    assert len(found) == 200 and 450 < sum(found) / 200 < 550  # not the first so many
    folds = data_of(tiny_voc, folds=2, train_fraction=0.5)
    assert len(folds.split_ids("train")) == 1 and len(folds.split_ids("val")) == 2
