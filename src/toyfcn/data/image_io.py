"""Pixels of one file: photos, their sizes, and masks. What a file is, Pillow alone decides.

Its size, mode, depth and orientation come from Pillow's reading of the header; two quicker decoders
then take what most files are: simplejpeg the pixels of ordinary JPEGs, and ``plain_png`` masks of
VOC's plainest kind. Both give what Pillow gives, and tests compare them.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from toyfcn.config.extras import import_extra
from toyfcn.data.layout import HEIF
from toyfcn.data.png import MAX_PIXELS, plain_png
from toyfcn.data.scale import AS_STORED, Scale, has_16_bits, stored_mode, to_8_bits, warn_once
from toyfcn.data.tiff import needs_tifffile, opened_tiff

# so Pillow need not warn; not set aside for each photo, which would repeat all other warnings
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
FIRST_FRAME = "the first frame of photos with several is taken, as of %s"
TURNS = {  # what makes a picture upright, by its EXIF orientation: as ImageOps.exif_transpose does
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Header(NamedTuple):
    """What a photo's header says, as it is stored: sides in pixels, channels, 16 bits of each."""

    height: int
    width: int
    channels: int
    deep: bool


@cache
def register_heif() -> None:
    """Let Pillow read HEIC."""
    import_extra("pillow_heif", "heic", "a photo in HEIC").register_heif_opener()


@contextlib.contextmanager
def opened(
    path: Path, what: str, coded: bytes | None = None, limit: int = MAX_PIXELS
) -> Iterator[Image.Image]:
    """Open a picture by its header, or the one that ``coded`` holds.

    Raises:
        ValueError: it cannot be read, here or by what is done with it, or claims more than
            ``limit`` pixels; the message names the path.
    """
    if path.suffix.lower() in HEIF:
        register_heif()
    with (
        naming(path, what),
        # of a path, Pillow would map turned TIFFs into memory with their sides exchanged
        path.open("rb") if coded is None else io.BytesIO(coded) as file,
        Image.open(file) as image,
    ):
        if image.width * image.height > limit:
            raise ValueError(
                f"it claims {image.width} x {image.height} pixels, and {limit:,} are the most"
            )
        yield image


@contextlib.contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Say of whatever goes wrong which file could not be read."""
    try:
        yield
    except Exception as error:  # decoders raise anything over damaged bytes
        raise ValueError(f"cannot read the {what} {path}: {reason_of(error)}") from None


def read_image(
    path: Path, scale: Scale = AS_STORED, channels: int = 3, limit: int = MAX_PIXELS
) -> Tensor:
    """Decode a photo to uint8 (channels, H, W), upright by its EXIF (or XMP) orientation.

    Photos of three channels are RGB, whatever the file's mode; others have the file's own bands.
    Values of more than 8 bits are brought from ``scale`` to 0..255; the first photo with others
    beyond it is warned of.

    Raises:
        ValueError: the file cannot be decoded, claims more than ``limit`` pixels, has another
            number of channels, or holds values of 32 bits and ``scale`` does not say what is white.
    """
    with naming(path, "photo"):
        coded = path.read_bytes()
        if by_tifffile := needs_tifffile(io.BytesIO(coded), channels):
            with opened_tiff(io.BytesIO(coded), limit) as bands:
                pixels, turn = bands.values(), TURNS.get(bands.orientation)
                if bands.more:
                    warn_once(FIRST_FRAME, path)
            if channels == 3 and bands.colors:
                pixels = pixels[..., :3]  # without what lies behind red, green and blue
            pixels = pixels if pixels.dtype == np.uint8 else to_8_bits(pixels, scale, path)
    if not by_tifffile:
        with opened(path, "photo", coded, limit) as image:
            pixels = decoded(image, coded, scale, path, channels)
            turn = turn_of(image)
    if pixels.shape[2] != channels:
        raise ValueError(f"{path} has {pixels.shape[2]} channels, but data.channels={channels}")
    if turn is not None:
        bands_of = [pixels] if channels == 3 else np.moveaxis(pixels, 2, 0)
        pixels = np.dstack([np.asarray(Image.fromarray(one).transpose(turn)) for one in bands_of])
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def decoded(
    image: Image.Image, coded: bytes, scale: Scale, path: Path, channels: int
) -> NDArray[np.uint8]:
    """Decode an opened photo as it is stored: uint8 (H, W, 3) if 3 channels are wanted.

    Otherwise (H, W, C) of the C bands that it has; a palette's colors are three.
    """
    if channels == 3 and image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        with contextlib.suppress(ValueError):  # Pillow then says what is wrong
            found: NDArray[np.uint8] = simplejpeg.decode_jpeg(coded)
            return found
    if getattr(image, "is_animated", False):
        warn_once(FIRST_FRAME, path)
    gray = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if gray or (image.format == "PNG" and has_16_bits(image)):
        pixels = to_8_bits(deep_values(image, coded, channels), scale, path)
        # of fewer bits, Pillow itself inverts those where white is zero
        inverted = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
        return 255 - pixels if inverted else pixels
    if image.mode == "1" and channels != 3:
        image = image.convert("L")
    elif channels == 3 or image.mode == "P":
        image = image if image.mode == "RGB" else image.convert("RGB")
    return np.atleast_3d(np.array(image))


def deep_values(image: Image.Image, coded: bytes, channels: int) -> NDArray[Any]:
    """Decode an opened photo of 16 or 32 bits a channel: (H, W, C), gray as RGB if C is to be 3.

    Pillow keeps more than 8 bits of gray alone; of colors, torchvision reads those of a PNG.
    """
    if image.format == "PNG" and image.mode != "I":
        from torchvision.io import ImageReadMode, decode_png  # slow to import, and seldom needed

        image.load()  # which refuses what torchvision lets pass, and finds a late orientation
        data = torch.frombuffer(bytearray(coded), dtype=torch.uint8)
        mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.UNCHANGED
        deep: NDArray[Any] = decode_png(data, mode).permute(1, 2, 0).numpy()
        return deep
    return np.repeat(np.asarray(image)[..., None], 3 if channels == 3 else 1, axis=2)


def read_header(path: Path, channels: int = 3, limit: int = MAX_PIXELS) -> Header:
    """Read the header of a photo of which ``channels`` channels are wanted.

    Raises:
        ValueError: the file is not a picture, or claims more than ``limit`` pixels.
    """
    with naming(path, "photo"), path.open("rb") as file:
        if needs_tifffile(file, channels):
            with opened_tiff(file, limit) as bands:
                return Header(*bands.size, bands.count, bands.part.dtype.itemsize == 2)
    with opened(path, "photo", limit=limit) as image:
        count = 3 if image.mode == "P" else len(image.getbands())
        return Header(image.height, image.width, count, has_16_bits(image))


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return what makes an opened picture upright, by its EXIF or else XMP orientation.

    Only a JPEG need not be loaded before: a PNG's may stand behind its pixels, and Pillow itself
    turns a TIFF when it is loaded. Metadata that cannot be read turn nothing.
    """
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata, of a sound picture
        return None


def image_size(path: Path, channels: int = 3) -> tuple[int, int]:
    """Return the (height, width) of a picture when upright; of a JPEG, only the header is read.

    Raises:
        ValueError: the file is not a picture.
    """
    with naming(path, "photo"), path.open("rb") as file:
        if by_tifffile := needs_tifffile(file, channels):
            with opened_tiff(file, MAX_PIXELS) as bands:
                size, turn = bands.size, TURNS.get(bands.orientation)
    if not by_tifffile:
        with opened(path, "photo") as image:
            if image.format not in ("JPEG", "MPO"):
                image.load()
            size, turn = (image.height, image.width), turn_of(image)
    sideways = turn is not None and turn not in (TURNS[2], TURNS[3], TURNS[4])
    return size[::-1] if sideways else size


def read_mask(path: Path) -> Tensor:
    """Read a mask's labels as uint8 (H, W): palette indices (mode P) or gray values (mode L).

    Raises:
        ValueError: the file cannot be decoded or its mode holds no labels.
    """
    return read_mask_and_palette(path)[0]


def read_mask_and_palette(path: Path) -> tuple[Tensor, bytes | None]:
    """Read a mask's labels, upright, and its palette, three bytes a color; None: it is gray.

    Raises:
        ValueError: the file cannot be decoded or its mode holds no labels.
    """
    try:
        coded = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the mask {path}: {reason_of(error)}") from None
    if (plain := plain_png(coded)) is not None:
        return torch.from_numpy(plain[0]), plain[1]
    with opened(path, "mask", coded) as image:
        if image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg":  # of a TIFF
            raise ValueError("it is a JPEG, which blurs labels")
        if image.mode[0] in "IF":
            raise ValueError(f"its mode is {image.mode}: save the labels in 8 bits")
        if image.mode == "1":
            raise ValueError(
                "its mode is 1, black and white of 1 bit: use data=folder with "
                "data.colours=[[0,0,0],[255,255,255]], in the classes' order"
            )
        if image.mode not in ("P", "L"):
            raise ValueError(
                f"its mode is {image.mode}, but labels are palette or gray values (where colors "
                "stand for the classes, use data=folder with data.colours)"
            )
        stored = stored_mode(image)
        image.load()
        colors = bytes(image.getpalette("RGB") or ()) if image.mode == "P" else None
        turn = turn_of(image)
        labels = np.array(image if turn is None else image.transpose(turn))
        return torch.from_numpy(as_stored(labels, stored)), colors


def palette_in_header(path: Path) -> bytes | None:
    """Return a mask's palette as its header has it; None: it has none, or cannot be read."""
    with contextlib.suppress(ValueError), opened(path, "mask") as image:
        return bytes(image.palette.palette) if image.mode == "P" and image.palette else None
    return None


def as_stored(gray: NDArray[np.uint8], stored: str) -> NDArray[np.uint8]:
    """Undo what Pillow does to gray values: of 2 and 4 bits it scales, of white-is-zero inverts."""
    kind = re.fullmatch(r"L;([24]?)(I?)R?", stored)
    if kind is None:
        return gray
    gray = 255 - gray if kind[2] else gray
    return gray // {"": 1, "2": 85, "4": 17}[kind[1]]


def reason_of(error: BaseException) -> str:
    """Return in a line why a file could not be decoded, without the file's name."""
    if isinstance(error, UnidentifiedImageError):  # its text names an object, or the file again
        return "it is not a picture"
    if isinstance(error, Image.DecompressionBombError):  # which suspects an attack
        return f"it claims more than {MAX_PIXELS:,} pixels"
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\w+, \S+\.cpp:\d+, ", "", line)  # torchvision names its own source first
