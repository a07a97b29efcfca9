"""The drawn world: same bytes, exact layout, honest masks, colors that say nothing."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from toyfcn.data.shapes import scene
from toyfcn.data.shapes import world as shapes

SMALL: dict[str, Any] = {"train": 4, "val": 2, "test": 3}
Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def scenes(count: int) -> list[Pair]:
    pairs = [scene.scene(np.random.default_rng([7, index]), (96, 96)) for index in range(count)]
    return [(np.asarray(photo), np.asarray(mask)) for photo, mask in pairs]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.draw(tmp_path_factory.mktemp("drawn") / "world", **SMALL)


@pytest.fixture(scope="module")
def many() -> list[Pair]:
    return scenes(80)


def test_layout_is_exactly_vocs(world: Path) -> None:
    ids = {split: [f"{split}_{i:06d}" for i in range(n)] for split, n in SMALL.items()}
    everything = [name for names in ids.values() for name in names]
    assert set(digests(world)) == {
        *(f"JPEGImages/{name}.jpg" for name in everything),
        *(f"SegmentationClass/{name}.png" for name in everything),
        *(f"ImageSets/Segmentation/{s}.txt" for s in ("train", "val", "trainval", "test")),
        "classes.txt",
        "world.json",
    }
    lists = world / "ImageSets" / "Segmentation"
    for split, names in ids.items():
        assert (lists / f"{split}.txt").read_text().splitlines() == names
    assert (lists / "trainval.txt").read_text().splitlines() == ids["train"] + ids["val"]
    assert tuple((world / "classes.txt").read_text().splitlines()) == scene.CLASSES
    assert json.loads((world / "world.json").read_text())["seed"] == 0
    assert list(world.parent.iterdir()) == [world], "no scratch folder stays behind"


def test_photos_are_rgb_and_masks_carry_the_voc_palette(world: Path) -> None:
    with Image.open(world / "JPEGImages" / "test_000001.jpg") as photo:
        assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (96, 96))
    with Image.open(world / "SegmentationClass" / "test_000001.png") as mask:
        assert (mask.format, mask.mode, mask.size) == ("PNG", "P", (96, 96))
        palette = mask.getpalette() or []
    assert palette[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert palette[3 * 255 :] == [224, 224, 192]
    assert len(palette) == 768


def test_size_is_height_then_width() -> None:
    photo, mask = scene.scene(np.random.default_rng(0), (48, 80))
    assert photo.size == mask.size == (80, 48)


def test_same_seed_same_bytes_however_many_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, Any] = {"train": 34, "val": 3, "test": 3, "size": (48, 48)}
    alone = shapes.draw(tmp_path / "alone", **sizes)
    monkeypatch.setattr(shapes, "FEW", 40)
    pooled = shapes.draw(tmp_path / "pooled", **sizes)
    assert digests(alone) == digests(pooled)


def test_seed_and_split_change_every_photo(tmp_path: Path, world: Path) -> None:
    other = digests(shapes.draw(tmp_path / "other", seed=1, **SMALL))
    mine = digests(world)
    assert not {v for k, v in mine.items() if "JPEG" in k} & {
        v for k, v in other.items() if "JPEG" in k
    }
    assert len({v for k, v in mine.items() if "JPEG" in k}) == sum(SMALL.values())


def test_more_images_leave_the_earlier_ones_as_they_were(tmp_path: Path, world: Path) -> None:
    longer = digests(shapes.draw(tmp_path / "longer", train=6, val=0, test=4))
    mine = digests(world)
    shared = {name for name in mine if name.startswith(("JPEG", "Seg")) and name in longer}
    assert len(shared) == 2 * (4 + 3)
    assert all(mine[name] == longer[name] for name in shared)


def test_progress_hears_of_every_image(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    shapes.draw(tmp_path / "w", **SMALL, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(done, 9) for done in range(1, 10)]


def test_a_finished_world_is_left_alone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    monkeypatch.setattr(shapes, "scene", None)
    assert shapes.draw(world, **SMALL) == world
    assert before == {path: path.stat().st_mtime_ns for path in world.rglob("*")}


def test_other_settings_and_foreign_content_are_refused(tmp_path: Path, world: Path) -> None:
    with pytest.raises(ValueError, match=r"other settings \(seed: 0 there, 5 asked for\)"):
        shapes.draw(world, seed=5, **SMALL)
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match="did not draw"):
        shapes.draw(tmp_path, **SMALL)
    with pytest.raises(ValueError, match="did not draw"):
        shapes.draw(tmp_path / "holiday.jpg", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    (tmp_path / "empty").mkdir()
    assert shapes.draw(tmp_path / "empty", train=1, val=0, test=0).is_dir()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"train": -1}, {"size": (47, 96)}])
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be drawn"):
        shapes.draw(tmp_path / "world", **wrong)


def test_an_interrupted_draw_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapes.draw(tmp_path / "world", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be renamed there")
def test_who_comes_second_takes_the_world_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "world"

    def overtake(done: int, total: int) -> None:
        if done == total:
            shapes.draw(folder, **SMALL)
            (folder / "first").touch()

    assert shapes.draw(folder, **SMALL, progress=overtake) == folder
    assert (folder / "first").exists()


def test_mask_values_and_shares(many: list[Pair]) -> None:
    masks = np.stack([mask for _, mask in many])
    values, counts = np.unique(masks, return_counts=True)
    assert values.tolist() == [*range(len(scene.CLASSES)), scene.VOID]
    share = counts / masks.size
    assert 0.6 < share[0] < 0.8
    assert share[1:-1].min() > 0.015, "every class has its share"
    assert 0.01 < share[-1] < 0.08


def test_void_lines_are_one_pixel_thin(many: list[Pair]) -> None:
    void = np.stack([mask for _, mask in many]) == scene.VOID
    block = void[:, 1:, 1:] & void[:, :-1, 1:] & void[:, 1:, :-1] & void[:, :-1, :-1]
    assert not block.any()


def test_regions_meet_at_void_lines(many: list[Pair]) -> None:
    masks = np.stack([mask for _, mask in many]).astype(int)
    left, right = masks[:, :, :-1], masks[:, :, 1:]
    labeled = (left != scene.VOID) & (right != scene.VOID)
    bare = ((left != right) & labeled).sum()
    lined = ((left == scene.VOID) != (right == scene.VOID)).sum() / 2
    assert bare < 0.35 * lined, "only an edge that runs along pixel borders needs no void"


@pytest.mark.parametrize("kind", range(1, len(scene.CLASSES)))
def test_objects_fit_a_receptive_field_of_32(kind: int) -> None:
    rng = np.random.default_rng(kind)
    for _ in range(50):
        polygons, area = scene._outline(rng, kind)
        reach = 2 * np.linalg.norm(polygons[0], axis=1).max()
        assert 20 <= reach <= 34.001
        outer, *holes = map(scene._area, polygons)
        assert area == pytest.approx(outer - sum(holes), rel=1e-3)
        assert area > 0.3 * np.pi * (reach / 2) ** 2, "no spindly shapes"


def test_placed_objects_stay_mostly_visible() -> None:
    overlaps = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        owner = np.zeros((96 * scene.FINE, 96 * scene.FINE), np.uint8)
        spare = [float("inf")]
        drawn = [0]
        for _ in range(6):
            if placed := scene._place(rng, owner, spare):
                drawn.append(int((np.asarray(placed[2]) > 0).sum()))
        seen = np.bincount(owner.ravel(), minlength=len(drawn))
        for whole, rest in zip(drawn[1:], seen[1:], strict=True):
            assert rest >= 0.65 * whole
            overlaps += rest < whole
    assert overlaps >= 20, "objects do overlap"


def test_objects_stand_out_from_what_surrounds_them() -> None:
    faint = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        key = float(rng.uniform(0, 2 * np.pi))
        before = scene._ground(rng, (96, 96), key)
        after = before.copy()
        placed = scene._place(rng, np.zeros((384, 384), np.uint8), [float("inf")])
        assert placed is not None
        _, (left, top, right, bottom), layer = placed
        inside = scene._coverage(layer) > 0.99
        light = np.array([1, 0], np.float32)
        scene._paint(rng, after[:, top:bottom, left:right], layer, light, key)
        change = np.linalg.norm((after - before)[:, top:bottom, left:right], axis=0)[inside]
        faint += np.median(change) < 0.12
    assert faint <= 2


def test_color_does_not_tell_the_class(many: list[Pair]) -> None:
    photos = np.concatenate([photo.reshape(-1, 3) for photo, _ in many])
    labels = np.concatenate([mask.ravel() for _, mask in many])
    means = np.stack([photos[labels == k].mean(0) for k in range(len(scene.CLASSES))])
    spread = photos.std(0)
    assert (np.abs(means - means.mean(0)) < 0.35 * spread).all(), means.round()
