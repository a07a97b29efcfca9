"""PNG by a quick compressor: some 20 times as fast to write as by Pillow, for a tenth more bytes.

PNG specification, 5 and 9 to 11. Labels and gray values are stored unfiltered, the kind that
``plain_png`` reads; colors as differences to the pixel before.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from isal.isal_zlib import (  # zlib's interface, and quicker
    IsalError,
    compressobj,
    crc32,
    decompressobj,
)
from numpy.typing import NDArray

CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # all that a plain PNG has
MAX_PIXELS = 100_000_000  # a photo that claims more is refused before memory is taken for it
LEVEL = 2  # of 0 to 3
ROWS = 1 << 20  # bytes of pixels that are compressed at once


def encode_png(pixels: NDArray[np.uint8], palette: Sequence[int] | None = None) -> bytes:
    """Encode gray values or labels (H, W), or RGB (H, W, 3), uint8.

    With a ``palette`` of up to 768 integers, values are indices into it.
    """
    height, width = pixels.shape[:2]
    color = 2 if pixels.ndim == 3 else 0 if palette is None else 3
    header = struct.pack(">2I5B", width, height, 8, color, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header)]
    if palette is not None:
        parts.append(chunk(b"PLTE", bytes(palette)))
    stream, step = compressobj(LEVEL), max(1, ROWS // pixels[0].size)
    data = [stream.compress(filtered(pixels[y : y + step]).data) for y in range(0, height, step)]
    return b"".join([*parts, chunk(b"IDAT", b"".join(data) + stream.flush()), chunk(b"IEND", b"")])


def filtered(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows as they are compressed, each behind the number of its filter: 0 none, 1 sub."""
    flat = pixels.reshape(len(pixels), -1)
    rows = np.empty((len(flat), 1 + flat.shape[1]), np.uint8)
    rows[:, 0] = pixels.ndim - 2
    rows[:, 1:] = flat
    if pixels.ndim == 3:
        rows[:, 4:] -= flat[:, :-3]
    return rows


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk: its length, kind, body and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body))


def plain_png(coded: bytes) -> tuple[NDArray[np.uint8], bytes | None] | None:
    """Decode a PNG of 8-bit palette or gray values, neither interlaced nor filtered.

    The kind that VOC's masks are (and those that Pillow writes of palettes): a header, a palette,
    and each row behind a zero in one zlib stream (PNG specification, 5 and 9). Returns labels
    uint8 (H, W) and the palette, None of gray values; None for any other file.
    """
    if coded[:16] != b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" or len(coded) < 33:
        return None
    width, height = (int.from_bytes(coded[i : i + 4], "big") for i in (16, 20))
    depth, color, *methods = coded[24:29]
    if depth != 8 or color not in (0, 3) or any(methods) or not 0 < width * height <= MAX_PIXELS:
        return None
    data, colors, at, kind = b"", b"", 8, b""  # chunks: length, kind, body, checksum
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(coded[at : at + 4], "big")
        kind, body = coded[at + 4 : at + 8], coded[at + 8 : end - 4]
        check = int.from_bytes(coded[end - 4 : end], "big")
        if end > len(coded) or kind not in CHUNKS or crc32(coded[at + 4 : end - 4]) != check:
            return None
        if kind == b"IDAT":
            data += body
        elif kind == b"PLTE":
            colors = body
        at = end
    stream, size = decompressobj(), (width + 1) * height
    try:
        raw = stream.decompress(data, size + 1)
    except IsalError:  # type: ignore[misc]  # stubbed as an instance
        return None
    if len(raw) != size or not stream.eof:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(height, width + 1)
    if rows[:, 0].any() or (color == 3) != bool(colors):
        return None
    return rows[:, 1:].copy(), colors or None
