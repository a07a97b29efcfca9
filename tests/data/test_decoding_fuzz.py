"""Files of every mode, depth, chunk order and metadata, against Pillow and what was written."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from toyfcn.data.image_io import image_size, read_image, read_mask

TURN = {  # of a stored array (H, W, …), to be upright: the EXIF standard's table of tag 274
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
COLOR_TYPES = {"gray": (0, 1), "rgb": (2, 3), "palette": (3, 1), "la": (4, 2), "rgba": (6, 4)}
DEPTHS = {"gray": (2, 4, 8, 16), "palette": (1, 2, 4, 8), "rgb": (8, 16), "la": (8, 16)}


def exif(orientation: int, kind: str = "SHORT", order: str = "<") -> bytes:
    """A TIFF header and one directory with tag 274 alone, of any type."""
    type_, value = {
        "SHORT": (3, struct.pack(f"{order}HH", orientation & 0xFFFF, 0)),
        "LONG": (4, struct.pack(f"{order}L", orientation)),
        "BYTE": (1, bytes([orientation & 0xFF, 0, 0, 0])),
        "ASCII": (2, b"%d\0\0\0" % (orientation % 10)),
    }[kind]
    entry = struct.pack(f"{order}HHL", 274, type_, 1) + value[:4]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}L", 8)
    return start + struct.pack(f"{order}H", 1) + entry + bytes(4)


def metadata(rng: random.Random) -> tuple[list[bytes], list[bytes]]:
    """Some EXIF blocks (without lead) and some XMP ones."""
    orientations = (*range(10), 65537)
    made = [
        exif(
            rng.choice(orientations), rng.choice(("SHORT",) * 4 + ("LONG", "BYTE", "ASCII")), order
        )
        for order in rng.choice(("", "", "<", ">"))
    ]
    return made, [XMP % rng.randrange(10) for _ in range(rng.choice((0, 0, 1)))]


def jpeg(rng: random.Random, array: np.ndarray) -> bytes:
    """A JPEG whose APP segments come in any order, some of them empty or of other programs."""
    mode = rng.choice(("L", "RGB", "RGB", "CMYK"))
    file = io.BytesIO()
    image = Image.fromarray(array).convert(mode)
    image.save(file, "JPEG", quality=rng.choice((50, 95)), progressive=rng.random() < 0.3)
    exifs, xmps = metadata(rng)
    segments = [(0xE1, b"Exif\0\0" + block) for block in exifs]
    segments += [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + block) for block in xmps]
    extra = [(0xE1, b""), (0xE1, b"Exif"), (0xED, b"Photoshop 3.0\0"), (0xFE, b"a comment")]
    segments += [part for part in extra if rng.random() < 0.3]
    rng.shuffle(segments)
    parts = [struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in segments]
    coded = file.getvalue()
    return coded[:2] + b"".join(parts) + coded[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rng: random.Random, samples: np.ndarray, kind: str, depth: int) -> bytes:
    """A PNG of samples (H, W, channels) below 2^depth, its other chunks in any allowed order."""
    height, width, _ = samples.shape
    rows = samples.reshape(height, -1)
    if depth == 16:
        packed = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = (rows[..., None] >> np.arange(depth)[::-1]) & 1
        packed = [np.packbits(row.ravel()).tobytes() for row in bits]
    body = zlib.compress(b"".join(b"\0" + row for row in packed))
    header = struct.pack(">IIBBBBB", width, height, depth, COLOR_TYPES[kind][0], 0, 0, 0)
    exifs, xmps = metadata(rng)
    loose = [chunk(b"eXIf", block) for block in exifs[:1]]
    loose += [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + block) for block in xmps]
    loose += [chunk(b"tEXt", b"Comment\0a word")] * rng.randrange(2)
    rng.shuffle(loose)
    colors = [(7 * i % 256, i, 255 - i) for i in range(2**depth)] if kind == "palette" else []
    table = chunk(b"PLTE", bytes(v for color in colors for v in color)) if colors else b""
    cut = rng.randrange(len(loose) + 1)
    half = rng.randrange(len(body))
    data = chunk(b"IDAT", body[:half]) + chunk(b"IDAT", body[half:])
    before, after = b"".join(loose[:cut]), b"".join(loose[cut:])
    ordered = table + before if rng.random() < 0.5 else before + table
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ordered + data + after + chunk(b"IEND", b"")
    )


def other(rng: random.Random, array: np.ndarray) -> bytes:
    """A WebP, BMP, GIF or TIFF as Pillow writes them."""
    form = rng.choice(("WEBP", "BMP", "GIF", "TIFF", "TIFF"))
    options: dict[str, object] = {}
    exifs, xmps = metadata(rng)
    if form == "WEBP":
        options = {"exif": exifs[0] if exifs else b"", "xmp": xmps[0] if xmps else b""}
    if form == "TIFF":
        tags = Image.Exif()
        tags[274] = rng.randrange(10)
        options["compression"] = "tiff_lzw" if 0 < tags[274] < 9 and rng.random() < 0.5 else "raw"
        if xmps:
            tags[700] = xmps[0]
        options["exif"] = tags
    file = io.BytesIO()
    Image.fromarray(array).convert(rng.choice(("L", "RGB"))).save(file, form, **options)
    return file.getvalue()


def orientation_of(file: bytes) -> int:
    """What Pillow finds once it has read the whole file."""
    with Image.open(io.BytesIO(file)) as image:
        image.load()
        found = image.getexif().get(274, 1)
    return found if isinstance(found, int) else 1


def one_file(seed: int, path: Path) -> str:
    """Write a file, read it in every way, compare; return what it was."""
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    height, width = rng.randint(1, 40), rng.randint(1, 40)
    form = rng.choice(("jpeg", "png", "png", "other"))
    kind, depth, samples = form, 8, np.empty(0)
    if form == "png":
        kind = rng.choice(tuple(COLOR_TYPES))
        depth = rng.choice(DEPTHS.get(kind, (8,)))
        shape = (height, width, COLOR_TYPES[kind][1])
        samples = numbers.integers(0, 2**depth, shape, np.uint16)
        coded = png(rng, samples, kind, depth)
    else:
        smooth = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
        coded = (jpeg if form == "jpeg" else other)(rng, smooth.astype(np.uint8))
    path.write_bytes(coded)
    read = read_image(path)
    assert image_size(path) == tuple(read.shape[1:])
    if depth == 16:
        expected = (samples[..., : 1 if kind in ("gray", "la") else 3] * 255.0 / 65535).round()
        expected = TURN.get(orientation_of(coded), lambda a: a)(expected)
    else:
        with Image.open(io.BytesIO(coded)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(
        read.permute(1, 2, 0), np.broadcast_to(expected, (*read.shape[1:], 3))
    )
    if kind in ("gray", "palette") and depth <= 8:
        labels = TURN.get(orientation_of(coded), lambda a: a)(samples[..., 0])
        np.testing.assert_array_equal(read_mask(path), labels)
    return f"{kind} {depth}"


@pytest.mark.parametrize(
    "seeds", [range(300), pytest.param(range(300, 2000), marks=pytest.mark.slow)], ids=len
)
def test_every_file_is_read_as_pillow_reads_it(tmp_path: Path, seeds: range) -> None:
    kinds = {one_file(seed, tmp_path / "file") for seed in seeds}
    assert len(kinds) == 15  # jpeg, others, and PNGs of each kind and depth
