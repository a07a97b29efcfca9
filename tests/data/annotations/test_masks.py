"""Masks of annotations, against the formats' own tools and an independent rasterization."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from annotated import FORMATS, HOUSE, MADE, SIZES, TREE, coco_content, flat, masks, photos
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as cocomask
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes, label

from toyfcn.data.shapes.scene import scene

Mask = NDArray[np.bool_]


def inside(points: Any, size: tuple[int, int]) -> tuple[Mask, Mask]:
    """Pixels whose center is inside by the even-odd rule; those whose center is near the border.

    Near is closer than 0.75 pixels: half of a pixel's diagonal and a little.
    """
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    within, near = np.zeros(size, bool), np.zeros(size, bool)
    points = np.asarray(points, float)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            crosses = (y0 <= y) != (y1 <= y)
            within ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2 or 1
        t = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
        near |= np.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)) < 0.75
    return within, near


def painted(shapes: list[tuple[int, Any]], size: tuple[int, int]) -> tuple[NDArray[np.int_], Mask]:
    """Labels of polygons painted one over the other, and where any border is."""
    labels, borders = np.zeros(size, int), np.zeros(size, bool)
    for value, points in shapes:
        within, near = inside(points, size)
        labels[within] = value
        borders |= near
    return labels, borders


def stars(seed: int, size: tuple[int, int], count: int) -> list[tuple[int, NDArray[np.float64]]]:
    """Polygons of many kinds, (label, points): convex, with dents, and crossing themselves."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        center, corners = rng.uniform(0, size[::-1], 2), int(rng.integers(3, 12))
        angles = rng.uniform(0, 2 * np.pi, corners)
        angles = angles if number % 3 == 0 else np.sort(angles)  # else it crosses itself
        radii = rng.uniform(4, 25, corners)
        offsets = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        points = (center + offsets).clip(0, size[::-1]).round(2)
        found.append((int(rng.integers(1, 4)), points))
    return found


def write_polygons(
    format_: str, folder: Path, shapes: list[tuple[str, NDArray[np.float64]]], size: tuple[int, int]
) -> Path:
    """Write a black photo, and polygons (class, points) on it."""
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", size[::-1]).save(folder / "images/p.png")
    names, (height, width) = sorted({name for name, _ in shapes}), size
    content: Any
    if format_ == "yolo":
        lines = [
            f"{names.index(name)} {' '.join(map(repr, (p / size[::-1]).ravel().tolist()))}"
            for name, p in shapes
        ]
        (folder / "labels").mkdir()
        (folder / "labels/p.txt").write_text("\n".join(lines))
        content = {"train": "images", "names": names}
    elif format_ == "labelstudio":
        results = [
            {
                "type": "polygonlabels",
                "original_width": width,
                "original_height": height,
                "value": {"points": (p / size[::-1] * 100).tolist(), "polygonlabels": [name]},
            }
            for name, p in shapes
        ]
        content = [{"data": {"image": "images/p.png"}, "annotations": [{"result": results}]}]
    elif format_ == "coco":
        annotations = [
            {
                "id": number,
                "image_id": 0,
                "category_id": names.index(name),
                "segmentation": [p.ravel().tolist()],
            }
            for number, (name, p) in enumerate(shapes)
        ]
        content = {
            "images": [{"id": 0, "file_name": "images/p.png"}],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": annotations,
        }
    elif format_ == "labelme":
        listed = [{"label": name, "points": p.tolist()} for name, p in shapes]
        content = {"imagePath": "images/p.png", "shapes": listed}
    else:
        lines = [
            f'<polygon label="{name}" points="{";".join(f"{x},{y}" for x, y in p)}"/>'
            for name, p in shapes
        ]
        image = f'<image name="p.png" width="{width}" height="{height}">{"".join(lines)}</image>'
        (folder / "annotations.xml").write_text(f"<annotations>{image}</annotations>")
        return folder / "annotations.xml"
    file = folder / ("data.yaml" if format_ == "yolo" else "export.json")  # JSON is YAML
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("format_", ["cvat", "labelstudio", "yolo"])
def test_polygons_are_what_is_inside_by_the_even_odd_rule(format_: str, tmp_path: Path) -> None:
    """But for pixels whose center lies within 0.75 pixels of a border."""
    for seed in range(20):
        size = (60 + seed, 90 - seed)
        shapes = [(1, [[0, 0], [9, 0], [0, 9]]), (2, [[9, 9], [9, 0], [0, 9]])]
        shapes = [(value, np.array(p, float)) for value, p in shapes] + stars(seed, size, 6)
        shapes.append((3, np.array([[70.0, 50], [60, 50], [60, 40]])))
        named = [(f"k{value}", points) for value, points in shapes]
        source = write_polygons(format_, tmp_path / str(seed), named, size)
        (mask,) = masks(format_, source, classes=["k1", "k2", "k3"]).values()
        wanted, borders = painted(shapes, size)
        assert mask.shape == size and (mask == wanted)[~borders].all()
        assert (mask != wanted).mean() < 0.03  # of all pixels, those at borders included


def own_tool_of_coco(file: Path, size: tuple[int, int], image: int) -> NDArray[np.uint8]:
    """Categories 1, 3 as labels 1, 2 and crowds as 255, by pycocotools' COCO alone."""
    coco, mask = COCO(str(file)), np.zeros(size, np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image])):
        label = 255 if annotation["iscrowd"] else {1: 1, 3: 2}[annotation["category_id"]]
        mask[coco.annToMask(annotation) == 1] = label
    return mask


def test_coco_as_pycocotools_paints_it(tmp_path: Path) -> None:
    """Polygons of several parts, crossing themselves; RLE of both kinds with holes; crowds."""
    photos(tmp_path)
    content, rng = coco_content(), np.random.default_rng(0)
    for image in content["images"]:
        size = image["height"], image["width"]
        segments: list[Any] = [[points.ravel().tolist()] for _, points in stars(1, size, 12)]
        segments += [[flat(HOUSE), flat(TREE)]]
        for number in range(6):
            y, x = np.mgrid[: size[0], : size[1]]
            radius = np.hypot(x - rng.uniform(0, size[1]), y - rng.uniform(0, size[0]))
            ring = (radius < 15) & (radius > 6) if number else rng.random(size) < 0.1
            packed: Any = cocomask.encode(np.asfortranarray(ring.astype(np.uint8)))
            packed["counts"] = packed["counts"].decode()
            if number % 2:
                edges = np.flatnonzero(np.diff(ring.ravel("F").astype(int), prepend=0))
                ends = [0, *edges.tolist(), ring.size]
                packed["counts"] = np.diff(ends).tolist()
            segments.append(packed)
        rng.shuffle(segments)
        content["annotations"] += [
            {
                "id": len(content["annotations"]) + 1 + number,
                "image_id": image["id"],
                "category_id": int(rng.choice([1, 3])),
                "iscrowd": int(isinstance(segment, dict) and number % 3 == 0),
                "segmentation": segment,
            }
            for number, segment in enumerate(segments)
        ]
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(content))
    found = masks("coco", file)
    for image in content["images"]:
        size = image["height"], image["width"]
        wanted = own_tool_of_coco(file, size, image["id"])
        assert {*np.unique(wanted)} == {0, 1, 2, 255}
        assert np.array_equal(found[Path(image["file_name"]).stem], wanted)


def test_crowds_as_the_config_wants_them(tmp_path: Path) -> None:
    file = FORMATS["coco"](tmp_path)
    void, as_class, none = (
        masks("coco", file, crowd=c)["a"] for c in ("void", "class", "background")
    )
    crowd = void == 255
    assert crowd.sum() == 50
    assert (as_class[crowd] == 1).all() and (none[crowd] == 0).all()
    assert np.array_equal(as_class[~crowd], void[~crowd])


def test_labelme_as_labelme_paints_it(tmp_path: Path) -> None:
    """labelme.json and labelme.png are by labelme 6.3.1: write_label_file, shapes_to_label."""
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.png")
    (tmp_path / "labelme.json").write_bytes((MADE / "labelme.json").read_bytes())
    (mask,) = masks("labelme", tmp_path).values()
    assert np.array_equal(mask, np.array(Image.open(MADE / "labelme.png")))


def test_brushes_as_label_studio_packs_them(tmp_path: Path) -> None:
    """The RLE is by label_studio_sdk 2.1.2, image2annotation, of the masks in label_studio.png."""
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.png")  # without the prefix of its upload
    source = MADE / "label_studio.json"
    (mask,) = masks("labelstudio", source, photos=str(tmp_path)).values()
    assert np.array_equal(mask, np.array(Image.open(MADE / "label_studio.png")))


def test_boxes_ellipses_and_masks_of_cvat(tmp_path: Path) -> None:
    """By z_order, then in the file's order; a mask's runs go along rows."""
    (mask, _) = masks("cvat", FORMATS["cvat"](tmp_path)).values()
    size = SIZES["a.png"]
    box = [[2.5, 3], [9, 3], [9, 7], [2.5, 7]]
    labels, borders = painted([(2, HOUSE), (2, box)], size)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    turn = np.exp(1j * np.deg2rad(-30)) * ((x - 30) + 1j * (y - 20))
    distance = (turn.real / 6.5) ** 2 + (turn.imag / 4) ** 2
    labels[distance < 1] = 1
    borders |= np.abs(distance - 1) < 0.35
    within, near = inside(TREE, size)
    labels[within], borders = 1, borders | near
    patch = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    labels[4:7, 3:7][patch] = 1
    assert (mask == labels)[~borders].all() and borders.mean() < 0.25


def test_rectangles_and_ellipses_of_label_studio(tmp_path: Path) -> None:
    """A rectangle is turned around its corner, clockwise as one sees it."""
    mask = masks("labelstudio", FORMATS["labelstudio"](tmp_path))["b"]
    size = height, width = SIZES["b.jpg"]
    across = np.array([np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))]) * 0.3 * width
    down = np.array([-np.sin(np.deg2rad(20)), np.cos(np.deg2rad(20))]) * 0.15 * height
    corner = np.array([0.1 * width, 0.2 * height])
    corners = [corner, corner + across, corner + across + down, corner + down]
    labels, borders = painted([(2, HOUSE), (4, TREE), (4, corners)], size)  # 1: cat, 3: sun
    y, x = np.mgrid[:height, :width] + 0.5
    distance = ((x - width / 2) / (0.1 * width)) ** 2 + ((y - height / 2) / (0.05 * height)) ** 2
    labels[distance < 1] = 3
    borders |= np.abs(distance - 1) < 0.6
    assert (mask == labels)[~borders].all() and borders.mean() < 0.25


# ---- there and back ----
def parts_of(mask: NDArray[np.uint8]) -> list[tuple[int, Mask]]:
    """Connected parts with their holes filled, (label, pixels), large ones first.

    What lies in a hole is a smaller part, so painting them one over the other makes the mask.
    """
    parts = []
    for value in np.unique(mask):
        pieces, count = label(mask == value)
        filled = [binary_fill_holes(pieces == number) for number in range(1, count + 1)]
        parts += [(int(value), part) for part in filled]
    return sorted(parts, key=lambda part: -part[1].sum())


def edges(part: Mask) -> NDArray[np.float64]:
    """One closed way along the edges of a part's pixels."""
    padded, steps = np.pad(part, 1), dict[tuple[int, int], list[tuple[int, int]]]()
    for y, x in np.argwhere(padded).tolist():
        for other, start, end in (
            ((y - 1, x), (x, y), (x + 1, y)),
            ((y, x + 1), (x + 1, y), (x + 1, y + 1)),
            ((y + 1, x), (x + 1, y + 1), (x, y + 1)),
            ((y, x - 1), (x, y + 1), (x, y)),
        ):
            if not padded[other]:
                steps.setdefault(start, []).append(end)
    stack, way = [next(iter(steps))], list[tuple[int, int]]()
    while stack:  # Hierholzer: every edge once
        if steps.get(stack[-1]):
            stack.append(steps[stack[-1]].pop())
        else:
            way.append(stack.pop())
    return np.array(way[:-1], float) - 1


def centers(part: Mask) -> NDArray[np.float64]:
    """The centers of a part's border pixels, counted from 0 as labelme does."""
    contours, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (contour,) = contours
    points = contour[:, 0].astype(float)
    return np.concatenate([points, points[:1], points[:1]])  # a polygon has three


@pytest.mark.parametrize("format_", FORMATS)
def test_masks_of_drawn_shapes_come_back(format_: str, tmp_path: Path) -> None:
    """Mask, polygons along pixels' edges (labelme: centers), annotation, mask: equal."""
    names = {0: "background", 255: "__ignore__"} | {n: f"k{n}" for n in range(1, 7)}
    for seed in range(3):
        mask = np.array(scene(np.random.default_rng(seed), (96, 120))[1])
        outline = centers if format_ == "labelme" else edges
        shapes = [(names[value], outline(part)) for value, part in parts_of(mask)]
        assert len(shapes) > 8
        source = write_polygons(format_, tmp_path / str(seed), shapes, mask.shape)
        classes = [names[n] for n in range(1, 7)]
        (found,) = masks(format_, source, classes=classes).values()
        assert np.array_equal(found, mask)
