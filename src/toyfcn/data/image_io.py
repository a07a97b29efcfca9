"""Pixels of one file: photos, their sizes, and masks, by the quickest decoder that is exact.

Nearly every photo is a JPEG of one or three components, and every mask of VOC's a PNG of the
plainest kind. Both are recognized by their first bytes and decoded straight from memory; all other
files, and all that is wrong, go to Pillow, which decides.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from isal.isal_zlib import IsalError, crc32, decompressobj  # zlib's interface, and quicker
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

MAX_PIXELS = 100_000_000  # a photo that claims more is refused before memory is taken for it
CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # all that a plain PNG has


def read_image(path: Path) -> Tensor:
    """Decode a photo to uint8 RGB (3, H, W), upright by its EXIF orientation.

    JPEGs go through simplejpeg's decoder, those with EXIF through torchvision's, which turns them;
    what these refuse (CMYK) and other formats go through Pillow. All use libjpeg-turbo.

    Raises:
        ValueError: the file cannot be decoded, or claims more than ``MAX_PIXELS`` pixels.
    """
    try:
        coded = path.read_bytes()
        kind = jpeg_kind(coded)
        if kind == "bare":
            with contextlib.suppress(ValueError):  # torchvision's decoder then says what is wrong
                return torch.from_numpy(simplejpeg.decode_jpeg(coded)).permute(2, 0, 1)
        if kind is not None:
            data = torch.frombuffer(bytearray(coded), dtype=torch.uint8)
            photo: Tensor = decode_jpeg(data, ImageReadMode.RGB, apply_exif_orientation=True)
            return photo
        with unwarned(), Image.open(io.BytesIO(coded)) as image:
            _refuse_huge(image)
            if image.mode in ("I", "F"):
                raise ValueError(f"its mode is {image.mode}, which does not say what white is")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # convert would clip it
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1)
    except (OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the photo {path}: {reason_of(error)}") from None


def image_size(path: Path) -> tuple[int, int]:
    """Return a photo's (height, width), upright by its EXIF orientation, from its header alone.

    Raises:
        ValueError: the file is not a picture.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the photo {path}: {reason_of(error)}") from None


def read_mask(path: Path) -> Tensor:
    """Read a mask's labels as uint8 (H, W): palette indices (mode P) or gray values (mode L).

    Raises:
        ValueError: the file cannot be decoded or its mode holds no labels.
    """
    try:
        coded = path.read_bytes()
        if (labels := plain_png(coded)) is not None:
            return torch.from_numpy(labels)
        with unwarned(), Image.open(io.BytesIO(coded)) as image:
            if image.format in ("JPEG", "MPO"):
                raise ValueError("it is a JPEG, which blurs labels")
            if image.mode not in ("P", "L"):
                raise ValueError(f"its mode is {image.mode}, but labels are palette or gray values")
            _refuse_huge(image)
            return torch.from_numpy(np.array(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the mask {path}: {reason_of(error)}") from None


def jpeg_kind(coded: bytes) -> str | None:
    """Tell a JPEG of 8 bits, one or three components and bearable size by its frame header.

    Walks from marker to marker up to the frame header (ITU-T T.81, B.2.2): two bytes of marker,
    two of length, then precision, height, width and the number of components. ``bare`` has no EXIF
    segment that might turn it, ``exif`` has one; None for any other file.
    """
    at, kind = 2, "bare"
    while coded[:2] == b"\xff\xd8" and at + 10 <= len(coded) and coded[at] == 0xFF:
        marker, length = coded[at + 1], int.from_bytes(coded[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(coded[at + i : at + i + 2], "big") for i in (5, 7))
            plain = coded[at + 4] == 8 and coded[at + 9] in (1, 3)
            return kind if plain and 0 < height * width <= MAX_PIXELS else None
        if marker == 0xE1:  # APP1, where EXIF lies
            kind = "exif"
        if marker in (0x01, 0xDA, 0xFF) or 0xD0 <= marker <= 0xD9 or length < 2:
            return None  # fill bytes, or a scan without a frame: not plain
        at += 2 + length
    return None


def plain_png(coded: bytes) -> np.ndarray | None:
    """Decode a PNG of 8-bit palette or gray values, neither interlaced nor filtered: uint8 (H, W).

    The kind that VOC's masks are (and those that Pillow writes of palettes): a header, a palette,
    and each row behind a zero in one zlib stream (PNG specification, 5 and 9). None for any other.
    """
    if coded[:16] != b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" or len(coded) < 33:
        return None
    width, height = (int.from_bytes(coded[i : i + 4], "big") for i in (16, 20))
    depth, color, *methods = coded[24:29]
    if depth != 8 or color not in (0, 3) or any(methods) or not 0 < width * height <= MAX_PIXELS:
        return None
    data, at, kind = b"", 8, b""  # chunks: length, kind, body, checksum
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(coded[at : at + 4], "big")
        kind, body = coded[at + 4 : at + 8], coded[at + 8 : end - 4]
        check = int.from_bytes(coded[end - 4 : end], "big")
        if end > len(coded) or kind not in CHUNKS or crc32(coded[at + 4 : end - 4]) != check:
            return None
        if kind == b"IDAT":
            data += body
        at = end
    stream, size = decompressobj(), (width + 1) * height
    try:
        raw = stream.decompress(data, size + 1)
    except IsalError:  # type: ignore[misc]  # stubbed as an instance
        return None
    if len(raw) != size or not stream.eof:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:].copy()


def unwarned() -> warnings.catch_warnings[None]:
    """Keep Pillow from printing that a picture is large: ``MAX_PIXELS`` decides."""
    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)


def _refuse_huge(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it claims {image.width} x {image.height} pixels")


def reason_of(error: BaseException) -> str:
    """Return in a line why a file could not be decoded, without the file's name."""
    if isinstance(error, UnidentifiedImageError):  # its text names an object, or the file again
        return "it is not a picture"
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\w+, \S+\.cpp:\d+, ", "", line)  # torchvision names its own source first
