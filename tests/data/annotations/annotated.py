"""Two photos, and sound annotations of them in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toyfcn.config.data_commands import ConvertConfig
from toyfcn.data.annotations.shapes import paint
from toyfcn.data.tools.convert import gather

SIZES = {"a.png": (48, 64), "b.jpg": (40, 52)}  # height, width
HOUSE = [[10.5, 8.25], [50.0, 6.0], [47.5, 30.0], [12.0, 33.5]]
TREE = [[20.0, 12.0], [40.25, 20.5], [22.0, 36.0]]


def photos(folder: Path) -> None:
    """Write both photos."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, size) in enumerate(SIZES.items()):
        noise = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


def labelme(folder: Path) -> Path:
    photos(folder)
    for name, (height, width) in SIZES.items():
        shapes = [
            {"label": "house", "points": HOUSE, "shape_type": "polygon", "group_id": None},
            {"label": "tree", "points": TREE, "shape_type": "polygon", "group_id": None},
            {"label": "sun", "points": [[30, 8], [35, 9]], "shape_type": "circle"},
            {"label": "house", "points": [[2, 3], [9, 7]], "shape_type": "rectangle"},
        ]
        content = {"imagePath": name, "imageHeight": height, "imageWidth": width, "shapes": shapes}
        (folder / name).with_suffix(".json").write_text(json.dumps(content))
    return folder


def coco_content() -> dict[str, Any]:
    images = [
        {"id": 7 + number, "file_name": name, "height": height, "width": width}
        for number, (name, (height, width)) in enumerate(SIZES.items())
    ]
    annotations: list[dict[str, Any]] = []
    for image in images:
        size = [image["height"], image["width"]]
        total = size[0] * size[1]
        for category, crowd, segmentation in (
            (3, 0, [flat(HOUSE), [1.0, 1.0, 6.0, 1.0, 6.0, 5.0]]),
            (1, 0, [flat(TREE)]),
            (1, 1, {"size": size, "counts": [100, 30, 60, 20, total - 210]}),
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "iscrowd": crowd,
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": 3, "name": "house"}, {"id": 1, "name": "tree"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco(folder: Path) -> Path:
    photos(folder)
    (folder / "coco.json").write_text(json.dumps(coco_content()))
    return folder / "coco.json"


def cvat(folder: Path) -> Path:
    photos(folder / "images")
    images = []
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        house, tree = (";".join(f"{x},{y}" for x, y in points) for points in (HOUSE, TREE))
        images.append(f"""
  <image id="{number}" name="{name}" width="{width}" height="{height}">
    <polygon label="tree" source="manual" occluded="0" points="{tree}" z_order="1"></polygon>
    <polygon label="house" source="manual" occluded="0" points="{house}" z_order="0"></polygon>
    <box label="house" occluded="0" xtl="2.5" ytl="3.0" xbr="9.0" ybr="7.0" z_order="0"></box>
    <ellipse label="tree" cx="30.0" cy="20.0" rx="6.5" ry="4.0" rotation="30.0" z_order="0"/>
    <mask label="tree" rle="1, 3, 4, 4" left="3" top="4" width="4" height="3" z_order="2"></mask>
    <points label="tree" points="1.0,2.0" z_order="0"></points>
  </image>""")
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("tree", "house"))
    (folder / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta><task><labels>{labels}</labels></task></meta>{''.join(images)}\n</annotations>\n"
    )
    return folder


def labelstudio(folder: Path) -> Path:
    photos(folder)
    tasks = []
    packed = json.loads((MADE / "label_studio.json").read_text())
    brush = packed[0]["annotations"][0]["result"][0]  # of the first photo's size
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        of = {"original_width": width, "original_height": height, "image_rotation": 0}
        share = [100 / width, 100 / height]

        def percent(points: list[list[float]], share: list[float] = share) -> list[list[float]]:
            return (np.array(points) * share).tolist()

        results = [
            {"type": "polygonlabels", "value": {"points": percent(p), "polygonlabels": [label]}}
            for p, label in ((HOUSE, "house"), (TREE, "tree"))
        ]
        turned = {"x": 10, "y": 20, "width": 30, "height": 15, "rotation": 20}
        results.append(
            {"type": "rectanglelabels", "value": {**turned, "rectanglelabels": ["tree"]}}
        )
        round_ = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "rotation": 0}
        results.append({"type": "ellipselabels", "value": {**round_, "ellipselabels": ["sun"]}})
        results = [result | of for result in results] + [brush] * (number == 0)
        annotation = {"id": number, "was_cancelled": False, "result": results}
        tasks.append({"id": number, "data": {"image": f"/up/{name}"}, "annotations": [annotation]})
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def yolo(folder: Path) -> Path:
    for split, name in zip(("train", "val"), SIZES, strict=True):
        photos(folder / "images" / split)
        for other in {*SIZES} - {name}:
            (folder / "images" / split / other).unlink()
        (folder / "labels" / split).mkdir(parents=True)
        lines = [
            f"{label} "
            + " ".join(f"{v:.9g}" for v in flat((np.array(p) / SIZES[name][::-1]).tolist()))
            for label, p in ((1, HOUSE), (0, TREE))
        ]
        path = folder / "labels" / split / name
        path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: tree\n  1: house\n"
    )
    return folder


MADE = Path(__file__).with_name("made_by_tools")
FORMATS: dict[str, Callable[[Path], Path]] = {
    "labelme": labelme,
    "coco": coco,
    "cvat": cvat,
    "labelstudio": labelstudio,
    "yolo": yolo,
}


def masks(format_: str, source: Path, **options: Any) -> dict[str, NDArray[np.uint8]]:
    """The masks that a source is converted to, by id."""
    found = gather(ConvertConfig(from_=format_, source=str(source), **options))
    return {name: paint(photo, found.labels) for name, photo in found.photos.items()}
