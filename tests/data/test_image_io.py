"""The quick ways to decode: they take what is plain, and leave to Pillow whatever is not."""

import io
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toyfcn.data import image_io
from toyfcn.data.color_masks import read_colors
from toyfcn.data.image_io import read_image, read_mask
from toyfcn.data.png import plain_png
from toyfcn.data.scale import Scale, told


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
            assert found is not None and found[0].flags.writeable
            assert np.array_equal(found[0], np.array(image))
            assert found[1] == (bytes(image.getpalette()) if image.mode == "P" else None)


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


@pytest.mark.parametrize(("bits", "scale"), [(2, 85), (4, 17)])
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_gray_of_few_bits_is_labels_in_a_mask_and_shades_in_a_photo(
    tmp_path: Path, form: str, bits: int, scale: int
) -> None:
    stored = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, 0)
    path = tmp_path / "gray.png"
    packed = np.packbits((stored[..., None] >> np.arange(bits)[::-1]) & 1, axis=None).tobytes()
    if form == "PNG":
        path.write_bytes(png(rows_of(packed, 3), (2**bits, 3, bits, 0, 0, 0, 0)))
    else:
        path.write_bytes(tiff(packed, 2**bits, 3, bits))
    assert np.array_equal(read_mask(path), stored)
    assert np.array_equal(read_image(path)[1], stored * scale)


@pytest.mark.parametrize(
    ("mode", "options", "told"),
    [
        ("L", {"compression": "jpeg"}, "it is a JPEG, which blurs labels"),
        ("I;16", {}, "its mode is I;16: save the labels in 8 bits"),
        ("I", {}, "its mode is I: save the labels in 8 bits"),
        ("1", {}, r"of 1 bit: use data=folder with data.colours=\[\[0,0,0\],\[255,255,255\]\]"),
    ],
)
def test_what_holds_no_labels_of_8_bits_is_told(
    tmp_path: Path, mode: str, options: dict[str, str], told: str
) -> None:
    Image.new(mode, (16, 16)).save(tmp_path / "mask.tif", **options)
    with pytest.raises(ValueError, match=told):
        read_mask(tmp_path / "mask.tif")


def rows_of(packed: bytes, height: int) -> bytes:
    size = len(packed) // height
    return b"".join(b"\0" + packed[at : at + size] for at in range(0, len(packed), size))


def tiff(packed: bytes, width: int, height: int, bits: int, photometric: int = 1) -> bytes:
    """An uncompressed gray TIFF; its zero is black, or white where photometric is 0."""
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
    }
    tags[279] = len(packed)
    entries = [struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items()]
    start = b"II*\0" + struct.pack("<L", 8 + len(packed)) + packed
    return start + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("form", ["gray PNG", "RGB PNG", "gray TIFF"])
def test_white_of_16_bits_is_what_is_said(tmp_path: Path, form: str) -> None:
    shades = np.array([[0, 8, 2048, 4095, 65535]], np.uint16)
    path = tmp_path / "deep.png"
    if form == "RGB PNG":
        rows = b"\0" + shades[..., None].repeat(3, 2).astype(">u2").tobytes()
        path.write_bytes(png(rows, (5, 1, 16, 2, 0, 0, 0)))
    else:
        Image.fromarray(shades).save(path, form.split()[1])
    for white in (65535, 4095):
        expected = (shades.astype(float).clip(max=white) * 255 / white).round()
        found = read_image(path, Scale(white=white))
        assert all(np.array_equal(channel, expected) for channel in found)


@pytest.mark.parametrize("kind", ["P", "L", "RGB"])
def test_a_mask_is_turned_like_its_photo(tmp_path: Path, kind: str) -> None:
    found, exif = np.array([[0, 1, 1], [2, 2, 0]], np.uint8), Image.Exif()
    exif[0x0112] = 6
    mask = Image.fromarray(found)
    if kind != "L":
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    path = tmp_path / "mask.png"
    (mask.convert("RGB") if kind == "RGB" else mask).save(path, exif=exif)
    colors = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    read = read_colors(path, colors, None, 255) if kind != "L" else read_mask(path)
    assert np.array_equal(read, np.rot90(found, -1))
    if kind != "RGB":
        assert np.array_equal(read_mask(path), np.rot90(found, -1))


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_masks_whose_zero_is_white_hold_the_values_of_the_file(tmp_path: Path, bits: int) -> None:
    stored = (np.arange(24).reshape(3, 8) % 2**bits).astype(np.uint8)
    packed = np.packbits((stored[..., None] >> np.arange(bits)[::-1]) & 1, axis=None).tobytes()
    path = tmp_path / "mask.tif"
    for photometric in (0, 1):  # white or black is zero
        path.write_bytes(tiff(packed, 8, 3, bits, photometric))
        assert np.array_equal(read_mask(path), stored)


def test_photos_of_16_bits_whose_zero_is_white_are_inverted(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535]], np.uint16)
    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(deep.astype("<u2").tobytes(), 3, 1, 16, 0))
    assert read_image(path)[1].tolist() == [[255, 254, 0]]


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint16])
def test_values_are_scaled_from_black_to_white(
    tmp_path: Path, kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    low, high = (-1.5, 3.5) if kind is np.float32 else (100, 1100)
    deep = np.linspace(low, high, 60).astype(kind).reshape(6, 10)
    Image.fromarray(deep).save(tmp_path / "photo.tif")
    expected = np.rint((deep.astype(np.float64) - low) / (high - low) * 255)
    told.clear()
    found = read_image(tmp_path / "photo.tif", Scale(low, high))
    assert all(np.abs(channel.numpy() - expected).max() <= 0.5 for channel in found)
    assert not caplog.messages
    if kind is not np.uint16:
        with pytest.raises(ValueError, match=r"does not say what white is: set data\.white"):
            read_image(tmp_path / "photo.tif")


def test_what_is_cut_off_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = np.array([[-2, 0, 0.5, 1, 7, np.nan]], np.float32)
    for name in ("a.tif", "b.tif"):
        Image.fromarray(deep).save(tmp_path / name)
    told.clear()
    for name in ("a.tif", "b.tif"):
        found = read_image(tmp_path / name, Scale(0, 1))
        assert found[0].tolist() == [[0, 0, 128, 255, 255, 0]]
    assert len(caplog.messages) == 1
    assert "beyond data.black=0 and data.white=1, which are cut off" in caplog.text
    assert "a.tif are from -2 to 7" in caplog.text


@pytest.mark.parametrize("form", ["gif", "webp", "png", "tif"])
def test_of_animated_photos_the_first_frame_is_taken(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    for name in "ab":
        path = tmp_path / f"{name}.{form}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
    told.clear()
    for name in "ab":
        found = read_image(tmp_path / f"{name}.{form}")
        assert (found.float().mean((1, 2)) - torch.tensor([255.0, 0, 0])).abs().max() < 3
    assert len(caplog.messages) == 1 and f"a.{form}" in caplog.text
    assert "the first frame of photos with several is taken" in caplog.text


@pytest.mark.parametrize("form", ["heic", "webp", "avif"])
def test_photos_of_phones(tmp_path: Path, form: str) -> None:
    if form == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    row, column = np.mgrid[:48, :64]
    smooth = np.stack([4 * column, 5 * row, 255 - 4 * column], -1).astype(np.uint8)
    exif = Image.Exif()
    if turned := form != "heic":  # which libheif turns, by properties of its own
        exif[0x0112] = 6
    Image.fromarray(smooth).save(tmp_path / f"a.{form}", quality=95, exif=exif)
    found = read_image(tmp_path / f"a.{form}")
    wanted = torch.from_numpy(smooth).permute(2, 0, 1).rot90(-1 if turned else 0, (1, 2))
    assert found.shape == wanted.shape
    assert (found.float() - wanted.float()).abs().mean() < 4
    assert image_io.image_size(tmp_path / f"a.{form}") == tuple(wanted.shape[1:])


def test_heic_without_its_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_io.register_heif.cache_clear()
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"pip install 'toyfcn\[heic\]'"):
        read_image(tmp_path / "a.heic")
