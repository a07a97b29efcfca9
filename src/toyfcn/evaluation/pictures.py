"""Pictures: colored masks, panels of photo | ground truth | prediction | errors, overlays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

Pixels = NDArray[np.uint8]

PAPER, INK, MUTED = (255, 255, 255), (32, 33, 36), (112, 117, 122)
WRONG, RIGHT = (214, 39, 40), (222, 226, 230)
LARGEST = 1600  # pixels of an overlay's longer side
MARKS = {
    "correct": (120, 190, 150),
    "missed": WRONG,
    "false": (240, 160, 0),
    "confused": (140, 40, 190),
}
HEADINGS = ("photo", "ground truth", "prediction", "errors: red, void: white")


def shown(photo: Tensor, bands: Sequence[int] | None = None) -> Pixels:
    """Return what pictures show of a photo, uint8 (C, H, W): red, green and blue (H, W, 3).

    ``bands`` are three of its channels, or one in gray; None: the first three, or of fewer the
    first.
    """
    pixels = photo.permute(1, 2, 0)
    if bands is not None or len(photo) != 3:
        pixels = pixels[..., list(bands or range(3 if len(photo) > 3 else 1))]
    return pixels.expand(-1, -1, 3).contiguous().numpy()


def colored(mask: Pixels, palette: Sequence[int]) -> Pixels:
    """Paint labels (H, W) with a palette of 768 integers: uint8 (H, W, 3)."""
    return np.asarray(palette, np.uint8).reshape(-1, 3)[mask]


def errors(target: Pixels, prediction: Pixels, void: int) -> Pixels:
    """Paint where a prediction (H, W) is wrong: red; right: gray; void: white. uint8 (H, W, 3)."""
    picture = np.where((target == prediction)[..., None], RIGHT, WRONG).astype(np.uint8)
    picture[target == void] = PAPER
    return picture


def marked(
    photo: Pixels, target: Pixels, prediction: Pixels, void: int, label: int | None = None
) -> Pixels:
    """Draw the errors of a prediction (H, W) on a pale photo: uint8 (H, W, 3), colors of ``MARKS``.

    With a ``label``, those of one class: its pixels that are missed, and others called it.
    """
    labeled, picture = target != void, (photo // 2 + 127).astype(np.uint8)
    wrong, truth, seen = labeled & (target != prediction), target > 0, prediction > 0
    if label is not None:
        truth, seen = target == label, prediction == label
    kinds = {
        "correct": labeled & ~wrong & truth,
        "missed": wrong & truth & ~seen,
        "false": wrong & seen & ~truth,
        "confused": wrong & seen & truth,
    }
    for name, where in kinds.items():
        picture[where] = picture[where] // 3 + np.array(MARKS[name]) * 2 // 3
    return picture


def boxed(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Fit a picture into a white box of (width, height) pixels: uint8 (height, width, 3)."""
    image = Image.fromarray(picture)
    kind = Image.Resampling.BOX if image.width > size[0] else Image.Resampling.NEAREST
    return np.asarray(ImageOps.pad(image, size, kind, PAPER))


def panel(
    photo: Pixels, target: Pixels, prediction: Pixels, palette: Sequence[int], void: int
) -> Pixels:
    """Put photo | ground truth | prediction | errors side by side: uint8 (H, 4·W + gaps, 3)."""
    masks = (colored(target, palette), colored(prediction, palette))
    return side_by_side([photo, *masks, errors(target, prediction, void)])


def side_by_side(parts: Sequence[Pixels]) -> Pixels:
    """Put pictures of one size, uint8 (H, W, 3), into a row with gaps."""
    gap = np.full((len(parts[0]), max(2, parts[0].shape[1] // 48), 3), 255, np.uint8)
    return np.concatenate([parts[0], *(p for part in parts[1:] for p in (gap, part))], axis=1)


def sheet(
    rows: Sequence[tuple[str, Pixels]],
    classes: Sequence[str],
    palette: Sequence[int],
    title: str = "",
    width: int = 1000,
    headings: Sequence[str] = HEADINGS,
) -> Image.Image:
    """Stack titled panels under their headings, with a legend of the classes below.

    Each row is (title, panel of as many pictures as there are headings); panels are brought to
    ``width`` pixels, or twice that in height.
    """
    margin, line = 24, 22
    small, large = ImageFont.load_default(13), ImageFont.load_default(18)
    pictures = []
    for name, row in rows:
        scale = min(width / row.shape[1], 2 * width / row.shape[0])  # of tall ones, the height
        size = (max(1, round(row.shape[1] * scale)), max(1, round(row.shape[0] * scale)))
        kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        pictures.append((name, Image.fromarray(row).resize(size, kind)))
    key = legend(classes, palette, width)
    top = margin + (34 if title else 0) + line
    total = top + sum(p.height + line for _, p in pictures) + key.height + margin
    page = Image.new("RGB", (width + 2 * margin, total), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((margin, margin), title, INK, large)
    for i, heading in enumerate(headings):
        draw.text((margin + i * width // len(headings), top - line), heading, MUTED, small)
    for name, picture in pictures:
        page.paste(picture, (margin, top))
        draw.text((margin, top + picture.height + 2), name, MUTED, small)
        top += picture.height + line
    page.paste(key, (margin, top + 6))
    return page


def legend(
    classes: Sequence[str], palette: Sequence[int], width: int, scale: float = 1
) -> Image.Image:
    """Draw a swatch and name for each class, as many to a line as ``width`` pixels take.

    Names are 13 pixels high, times ``scale``.
    """
    font, line = ImageFont.load_default(13 * scale), round(22 * scale)
    spots, x, y = [], 0, 0
    for label, name in enumerate(classes):
        extent = round(44 * scale) + int(font.getlength(name))
        if x and x + extent > width:
            x, y = 0, y + line
        spots.append((x, y, tuple(palette[3 * label : 3 * label + 3]), name))
        x += extent
    picture = Image.new("RGB", (width, y + line), PAPER)
    draw = ImageDraw.Draw(picture)
    for x, y, fill, name in spots:
        box = (x, y + 2 * scale, x + 18 * scale, y + 16 * scale)
        draw.rounded_rectangle(box, 3 * scale, fill=fill, outline=MUTED)
        draw.text((x + 24 * scale, y + scale), name, INK, font)
    return picture


def overlay(
    photo: Pixels,
    mask: Pixels,
    classes: Sequence[str],
    palette: Sequence[int],
    hidden: Sequence[int] = (),
) -> Image.Image:
    """Lay the colored prediction over a photo, with a legend of what occurs.

    Label 0 stays clear if it is called background, or is black; ``hidden`` labels do, and are not
    in the legend. The longer side is brought to ``LARGEST`` pixels where it is above; the legend
    grows with the picture.
    """
    photo, mask = fitted(photo), fitted(mask, Image.Resampling.NEAREST)
    clear = classes[0] == "background" or not any(palette[:3])
    mixed, painted = photo.copy(), ~np.isin(mask, [*hidden, 0] if clear else hidden)
    mixed[painted] = 0.45 * photo[painted] + 0.55 * colored(mask[painted], palette)
    found = [i for i in np.flatnonzero(np.bincount(mask.ravel())).tolist() if i not in hidden]
    width = max(160, photo.shape[1])
    key = legend(
        [classes[i] for i in found],
        [c for i in found for c in palette[3 * i : 3 * i + 3]],
        width,
        max(1, width / 800),
    )
    page = Image.new("RGB", (key.width, len(photo) + key.height + 8), PAPER)
    page.paste(Image.fromarray(mixed), (0, 0))
    page.paste(key, (4, len(photo) + 6))
    return page


def fitted(picture: Pixels, kind: Image.Resampling = Image.Resampling.BOX) -> Pixels:
    """Bring the longer side of a picture, (H, W) or (H, W, 3), to ``LARGEST`` where it is above."""
    height, width = picture.shape[:2]
    if (share := LARGEST / max(height, width)) >= 1:
        return picture
    size = (max(1, round(width * share)), max(1, round(height * share)))
    factor = 1 if kind == Image.Resampling.NEAREST else int(0.5 / share)
    return np.asarray(thinned(picture, factor).resize(size, kind))


def thinned(photo: Pixels, factor: int) -> Image.Image:
    """Shrink a picture by a whole factor some rows at a time; below 2 it stays."""
    if factor < 2:
        return Image.fromarray(photo)
    parts = [photo[y : y + 64 * factor] for y in range(0, len(photo), 64 * factor)]
    return Image.fromarray(np.concatenate([Image.fromarray(p).reduce(factor) for p in parts]))


def confusion(matrix: NDArray[np.int64], classes: Sequence[str], title: str = "") -> Pixels:
    """Draw a confusion matrix (C, C), each row as shares of a true class: uint8 (H, W, 3)."""
    cell, font = 34, ImageFont.load_default(12)
    side = int(max(font.getlength(name) for name in classes)) + 12
    count, top = len(classes), side + 28
    page = Image.new("RGB", (side + cell * count + 12, top + cell * count + 12), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((8, 6), title, INK, ImageFont.load_default(14))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    for row, name in enumerate(classes):
        y = top + row * cell
        draw.text((side - 6, y + cell // 2), name, INK, font, anchor="rm")
        upright = Image.new("RGB", (side - 6, 18), PAPER)  # names of columns read upwards
        ImageDraw.Draw(upright).text((0, 2), name, INK, font)
        page.paste(upright.rotate(90, expand=True), (side + row * cell + 8, top - side + 4))
        for column in range(count):
            share, x = float(shares[row, column]), side + column * cell
            fill = tuple(round(255 + share * (end - 255)) for end in (8, 48, 107))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill, RIGHT)
            if share >= 0.005:
                ink = PAPER if share > 0.5 else INK
                middle = (x + cell // 2 - 1, y + cell // 2 - 1)
                draw.text(middle, f"{100 * share:.0f}", ink, font, anchor="mm")
    return np.asarray(page)


def shrink(picture: Pixels, width: int) -> Pixels:
    """Bring a picture that is wider than ``width`` pixels down to it: uint8 (H, W, 3)."""
    if picture.shape[1] <= width:
        return picture
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
