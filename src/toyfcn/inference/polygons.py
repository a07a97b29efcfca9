"""Label maps as polygons, in the JSON of COCO and of labelme.

Outlines run between the centers of pixels (contourpy's marching squares): a pixel has a label where
its center lies in a polygon of it. Neither format has polygons with holes, so a hole is joined to
its outline by a seam without width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]  # (N, 2): x, y in pixels, 0 at the left and upper edge of the photo


def polygons(labels: Pixels, classes: Sequence[str]) -> Iterator[tuple[int, Points]]:
    """Yield each connected part of a label map (H, W): its label, and its outline without an end.

    Label 0 is left out where it is called background.
    """
    for label in outlined(classes):
        rows, columns = np.nonzero(labels == label)
        if not len(rows):
            continue
        top, left = rows.min(), columns.min()
        inside = np.zeros((np.ptp(rows) + 3, np.ptp(columns) + 3), np.float32)
        inside[rows - top + 1, columns - left + 1] = 1
        traced = contour_generator(z=inside, fill_type=FillType.OuterOffset)
        for points, offsets in zip(*traced.filled(0.5, 2), strict=True):
            rings = [corners(ring) for ring in np.split(points, offsets[1:-1])]
            yield label, joined(rings) + np.array([left - 0.5, top - 0.5])


def outlined(classes: Sequence[str]) -> range:
    """Return the labels that have polygons: all but label 0, where that is the background."""
    return range(1 if classes[0] == "background" else 0, len(classes))


def corners(ring: Points) -> Points:
    """Leave out the points of a closed ring at which it goes straight on, and its end."""
    points = ring[:-1]
    before, after = np.roll(points, 1, 0) - points, np.roll(points, -1, 0) - points
    kept: Points = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return kept


def joined(rings: Sequence[Points]) -> Points:
    """Join an outline and its holes to one ring."""
    outline = rings[0]
    for hole in rings[1:]:
        at = int(np.abs(outline - hole[0]).sum(1).argmin())
        seam = [outline[: at + 1], hole, hole[:1], outline[at:]]
        outline = np.concatenate(seam)
    return outline


def area(points: Points) -> float:
    """Return the area of a polygon in pixels."""
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def labelme(photo: Path, labels: Pixels, classes: Sequence[str]) -> dict[str, Any]:
    """Return a photo's labelme JSON; ``photo`` is its path as seen from the file."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {
                "label": classes[label],
                "points": points.tolist(),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for label, points in polygons(labels, classes)
        ],
        "imagePath": photo.as_posix(),
        "imageData": None,
        "imageHeight": labels.shape[0],
        "imageWidth": labels.shape[1],
    }


def coco_annotations(labels: Pixels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the annotations of a photo, but for their ids and the photo's."""
    found = []
    for label, points in polygons(labels, classes):
        low, extent = points.min(0), np.ptp(points, axis=0)
        found.append(
            {
                "category_id": label,
                "segmentation": [points.ravel().tolist()],
                "area": area(points),
                "bbox": [*low.tolist(), *extent.tolist()],
                "iscrowd": 0,
            }
        )
    return found


def coco(
    photos: Sequence[tuple[str, tuple[int, ...], Sequence[dict[str, Any]]]], classes: Sequence[str]
) -> dict[str, Any]:
    """Return a COCO file of photos: name, (height, width) and annotations of each."""
    named = enumerate(photos, 1)
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]}
        for i, (name, size, _) in named
    ]
    parts = [part | {"image_id": i} for i, (_, _, found) in enumerate(photos, 1) for part in found]
    return {
        "images": images,
        "categories": [{"id": i, "name": classes[i]} for i in outlined(classes)],
        "annotations": [{"id": i} | part for i, part in enumerate(parts, 1)],
    }
