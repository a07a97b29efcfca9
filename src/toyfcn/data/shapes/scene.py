"""A photo of the toy VOC and its mask: a few paper-like objects on a cluttered, lit, noisy ground.

The class of an object is its *shape*; color, texture, size, turn and light are drawn independently
of it, so that a network has to look at outlines.

Photos are painted in OKLab (lightness, green-red, blue-yellow), where a Euclidean distance is
a contrast that the eye agrees with, and become sRGB at the very end. Outlines are rasterized
at `FINE` samples a pixel and axis; photo and mask are both read off these samples.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Floats = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]

VOID = 255
FINE = 4  # samples a pixel along each axis
EXTENT = (26.0, 34.0)  # diameter of an object's circumscribed circle, pixels
OBJECTS = (4, 7)  # on 96x96 pixels; other sizes keep the density
SEEN = 0.7  # least share of a whole object that stays visible
ROOM = 25  # pixels from an object's center that its shadow may reach
PURE = 0.85  # a pixel that no region owns to this share is void
CONTRAST = 0.22  # least OKLab distance of an object's colors to what surrounds it


def _star(points: int, inner: float) -> Floats:
    """Return the corners of a star in the unit circle, float32 (2 * points, 2)."""
    angle = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1).astype(np.float32)


def _polygon(corners: int) -> Floats:
    """Return the corners of a regular polygon in the unit circle, float32 (corners, 2)."""
    return _star(corners, 1.0)[::2]


def _cross(half: float) -> Floats:
    """Return a cross in the unit circle, float32 (12, 2), with bars 2 * `half` thick."""
    tip = math.sqrt(1 - half * half)
    arm = np.array([[-half, -tip], [half, -tip], [half, -half]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    arms = [arm @ np.linalg.matrix_power(turn, k) for k in range(4)]
    return np.concatenate(arms).astype(np.float32)


def _area(corners: Floats) -> float:
    """Return the area of a polygon, in squares of its unit."""
    x, y = corners.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


# Every shape is an outline and, where it has one, a hole. All fill the unit circle and are fat.
OUTLINES: dict[str, tuple[Floats, ...]] = {
    "disc": (_polygon(48),),
    "square": (_polygon(4),),
    "triangle": (_polygon(3),),
    "star": (_star(5, 0.55),),
    "cross": (_cross(0.38),),
    "ring": (_polygon(48), 0.5 * _polygon(48)),
}
CLASSES: tuple[str, ...] = ("background", *OUTLINES)
AREAS = (0.0, *(_area(outer) - sum(map(_area, holes)) for outer, *holes in OUTLINES.values()))
SPECKS = (_polygon(3), _polygon(4), _polygon(12))


def _colors(rng: np.random.Generator, count: int, key: float) -> Floats:
    """Return OKLab colors, float32 (count, 3, 1, 1), of five hues spaced from `key` (radians).

    Grounds, clutter and objects all draw from here: a color tells nothing about a class.
    """
    hue = key + rng.integers(0, 5, count) * (2 * np.pi / 5) + rng.normal(0, 0.15, count)
    chroma = rng.uniform(0.04, 0.16, count)
    light = rng.uniform(0.4, 0.95, count)
    lab = np.stack([light, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    return lab.astype(np.float32)[..., None, None]


def _srgb(lab: Floats) -> Floats:
    """Turn OKLab (3, h, w) into sRGB (h, w, 3) in 0..1, both float32 (Ottosson's matrices)."""
    to_cone = [[1, 0.3963378, 0.2158038], [1, -0.1055613, -0.0638542], [1, -0.0894842, -1.2914855]]
    to_rgb = [
        [4.0767417, -3.3077116, 0.2309699],
        [-1.2684380, 2.6097574, -0.3413194],
        [-0.0041961, -0.7034186, 1.7076147],
    ]
    cone = (np.array(to_cone, np.float32) @ lab.reshape(3, -1)) ** 3
    linear = np.clip(np.array(to_rgb, np.float32) @ cone, 0, 1)
    curved = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.moveaxis(curved.reshape(lab.shape), 0, -1)


def _smooth(rng: np.random.Generator, cells: int, size: tuple[int, int]) -> Floats:
    """Return soft noise in about 0..1, float32 `size`, with `cells` bumps along each axis."""
    coarse = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))


def _texture(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Return how much of a second color shows at each pixel of a grid, 0..1, float32 (h, w)."""
    turn = rng.uniform(0, 2 * np.pi)
    wave = 2 * np.pi / rng.uniform(5, 10)
    u = wave * (x * math.cos(turn) + y * math.sin(turn)) + rng.uniform(0, 2 * np.pi)
    v = wave * (y * math.cos(turn) - x * math.sin(turn)) + rng.uniform(0, 2 * np.pi)
    level: Floats = np.full_like(u, -1)  # plain, twice as often as any other
    match rng.integers(7):
        case 0:  # stripes
            level = 2 * np.sin(u)
        case 1:  # checks
            level = 3 * np.sin(u) * np.sin(v)
        case 2:  # dots
            level = 1.5 * (np.sin(u) + np.sin(v) - 0.7)
        case 3:  # gradient
            level = (x * math.cos(turn) + y * math.sin(turn)) / 24
        case 4:  # speckle
            level = 4 * (_smooth(rng, max(u.shape) // 3, (u.shape[0], u.shape[1])) - 0.6)
    return np.asarray(np.clip(0.5 + level, 0, 1))


def _centered(h: int, w: int) -> tuple[Floats, Floats]:
    """Return the y, float32 (h, 1), and x, (1, w), of pixels, seen from the middle."""
    y, x = (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in (h, w))
    return y[:, None], x[None, :]


def _mix(photo: Floats, share: Floats, color: Floats) -> None:
    """Lay `color`, (3, 1, 1) or (3, h, w), over `photo` in place, as far as `share`, (h, w)."""
    photo += share * (color - photo)


def _turn(angle: float) -> Floats:
    """Return the matrix, float32 (2, 2), that turns row vectors by `angle` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]], np.float32)


def _coverage(layer: Image.Image) -> Floats:
    """Average a fine 0/255 layer to the share of each pixel, float32 (h, w) in 0..1."""
    return np.asarray(layer.reduce(FINE), np.float32) / 255


def _ground(rng: np.random.Generator, size: tuple[int, int], key: float) -> Floats:
    """Return a ground without objects, OKLab float32 (3, h, w)."""
    h, w = size
    y, x = _centered(h, w)
    first, second, third = _colors(rng, 3, key)
    photo = np.broadcast_to(first, (3, h, w)).copy()
    turn = rng.uniform(0, 2 * np.pi)
    slope = (x * math.cos(turn) + y * math.sin(turn)) / max(h, w)
    _mix(photo, np.clip(slope + _smooth(rng, 4, size), 0, 1), second)
    _mix(photo, 0.3 * _texture(rng, x, y), third)

    crowd = h * w / 96**2
    for color in _colors(rng, round(5 * crowd), key):  # soft blobs
        far = (x - w * rng.uniform(-0.5, 0.5)) ** 2 + (y - h * rng.uniform(-0.5, 0.5)) ** 2
        _mix(photo, rng.uniform(0.3, 0.8) * np.exp(-far / rng.uniform(6, 16) ** 2), color)
    for color in _colors(rng, 4, key):  # strokes and specks, a color at a time
        layer = Image.new("L", (w * FINE, h * FINE))
        pen = ImageDraw.Draw(layer)
        for _ in range(rng.poisson(1.5 * crowd)):
            start, step = rng.uniform(0, 1, 2) * (w, h), rng.normal(0, 12, (3, 2))
            path = np.cumsum([start, step[0], step[0] + step[1] / 2, step[0] + step[2] / 2], axis=0)
            width = int(rng.integers(2, 2 * FINE))
            pen.line((path * FINE).ravel().tolist(), 255, width, joint="curve")
        for _ in range(rng.poisson(5 * crowd)):
            corners = SPECKS[rng.integers(3)] * rng.uniform(0.7, 2.8)
            spot = corners @ _turn(rng.uniform(0, 2 * np.pi)) + rng.uniform(0, 1, 2) * (w, h)
            pen.polygon((spot * FINE).ravel().tolist(), 255)
        _mix(photo, rng.uniform(0.5, 0.9) * _coverage(layer), color)
    return photo


def _outline(rng: np.random.Generator, kind: int) -> tuple[list[Floats], float]:
    """Return a class's polygons, scaled, turned, a bit bent, in pixels around 0, and their area."""
    bend = np.array([[rng.uniform(0.85, 1.18), rng.uniform(-0.12, 0.12)], [0, 1]], np.float32)
    warp = _turn(rng.uniform(0, 2 * np.pi)) @ bend @ _turn(rng.uniform(0, 2 * np.pi))
    polygons = [corners @ warp for corners in OUTLINES[CLASSES[kind]]]
    scale = rng.uniform(*EXTENT) / 2 / float(np.linalg.norm(polygons[0], axis=1).max())
    area = AREAS[kind] * float(bend[0, 0]) * scale**2
    return [corners * scale for corners in polygons], area


def _place(
    rng: np.random.Generator, owner: Bytes, spare: list[float]
) -> tuple[int, tuple[int, int, int, int], Image.Image] | None:
    """Place one more object: its class, its box on the photo and its fine layer there.

    `owner` says whose each sample is, uint8 (FINE * h, FINE * w), where 0 is the ground, and
    `spare` how many more samples each owner may lose to those above it. Both are updated.
    The box (left, top, right, bottom) in pixels has room for a shadow. None: 30 tries failed.
    """
    high, wide = owner.shape[0] // FINE, owner.shape[1] // FINE
    for _ in range(30):
        kind = int(rng.integers(1, len(CLASSES)))
        polygons, area = _outline(rng, kind)
        center = rng.uniform(0, 1, 2) * (wide, high)
        left, top = np.maximum(center - ROOM, 0).astype(int).tolist()
        right, bottom = np.minimum(center + ROOM, (wide, high)).astype(int).tolist()
        layer = Image.new("L", ((right - left) * FINE, (bottom - top) * FINE))
        for fill, corners in zip((255, 0), polygons, strict=False):
            fine = (corners + center - (left, top)) * FINE - 0.5
            ImageDraw.Draw(layer).polygon(fine.ravel().tolist(), fill)
        there = owner[top * FINE : bottom * FINE, left * FINE : right * FINE]
        covers = np.asarray(layer) > 0
        lost = np.bincount(there[covers], minlength=len(spare)).tolist()
        left_over = [has - less for has, less in zip(spare, lost, strict=True)]
        left_over.append(sum(lost) - SEEN * area * FINE**2)
        if min(left_over) >= 0:
            there[covers] = len(spare)
            spare[:] = left_over
            return kind, (left, top, right, bottom), layer
    return None


def _paint(
    rng: np.random.Generator, photo: Floats, layer: Image.Image, light: Floats, key: float
) -> None:
    """Paint an object into its box of the photo, OKLab (3, h, w): shadow, texture and shading.

    `layer` is its fine layer there, `light` the direction (x, y) in which light travels.
    """
    cover = _coverage(layer)
    soft = layer.reduce(FINE).filter(ImageFilter.GaussianBlur(1.8))
    halo = np.asarray(soft, np.float32) / 255
    near = photo[:, (halo > 0.05) & (cover < 0.5)][:, ::3]
    drop = (-rng.uniform(1.5, 3) * light).tolist()
    there = (1, 0, drop[0], 0, 1, drop[1])
    shadow = soft.transform(soft.size, Image.Transform.AFFINE, there, Image.Resampling.BILINEAR)
    photo[0] *= 1 - rng.uniform(0.15, 0.4) * np.asarray(shadow, np.float32) / 255

    # Of 16 colors take the first two that stand out from 90 % of what is near, else the best.
    colors = _colors(rng, 16, key)
    apart = np.square(colors[..., 0] - near).sum(1) > CONTRAST**2
    order = np.argsort(-np.minimum(apart.mean(1), 0.9), kind="stable")
    first, second = colors[order[:2]]
    y, x = _centered(cover.shape[0], cover.shape[1])
    paper = np.broadcast_to(first, photo.shape).copy()
    _mix(paper, _texture(rng, x, y), second)
    down, right = np.gradient(halo)
    rim = light[0] * right + light[1] * down
    slope = light[0] * x + light[1] * y
    paper[0] += 0.25 * rim - rng.uniform(0, 0.006) * slope
    _mix(photo, cover, paper)


def _mask(owner: Bytes, kinds: list[int]) -> Bytes:
    """Read the mask off the samples, uint8 (h, w): a class, or VOID where regions meet.

    `kinds` holds the class of every owner. No 2x2 block is all void: a line is one pixel thin.
    """
    owns = [_coverage(Image.fromarray((owner == k) * np.uint8(255))) for k in range(len(kinds))]
    share = np.max(owns, axis=0)
    label = np.array(kinds, np.uint8)[np.argmax(owns, axis=0)]
    void = share < PURE
    for y, x in np.argwhere(void[:-1, :-1] & void[1:, :-1] & void[:-1, 1:] & void[1:, 1:]):
        block = void[y : y + 2, x : x + 2]
        if block.all():
            block[np.unravel_index(share[y : y + 2, x : x + 2].argmax(), (2, 2))] = False
    return np.where(void, np.uint8(VOID), label)


def scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Draw one photo (RGB) and its mask (P, VOC's palette) of `size` (height, width) pixels."""
    h, w = size
    key, angle = rng.uniform(0, 2 * np.pi, 2)
    light = np.array([math.cos(angle), math.sin(angle)], np.float32)
    photo = _ground(rng, size, key)
    owner = np.zeros((h * FINE, w * FINE), np.uint8)
    spare, kinds = [math.inf], [0]
    for _ in range(max(1, round(rng.integers(OBJECTS[0], OBJECTS[1] + 1) * h * w / 96**2))):
        if placed := _place(rng, owner, spare):
            kind, (left, top, right, bottom), layer = placed
            kinds.append(kind)
            _paint(rng, photo[:, top:bottom, left:right], layer, light, key)
    y, x = _centered(h, w)
    slope = (light[0] * x + light[1] * y) / max(h, w)
    photo[0] += rng.uniform(-0.03, 0.05) - rng.uniform(0, 0.2) * slope
    noise = rng.uniform(0.008, 0.025) * rng.standard_normal((h, w, 3), np.float32)
    pixels = np.clip(255 * (_srgb(photo) + noise) + 0.5, 0, 255).astype(np.uint8)
    mask = Image.fromarray(_mask(owner, kinds))
    mask.putpalette(_palette())
    return Image.fromarray(pixels), mask


@cache
def _palette() -> list[int]:
    """Return VOC's palette, 768 values: the bits of an index spread over red, green and blue."""
    return [
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
        for index in range(256)
        for channel in range(3)
    ]
