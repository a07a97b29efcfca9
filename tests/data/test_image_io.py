"""The quick ways to decode: they take what is plain, and leave to Pillow whatever is not."""

import io
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from toyfcn.data.image_io import jpeg_kind, plain_png


def coded(values: np.ndarray, mode: str = "L", form: str = "PNG", **options: object) -> bytes:
    image, file = Image.fromarray(values), io.BytesIO()
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    (image if mode in ("L", "P") else image.convert(mode)).save(file, form, **options)
    return file.getvalue()


def labels(height: int = 19, width: int = 31) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(rows: bytes, header: tuple[int, ...] = (31, 19, 8, 0, 0, 0, 0), more: bytes = b"") -> bytes:
    width, height, *rest = header
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(rest)
    body = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def plain_rows() -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in labels())


def test_plain_pngs_equal_pillows_decoding() -> None:
    for file in (coded(labels(), "P"), png(plain_rows()), coded(labels(1, 1), "P")):
        with Image.open(io.BytesIO(file)) as image:
            found = plain_png(file)
            assert found is not None and found.flags.writeable
            assert np.array_equal(found, np.array(image))


@pytest.mark.parametrize(
    "file",
    [
        coded(labels(), "1"),
        coded(labels(), "RGB"),
        coded(labels().astype(np.uint16)),
        coded(labels(), "P", transparency=3),
        coded(labels(), "L", "JPEG"),
        png(plain_rows(), (31, 19, 8, 0, 0, 0, 1)),  # interlaced
        png(plain_rows(), (31, 19, 4, 3, 0, 0, 0)),  # 4 bits
        png(b"\1" + plain_rows()[1:]),  # a filtered row
        png(plain_rows()[:-1]),
        png(plain_rows() + b"\0"),
        png(plain_rows(), more=chunk(b"acTL", bytes(8))),  # animated
        png(plain_rows(), (0, 19, 8, 0, 0, 0, 0)),
        png(plain_rows(), (99_999, 99_999, 8, 0, 0, 0, 0)),
        b"",
    ],
)
def test_anything_else_is_left_to_pillow(file: bytes) -> None:
    assert plain_png(file) is None


def test_no_damage_goes_unseen() -> None:
    """Every byte changed, and the file cut everywhere: other labels never come out."""
    file = coded(labels(), "P")
    for at in range(len(file)):
        assert plain_png(file[:at]) is None
        assert plain_png(file[:at] + bytes([file[at] ^ 0x10]) + file[at + 1 :]) is None


def test_a_bomb_is_not_unpacked() -> None:
    file = png(bytes(50_000_000))
    assert len(file) < 100_000
    tracemalloc.start()
    assert plain_png(file) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_jpegs_are_told_by_their_frame() -> None:
    gray = labels(64, 48)
    for mode, options in (("L", {}), ("RGB", {}), ("RGB", {"progressive": True})):
        file = coded(gray, mode, "JPEG", exif=b"Exif\0\0" + bytes(300), **options)
        assert jpeg_kind(file)
        frame = next(i for i in range(len(file)) if file[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
        assert not any(jpeg_kind(file[:end]) for end in range(frame + 10))
        for at, value in ((4, 12), (9, 2), (9, 4)):  # 12 bits, two and four components
            assert not jpeg_kind(file[: frame + at] + bytes([value]) + file[frame + at + 1 :])
        huge = file[: frame + 5] + b"\xff\xff\xff\xff" + file[frame + 9 :]
        assert not jpeg_kind(huge)
    assert not jpeg_kind(coded(gray, "CMYK", "JPEG"))
    assert not jpeg_kind(coded(gray))
