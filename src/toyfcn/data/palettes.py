"""The colors of palette masks: they show when a program has numbered a mask's labels anew.

GIF and optimizers of palettes keep a mask's colors and change its indices, which are the labels.
So the colors that the indices have must be VOC's in VOC's masks, and the same in all of a folder.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

log = logging.getLogger(__name__)
Color = tuple[int, int, int]
ADVICE = (
    "a program may have reordered it: if its colors are right, use data=folder with data.colours, "
    "else save the labels as gray values"
)


def triple(color: Sequence[int]) -> Color:
    """Return a color as a tuple of three."""
    r, g, b = color
    return r, g, b


def palette() -> list[int]:
    """Return VOC's 256 colors as 768 flat integers: label bits dealt out to r, g, b in turn."""
    colors = []
    for label in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (label >> (3 * bit + channel) & 1) << (7 - bit)
        colors += rgb
    return colors


class Used(NamedTuple):
    """The color of a label that occurs in a mask, and whether its palette has the color once."""

    color: Color
    once: bool


def class_palette(
    colors: Sequence[Sequence[int]], void_color: Color | None, void: int
) -> tuple[int, ...]:
    """Return 768 integers: the data set's own colors, and VOC's where it has none."""
    flat = palette()
    flat[: 3 * len(colors)] = [value for color in colors for value in color]
    if void_color is not None:
        flat[3 * void : 3 * void + 3] = void_color
    return tuple(flat)


def color_list(colors: bytes) -> list[Color]:
    """Return a palette of three bytes a color as (r, g, b)."""
    return list(zip(colors[::3], colors[1::3], colors[2::3], strict=False))


def used_colors(labels: Tensor, colors: bytes | None) -> dict[int, Used]:
    """Return the colors of the labels that occur, uint8 (H, W), as far as the palette goes."""
    if colors is None:
        return {}
    table = color_list(colors)
    times = Counter(table)
    found = np.bincount(labels.numpy().ravel(), minlength=256).nonzero()[0].tolist()
    return {i: Used(table[i], times[table[i]] == 1) for i in found if i < len(table)}


def unexpected(used: Mapping[int, Used], expected: Mapping[int, Color]) -> str | None:
    """Say which label has another color than the expected one, if any; gray (i, i, i) is right."""
    for label, (color, _) in used.items():
        if color not in ((label,) * 3, expected.get(label, color)):
            return f"gives {label} the color {list(color)}, not {list(expected[label])}"
    return None


def warn_of_reordered_voc(mask: Path, used: Mapping[int, Used]) -> None:
    """Warn if a mask of a folder has only VOC's colors, but not for VOC's labels."""
    labels = {color: label for label, color in reversed([*enumerate(color_list(bytes(palette())))])}
    moved = [(label, color) for label, (color, _) in used.items() if labels.get(color) != label]
    if moved and all(color in labels for color, _ in used.values()):
        label, color = moved[0]
        log.warning(
            "%s gives %d the color %s, which is VOC's of label %d, and so may all masks: if their "
            "palettes were reordered, set data.colours",
            mask,
            label,
            list(color),
            labels[color],
        )


def disagreements(masks: Mapping[Path, Mapping[int, Used]]) -> dict[Path, str]:
    """Say of each mask that does it what its palette does otherwise than most of the others.

    A label has the color, and a color the label, that most give it; of as many, the first mask's.
    """
    votes = Counter((label, u) for used in masks.values() for label, u in used.items())
    color_of, label_of = dict[int, Color](), dict[Color, int]()
    for (label, (color, once)), _ in votes.most_common():  # of equal counts, in the order seen
        if label == 0 or color != (label,) * 3:
            color_of.setdefault(label, color)
        if once:
            label_of.setdefault(color, label)
    found = {}
    for name, used in masks.items():
        moved = [(i, u.color) for i, u in used.items() if u.once and label_of[u.color] != i]
        why = unexpected(used, color_of)
        if why is None and moved:
            label, color = moved[0]
            why = f"gives the color {list(color)} to {label}, not {label_of[color]}"
        if why is not None:
            found[name] = f"{why} as most others do"
    return found
