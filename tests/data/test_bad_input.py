"""Broken and odd files: each gives one line that names the file, or what its owner meant by it."""

import builtins
import io
import os
import re
import resource
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from toyfcn.data.source import FileSource, palette
from toyfcn.data.tools.check import check_source
from toyfcn.data.voc import voc_source

WIDTH, HEIGHT = 24, 16
PALETTE = palette()
ROOT = os.geteuid() == 0


# ---- sound files, as bytes ----


@cache
def pixels(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth photo whose corners differ: red grows to the right, green grows downwards."""
    y, x = np.mgrid[:height, :width]
    shades = [x * 255 // width, y * 255 // height, np.full_like(x, 60)]
    return np.stack(shades, axis=-1).astype(np.uint8)


@cache
def labels(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    found = np.zeros((height, width), np.uint8)
    found[2:12, 3:15], found[4:10, 5:12], found[-1, -1] = 255, 7, 20
    return found


def coded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photo_bytes(kind: str = "JPEG", **options) -> bytes:
    quality = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    return coded(pixels(), kind, **quality | options)


def mask_bytes(values: np.ndarray | None = None) -> bytes:
    mask = Image.fromarray(labels() if values is None else values)
    mask.putpalette(PALETTE)
    return coded(mask)


def cmyk_bytes() -> bytes:
    return coded(Image.fromarray(pixels()).convert("CMYK"), "JPEG", quality=95)


def turned_bytes(orientation: int, kind: str = "JPEG") -> bytes:
    """The photo stored turned, with the EXIF tag that turns it back."""
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    image = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image if turn is None else image.transpose(Image.Transpose(turn))
    return coded(stored, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def animated_bytes(kind: str) -> bytes:
    """Three frames, the first of them the photo."""
    frames = [Image.fromarray(p) for p in (pixels(), 255 - pixels(), pixels()[::-1].copy())]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return coded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **lossless)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, color: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0))
    colors = chunk(b"PLTE", bytes(PALETTE)) if color == 3 else b""
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + colors + body


def jpeg_of(width: int, height: int, **options) -> bytes:
    """A JPEG whose frame header claims another size."""
    old = photo_bytes(**options)
    at = re.search(rb"\xff[\xc0\xc2]\x00\x11\x08", old).end()
    return old[:at] + struct.pack(">HH", height, width) + old[at + 4 :]


def gif_of(width: int, height: int) -> bytes:
    old = photo_bytes("GIF")
    size = struct.pack("<HH", width, height)
    at = old.index(b",\0\0\0\0" + struct.pack("<HH", WIDTH, HEIGHT)) + 5
    return old[:6] + size + old[10:at] + size + old[at + 4 :]


def bmp_of(width: int, height: int) -> bytes:
    old = photo_bytes("BMP")
    return old[:18] + struct.pack("<ii", width, height) + old[26:]


def flipped(content: bytes, seed: int, start: int = 0, stop: int | None = None) -> bytes:
    """One to eight bytes changed, somewhere."""
    rng, changed = np.random.default_rng(seed), bytearray(content)
    for at in rng.integers(start, stop or len(content), rng.integers(1, 9)):
        changed[at] ^= int(rng.integers(1, 256))
    return bytes(changed)


PAIR = photo_bytes(), mask_bytes()


# ---- the cases ----


@dataclass(frozen=True)
class Files:
    """The files of one id in a tree."""

    photo: Path
    mask: Path
    list: Path


Spoil = Callable[[Files], object]


@dataclass(frozen=True)
class Case:
    """What is done to one id's files, and what is to come of it.

    ``blamed`` is the file that the message names: photo, mask or list; None where the pair is to be
    read; "any" where either will do, but nothing else. ``like`` is the photo that is expected.
    """

    name: str
    spoil: Spoil
    blamed: str | None
    like: np.ndarray | None = None
    ids: tuple[str, ...] | None = None  # that a good list is to give
    tolerance: float = 6


CASES: list[Case] = []


def case(name: str, spoil: Spoil, blamed: str | None, **expected) -> None:
    CASES.append(Case(name, spoil, blamed, **expected))


def holds(name: str, part: str, content: bytes, blamed: str | None, **expected) -> None:
    """Add a case: the file of ``part`` has other content."""
    case(name, lambda files: getattr(files, part).write_bytes(content), blamed, **expected)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace_it(path: Path) -> None:
        path.unlink()
        make(path)

    return replace_it


def two_links(path: Path) -> None:
    other = path.with_name(f"{path.name}.other")
    path.symlink_to(other)
    other.symlink_to(path)


SCRAPS = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"a photo of a cat\n",
    "lines": b"P6\n# not\n# really\n",
    "page": b"<!DOCTYPE html>\n<title>404 Not Found</title>\n",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "zeros": bytes(4000),
    "utf-16": "ein Bild".encode("utf-16"),
    "JPEG's first bytes": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "PNG's first bytes": b"\x89PNG\r\n\x1a\n",
    "GIF's first bytes": b"GIF89a",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}
for what, content in SCRAPS.items():
    holds(f"photo: {what}", "photo", content, "photo")
    holds(f"mask: {what}", "mask", content, "mask")
for seed in range(8):
    noise = np.random.default_rng(seed).bytes(500)
    holds(f"photo: noise {seed}", "photo", noise, "photo")
    holds(f"mask: noise {seed}", "mask", noise, "mask")

NOTHING_THERE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "folder": instead(Path.mkdir),
    "full folder": instead(lambda path: (path.mkdir(), (path / "x.png").write_bytes(b""))),
    "dangling": instead(lambda path: path.symlink_to("gone")),
    "loop": instead(lambda path: path.symlink_to(path.name)),
    "loop of two": instead(two_links),
    "pipe": instead(os.mkfifo),
    "device": instead(lambda path: path.symlink_to("/dev/zero")),
    "link to the folder": instead(lambda path: path.symlink_to(".")),
    "through a file": instead(lambda path: path.symlink_to("/dev/null/x")),
    "link too long": instead(lambda path: path.symlink_to("a" * 300)),
}
for what, spoil in NOTHING_THERE.items():
    for part in ("photo", "mask", "list"):
        case(f"{part}: {what}", lambda files, p=part, s=spoil: s(getattr(files, p)), part)
for part in ("photo", "mask"):

    def linked(files: Files, part: str = part) -> None:
        path = getattr(files, part)
        path.symlink_to(path.rename(path.with_suffix(".real")))

    case(f"{part}: a link to it", linked, None, like=pixels())

CUT = {  # content, bytes at the end without which the picture is still whole
    "JPEG": (photo_bytes(), 2),
    "progressive": (photo_bytes(progressive=True), 2),
    "CMYK": (cmyk_bytes(), 2),
    "EXIF": (turned_bytes(6), 2),
    "PNG": (photo_bytes("PNG"), 24),
    "WEBP": (photo_bytes("WEBP"), 2),
    "BMP": (photo_bytes("BMP"), 2),
    "GIF": (photo_bytes("GIF"), 4),
}
for kind, (content, spare) in CUT.items():
    for end in np.linspace(1, len(content) - spare - 1, 24 if kind == "JPEG" else 9).astype(int):
        holds(f"photo: {kind} cut at {end}", "photo", content[:end], "photo")
for end in np.linspace(1, len(mask_bytes()) - 25, 24).astype(int):
    holds(f"mask: cut at {end}", "mask", mask_bytes()[:end], "mask")

color = Image.fromarray(pixels())
MODES = {
    "RGB": coded(color),
    "RGBA": coded(color.convert("RGBA")),
    "1": coded(color.convert("1")),
    "LA": coded(color.convert("LA")),
    "CMYK": coded(color.convert("CMYK"), "TIFF"),
    "16 bits": coded(labels().astype(np.uint16)),
    "16 bits in TIFF": coded(labels().astype(np.uint16), "TIFF"),
    "32 bits": coded(labels().astype(np.int32), "TIFF"),
    "floats": coded(labels().astype(np.float32), "TIFF"),
    "RGB WebP": photo_bytes("WEBP"),
    "JPEG": photo_bytes(),
    "gray JPEG": coded(labels() * 0, "JPEG"),
    "blurred JPEG": coded(np.minimum(labels(), 20), "JPEG", quality=30),
    "CMYK JPEG": cmyk_bytes(),
}
for mode, content in MODES.items():
    holds(f"mask: mode {mode}", "mask", content, "mask")
holds("the photo's bytes in the mask", "mask", photo_bytes("PNG"), "mask")
holds("gray mask", "mask", coded(labels()), None, like=pixels())
for kind in ("BMP", "TIFF"):
    mask = Image.open(io.BytesIO(mask_bytes()))
    holds(f"mask: {kind}", "mask", coded(mask, kind), None, like=pixels())
case(
    "files swapped",
    lambda files: (files.photo.write_bytes(mask_bytes()), files.mask.write_bytes(photo_bytes())),
    "mask",
)

for dx, dy in [(1, 0), (0, 1), (-1, 0), (0, -1), (5, 5), (HEIGHT - WIDTH, WIDTH - HEIGHT), (99, 0)]:
    size = (WIDTH + dx, HEIGHT + dy)
    for kind in ("JPEG", "PNG"):
        other = coded(pixels(*size), kind)
        holds(f"photo: {size} in {kind}", "photo", other, "photo")
    values = np.zeros(size[::-1], np.uint8)
    holds(f"mask: {size}", "mask", mask_bytes(values), "mask")
for size in ((1, 1), (1, HEIGHT), (WIDTH, 1)):
    holds(f"mask: {size}", "mask", mask_bytes(np.zeros(size[::-1], np.uint8)), "mask")

for value in (*range(21, 255, 16), 254):
    for at in ((0, 0), (HEIGHT - 1, WIDTH - 1)):
        values = labels().copy()
        values[at] = value
        holds(f"mask: value {value} at {at}", "mask", mask_bytes(values), "mask")
for value in (0, 20, 255):
    values = np.full((HEIGHT, WIDTH), value, np.uint8)
    holds(f"mask: all {value}", "mask", mask_bytes(values), None, like=pixels())

HUGE = {
    "PNG 60000": png_of(60_000, 60_000, 2),
    "PNG 2^31": png_of(2**31 - 1, 2**31 - 1, 2),
    "PNG wide": png_of(2**31 - 1, 1, 2),
    "PNG 2^32": png_of(2**32 - 1, 2**32 - 1, 2),
    "PNG 12000": png_of(12_000, 12_000, 2),
    "PNG 0": png_of(0, HEIGHT, 2),
    "JPEG 65500": jpeg_of(65_500, 65_500),
    "JPEG 12000": jpeg_of(12_000, 12_000),
    "JPEG 0": jpeg_of(0, HEIGHT),
    "progressive 65500": jpeg_of(65_500, 65_500, progressive=True),
    "GIF 65500": gif_of(65_500, 65_500),
    "BMP 60000": bmp_of(60_000, 60_000),
    "BMP 2^31": bmp_of(2**31 - 1, 2**31 - 1),
}
for what, content in HUGE.items():
    holds(f"photo: huge {what}", "photo", content, "photo")
for colors in (0, 3):
    for side in (12_000, 60_000, 2**31 - 1, 2**32 - 1):
        holds(f"mask: huge {side} {colors}", "mask", png_of(side, side, colors), "mask")

gray = np.array(color.convert("L"))
gray_rgb = np.stack([gray] * 3, axis=-1)
SOUND: dict[str, tuple[bytes, np.ndarray | None, float]] = {
    "PNG": (photo_bytes("PNG"), pixels(), 0),
    "WEBP": (photo_bytes("WEBP"), pixels(), 0),
    "BMP": (photo_bytes("BMP"), pixels(), 0),
    "TIFF": (photo_bytes("TIFF"), pixels(), 0),
    "progressive": (photo_bytes(progressive=True), pixels(), 6),
    "4:4:4": (photo_bytes(subsampling=0), pixels(), 6),
    "gray JPEG": (coded(gray, "JPEG", quality=95), gray_rgb, 6),
    "gray PNG": (coded(gray), gray_rgb, 0),
    "gray of 16 bits": (coded(gray.astype(np.uint16) * 257), gray_rgb, 1),
    "gray of 16 bits in TIFF": (coded(gray.astype(np.uint16) * 257, "TIFF"), gray_rgb, 1),
    "black and white": (coded(Image.fromarray(gray > 99)), (gray_rgb > 99) * np.uint8(255), 0),
    "CMYK JPEG": (cmyk_bytes(), pixels(), 6),
    "CMYK TIFF": (coded(color.convert("CMYK"), "TIFF"), pixels(), 6),
    "RGBA PNG": (coded(color.convert("RGBA")), pixels(), 0),
    "LA PNG": (coded(color.convert("LA")), gray_rgb, 0),
    "palette PNG": (coded(color.quantize(256)), pixels(), 24),
    "GIF": (photo_bytes("GIF"), pixels(), 60),
    "animated GIF": (animated_bytes("GIF"), pixels(), 60),
    "animated PNG": (animated_bytes("PNG"), pixels(), 0),
    "animated WebP": (animated_bytes("WEBP"), pixels(), 0),
    "more after the end": (photo_bytes() + b"\0" * 500, pixels(), 6),
}
for what, (content, like, tolerance) in SOUND.items():
    holds(f"photo: {what}", "photo", content, None, like=like, tolerance=tolerance)
for orientation in range(1, 9):
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        content = turned_bytes(orientation, kind)
        name = f"photo: EXIF {orientation} in {kind}"
        holds(name, "photo", content, None, like=pixels(), tolerance=60 if kind == "WEBP" else 6)
for orientation in (0, 9, 255):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = photo_bytes(exif=exif)
    holds(f"photo: EXIF {orientation}, which is none", "photo", content, None, like=pixels())

FLIPPED = {"JPEG": 40, "progressive": 15, "CMYK": 15, "EXIF": 30, "PNG": 40, "WEBP": 15, "GIF": 20}
for kind, count in FLIPPED.items():
    content = CUT[kind][0]
    stop = 80 if kind == "EXIF" else None  # its tags are among the first bytes
    for seed in range(count):
        changed = flipped(content, seed, stop=stop)
        holds(f"photo: {kind} flipped {seed}", "photo", changed, "any")
for seed in range(40):
    holds(f"mask: flipped {seed}", "mask", flipped(mask_bytes(), seed), "any")
for seed in range(20):  # past the signature and the palette's sum, before the pixels
    holds(f"mask: header flipped {seed}", "mask", flipped(mask_bytes(), seed, 8, 45), "any")
    changed = flipped(photo_bytes("PNG"), seed, 8, 60)
    holds(f"photo: header flipped {seed}", "photo", changed, "any")

# shades without a range: 0..255, 0..1 and 0..2^31 are all in use
holds("photo: floats", "photo", coded(gray.astype(np.float32), "TIFF"), "photo")
holds("photo: 32 bits", "photo", coded(gray.astype(np.int32), "TIFF"), "photo")

GOOD_LISTS: dict[str, bytes] = {
    "CRLF": b"x\r\ny\r\n",
    "CR": b"x\ry\r",
    "BOM": b"\xef\xbb\xbfx\ny\n",
    "BOM and CRLF": b"\xef\xbb\xbfx\r\ny\r\n",
    "blank lines": b"\n\nx\n\n \t\ny\n\n",
    "no last line end": b"x\ny",
    "spaces around": b"  x \ny\t\n",
    "form feed": b"x\x0cy\n",
}
for what, content in GOOD_LISTS.items():
    holds(f"list: {what}", "list", content, None, ids=("x", "y"))
BAD_LISTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \r\n\t\n",
    "only a BOM": b"\xef\xbb\xbf",
    "Latin-1": "x\nBär\n".encode("latin-1"),
    "UTF-16": "x\ny\n".encode("utf-16"),
    "UTF-32": "x\ny\n".encode("utf-32"),
    "a surrogate": b"x\n\xed\xa0\x80\n",
    "overlong": b"x\n\xc0\xaf\n",
    "a photo": photo_bytes(),
    "twice": b"x\ny\nx\n",
    "twice at once": b"x\nx\n",
    "twice with spaces": b"x\n x\r\n",
    "a NUL": b"x\ny\0\n",
    "NULs": bytes(64),
    "a bell": b"x\n\x07\n",
    "an escape": b"x\n\x1b[31my\n",
    "up": b"x\n../x\n",
    "up and away": b"x\n../../../../etc/passwd\n",
    "absolute": b"x\n/etc/passwd\n",
    "below": b"x\nJPEGImages/x\n",
    "backslashes": b"x\n..\\x\n",
    "dot": b"x\n.\n",
    "dots": b"x\n..\n",
    "two columns": b"x 1\ny -1\n",
    "files": b"/JPEGImages/x.jpg /SegmentationClass/x.png\n",
    "comma": b"x, y\n",
    "with suffix": b"x.jpg\n",
    "unknown": b"x\nz\n",
    "other case": b"X\n",
    "a comment": b"# ids\nx\n",
    "too long": b"x\n" + b"a" * 252 + b"\n",
    "far too long": b"x\n" + b"a" * 5000 + b"\n",
    "too long in bytes": "x\n{}\n".format("ä" * 200).encode(),
    "invisible": "x\n\u200by\n".encode(),
    "right to left": "x\n\u202ey\n".encode(),
}
for what, content in BAD_LISTS.items():
    holds(f"list: {what}", "list", content, "list")


# ---- the trees ----


def plant(folder: Path, *ids: str, split: str = "train") -> FileSource:
    """Make (or add to) a VOC tree of sound pairs."""
    source = voc_source(folder, name="tree")
    for part in (source.images, source.masks, source.lists):
        part.mkdir(parents=True, exist_ok=True)
    for name in ids:
        source.image_path(name).write_bytes(PAIR[0])
        source.mask_path(name).write_bytes(PAIR[1])
    (source.lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))
    return source


def files_of(source: FileSource, name: str, split: str = "train") -> Files:
    return Files(source.image_path(name), source.mask_path(name), source.lists / f"{split}.txt")


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    return plant(tmp_path, "x", "y")


def told(read: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the caller looks at the message
        read()
    assert type(caught.value) is ValueError  # and no UnicodeDecodeError
    message = str(caught.value)
    assert message.isprintable() and len(message.splitlines()) == 1
    return message


def everything(source: FileSource) -> None:
    for name in source.ids("train"):
        source.pair(name)


def faults(source: FileSource, **options) -> list[dict[str, str]]:
    found = check_source(source, train_split="train", scoring_splits=[], workers=1, **options)
    for fault in found["faults"]:
        assert fault["reason"] and len(fault["reason"].splitlines()) == 1
    return found["faults"]


def test_the_corpus_is_large():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 300


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "error::RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case(source, case):
    files = files_of(source, "x")
    case.spoil(files)
    start, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = True
    if case.blamed == "any":
        try:
            ids = source.ids("train")
            image, mask = source.pair("x")
            refused = False
        except ValueError:
            message = told(partial(everything, source))
            assert str(files.photo) in message or str(files.mask) in message
        else:
            assert (image.shape, mask.shape) == ((3, HEIGHT, WIDTH), (HEIGHT, WIDTH))
            assert set(mask.unique().tolist()) <= {*range(21), 255}
    elif case.blamed:
        assert str(getattr(files, case.blamed)) in told(partial(everything, source))
    else:
        ids = source.ids("train")
        assert ids == (case.ids or ("x", "y"))
        image, mask = source.pair("x")
        assert str(image.dtype) == str(mask.dtype) == "torch.uint8"
        if case.like is not None:
            off = np.abs(image.permute(1, 2, 0).numpy().astype(int) - case.like)
            assert off.mean() <= case.tolerance
        if not case.name.startswith("mask: all"):
            np.testing.assert_array_equal(mask, labels())
        refused = False
    found = faults(source)
    assert bool(found) == refused
    if refused and case.blamed != "list":
        assert {fault["file"] for fault in found} <= {str(files.photo), str(files.mask)}
    assert time.perf_counter() - start < 5
    if "huge" in case.name:
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - memory < 64 * 1024  # KiB


def test_orientations_are_what_pillow_undoes():
    for orientation in range(1, 9):
        with Image.open(io.BytesIO(turned_bytes(orientation, "PNG"))) as image:
            np.testing.assert_array_equal(ImageOps.exif_transpose(image), pixels())


# ---- no right to read ----


@pytest.mark.skipif(ROOT, reason="root may read everything")
@pytest.mark.parametrize("part", ["photo", "mask", "list"])
def test_an_unreadable_file(source, part):
    path = getattr(files_of(source, "x"), part)
    path.chmod(0)
    assert str(path) in told(partial(everything, source))
    assert [fault["file"] for fault in faults(source)] == [str(path)]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "I/O")])
@pytest.mark.parametrize("part", ["photo", "mask", "list"])
def test_a_file_that_does_not_open(source, monkeypatch, part, error):
    path, real = getattr(files_of(source, "x"), part), io.open

    def refusing(file, *args, **kwargs):
        if isinstance(file, str | os.PathLike) and Path(file) == path:
            raise error
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refusing)
    monkeypatch.setattr(io, "open", refusing)
    assert str(path) in told(partial(everything, source))
    found = [fault["file"] for fault in faults(source)]
    assert found == [str(path)]


@pytest.mark.parametrize("part", ["photo", "mask", "list"])
def test_a_folder_that_may_not_be_looked_into(source, monkeypatch, part):
    path, real = getattr(files_of(source, "x"), part), os.stat

    def refusing(file, *args, **kwargs):
        if isinstance(file, str | os.PathLike) and Path(file).parent == path.parent:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refusing)
    assert str(path) in told(partial(everything, source))


# ---- all at once ----

EVERY = 6  # of the sure faults in photos and masks: about 40


def test_check_finds_every_fault_and_blames_no_sound_file(tmp_path):
    planted = [case for case in CASES if case.blamed in ("photo", "mask")][::EVERY]
    planted = [case for case in planted if case.name != "files swapped"]
    ids = [f"{index:04}" for index in range(2 * len(planted))]
    source = plant(tmp_path, *ids, "x", "y")
    assert faults(source) == []
    everything(source)
    blamed = set()
    for case, name in zip(planted, ids[::2], strict=True):
        files = files_of(source, name)
        case.spoil(files)
        both = "size" if case.name.startswith("photo: (") else case.blamed
        blamed.add(str(files.mask if both == "size" else getattr(files, both)))
    for index, name in enumerate(("twice", "up", "a NUL", "Latin-1", "too long")):
        path = source.lists / f"bad{index}.txt"
        path.write_bytes(BAD_LISTS[name])
        long = source.image_path("a" * 252), source.mask_path("a" * 252)
        blamed.update(map(str, long if name == "too long" else [path]))
    assert len(blamed) >= 40
    assert {fault["file"] for fault in faults(source)} == blamed


@pytest.mark.parametrize("ids", [("a",), ("a", "b", "c-1", "2007_000032", "ä")])
def test_an_untouched_tree_has_none(tmp_path, ids):
    source = plant(tmp_path, *ids)
    assert faults(source) == []
    assert source.ids("train") == ids
    everything(replace(source, name="the same"))
