"""The pixel cache: the same bytes as reading, built once, made anew when the source changes."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from toyfcn.config.data import VOCConfig
from toyfcn.data import cache
from toyfcn.data.cache import PixelCache
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.data.source import FileSource


@pytest.fixture
def source(tiny_voc: Path) -> FileSource:
    return open_source(VOCConfig(root=str(tiny_voc)))


def test_cached_pairs_equal_read_ones(source: FileSource, tmp_path: Path) -> None:
    ids = source.ids("trainval")
    cached = PixelCache(source, ids, tmp_path / "cache")
    for name in reversed(ids):
        for fresh, kept in zip(source.pair(name), cached.pair(name), strict=True):
            assert torch.equal(fresh, kept)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".pixels"]
    kept = cached.pair(ids[0])[0]
    kept.zero_()  # whoever writes into a view leaves the file alone
    assert torch.equal(
        PixelCache(source, ids, tmp_path / "cache").pair(ids[0])[0], source.image(ids[0])
    )


@pytest.mark.parametrize("sampling", ["epoch", "uniform"])
def test_batches_depend_neither_on_the_cache_nor_on_the_workers(
    tiny_voc: Path, tmp_path: Path, sampling: str
) -> None:
    runs = []
    for kind, workers in (("none", 0), ("none", 2), ("disk", 0), ("disk", 3)):
        config = VOCConfig(
            root=str(tiny_voc),
            batch_size=2,
            crop=[24, 24],
            scale=[0.5, 2.0],
            colour=0.2,
            sampling=sampling,
            workers=workers,
            cache=kind,
            cache_folder=str(tmp_path / "cache"),
        )
        loader = SegmentationData.open(config, seed=3).train_dataloader()
        runs.append([batch for _ in range(2) for batch in loader])
    for other in runs[1:]:
        for first, batch in zip(runs[0], other, strict=True):
            assert first["id"] == batch["id"]
            assert torch.equal(first["image"], batch["image"])
            assert torch.equal(first["mask"], batch["mask"])


def test_it_is_built_once_and_again_after_a_change(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = source.ids("train")
    first = PixelCache(source, ids, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "build", lambda *_: pytest.fail("built again"))
        assert PixelCache(source, ids, tmp_path / "cache").path == first.path
    Image.new("RGB", (48, 32), "red").save(source.image_path(ids[0]))
    os.utime(source.image_path(ids[0]), (1, 1))
    second = PixelCache(source, ids, tmp_path / "cache")
    assert second.path != first.path
    assert torch.equal(second.pair(ids[0])[0], source.image(ids[0]))


def test_two_builders_at_once_and_a_killed_one(source: FileSource, tmp_path: Path) -> None:
    ids, folder = source.ids("trainval"), tmp_path / "cache"
    folder.mkdir()
    name = f"{source.name}-{cache.fingerprint(source, ids)}"
    left = folder / f".{name}.pixels.99999.tmp"  # a killed run's
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    (folder / f"{name}.pixels").write_bytes(b"short")  # somebody cut the file
    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(lambda _: PixelCache(source, ids, folder), range(2)))
    for one in built:
        assert torch.equal(one.pair(ids[3])[0], source.image(ids[3]))
    assert [p.name for p in folder.iterdir()] == [f"{name}.pixels"]


def test_a_full_disk_is_told_beforehand(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(10, 10, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"data.cache=disk needs .* MB in .*cache_folder"):
        PixelCache(source, source.ids("train"), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
