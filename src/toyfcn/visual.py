"""Pictures: coloured masks, panels of photo | truth | prediction | errors, overlays, legends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

PAPER, INK, MUTED = (255, 255, 255), (32, 33, 36), (112, 117, 122)
WRONG, RIGHT = (214, 39, 40), (222, 226, 230)
HEADINGS = ("photo", "truth", "prediction", "errors")


def colour(mask: Pixels, palette: Sequence[int]) -> Pixels:
    """Paint labels (H, W) with a palette of 768 integers: uint8 (H, W, 3)."""
    return np.asarray(palette, np.uint8).reshape(-1, 3)[mask]


def errors(truth: Pixels, prediction: Pixels, void: int) -> Pixels:
    """Paint where a prediction (H, W) is wrong: red; right: grey; void: white. uint8 (H, W, 3)."""
    picture = np.where((truth == prediction)[..., None], RIGHT, WRONG).astype(np.uint8)
    picture[truth == void] = PAPER
    return picture


def panel(
    photo: Pixels, truth: Pixels, prediction: Pixels, palette: Sequence[int], void: int
) -> Pixels:
    """Put photo | truth | prediction | errors side by side: uint8 (H, 4·W + gaps, 3)."""
    gap = np.full((len(photo), max(2, photo.shape[1] // 48), 3), 255, np.uint8)
    parts = (photo, colour(truth, palette), colour(prediction, palette))
    row = [piece for part in parts for piece in (part, gap)]
    return np.concatenate([*row, errors(truth, prediction, void)], axis=1)


def sheet(
    rows: Sequence[tuple[str, Pixels]],
    classes: Sequence[str],
    palette: Sequence[int],
    title: str = "",
    width: int = 1000,
) -> Image.Image:
    """Stack titled panels under their headings, with a legend of the classes below.

    Each row is (title, panel); panels are brought to ``width`` pixels.
    """
    margin, line = 24, 22
    small, large = ImageFont.load_default(13), ImageFont.load_default(18)
    pictures = []
    for name, row in rows:
        height = round(row.shape[0] * width / row.shape[1])
        kind = Image.Resampling.NEAREST if row.shape[1] < width else Image.Resampling.BOX
        pictures.append((name, Image.fromarray(row).resize((width, height), kind)))
    key = legend(classes, palette, width)
    top = margin + (34 if title else 0) + line
    total = top + sum(p.height + line for _, p in pictures) + key.height + margin
    page = Image.new("RGB", (width + 2 * margin, total), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((margin, margin), title, INK, large)
    for i, heading in enumerate(HEADINGS):
        draw.text((margin + i * width // 4, top - line), heading, MUTED, small)
    for name, picture in pictures:
        page.paste(picture, (margin, top))
        draw.text((margin, top + picture.height + 2), name, MUTED, small)
        top += picture.height + line
    page.paste(key, (margin, top + 6))
    return page


def legend(classes: Sequence[str], palette: Sequence[int], width: int) -> Image.Image:
    """Draw a swatch and name for each class, as many to a line as ``width`` pixels take."""
    font = ImageFont.load_default(13)
    spots, x, y = [], 0, 0
    for label, name in enumerate(classes):
        extent = 30 + int(font.getlength(name)) + 14
        if x and x + extent > width:
            x, y = 0, y + 22
        spots.append((x, y, tuple(palette[3 * label : 3 * label + 3]), name))
        x += extent
    picture = Image.new("RGB", (width, y + 22), PAPER)
    draw = ImageDraw.Draw(picture)
    for x, y, fill, name in spots:
        draw.rounded_rectangle((x, y + 2, x + 18, y + 16), 3, fill=fill, outline=MUTED)
        draw.text((x + 24, y + 1), name, INK, font)
    return picture


def overlay(
    photo: Pixels, mask: Pixels, classes: Sequence[str], palette: Sequence[int]
) -> Image.Image:
    """Lay the coloured prediction over a photo, background clear, with a legend of what occurs."""
    painted = colour(mask, palette)
    mixed = np.where((mask > 0)[..., None], 0.45 * photo + 0.55 * painted, photo).astype(np.uint8)
    found = np.unique(mask)
    key = legend(
        [classes[i] for i in found],
        [c for i in found for c in palette[3 * i : 3 * i + 3]],
        max(160, photo.shape[1]),
    )
    page = Image.new("RGB", (key.width, len(photo) + key.height + 8), PAPER)
    page.paste(Image.fromarray(mixed), (0, 0))
    page.paste(key, (4, len(photo) + 6))
    return page
