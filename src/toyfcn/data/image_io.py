"""Pixels of one file: photos, their sizes, and masks. What a file is, Pillow alone decides.

Its size, mode, depth and orientation come from Pillow's reading of the header; two quicker decoders
then take what most files are: simplejpeg the pixels of ordinary JPEGs, and ``plain_png`` masks of
VOC's plainest kind. Both give what Pillow gives, and tests compare them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_png

from toyfcn.data.layout import HEIF
from toyfcn.data.png import MAX_PIXELS, plain_png

# so Pillow need not warn; not set aside for each photo, which would repeat all other warnings
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
log = logging.getLogger(__name__)
told: set[str] = set()  # warnings that this process has given
TURNS = {  # what makes a picture upright, by its EXIF orientation: as ImageOps.exif_transpose does
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Scale(NamedTuple):
    """What is black and what white in a photo of more than 8 bits; None: 65535 of 16 bits."""

    black: float = 0
    white: float | None = None

    @property
    def white_of_16_bits(self) -> float:
        """What is white in a photo of 16 bits."""
        return 65535 if self.white is None else self.white


AS_STORED = Scale()


@cache
def register_heif() -> None:
    """Let Pillow read HEIC.

    Raises:
        ValueError: pillow-heif is not installed.
    """
    try:
        import pillow_heif  # of the extra toyfcn[heic]
    except ImportError:
        raise ValueError("photos of HEIC need pillow-heif: pip install 'toyfcn[heic]'") from None
    pillow_heif.register_heif_opener()


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
    try:
        with (
            # of a path, Pillow would map turned TIFFs into memory with their sides exchanged
            path.open("rb") if coded is None else io.BytesIO(coded) as file,
            Image.open(file) as image,
        ):
            if image.width * image.height > limit:
                raise ValueError(
                    f"it claims {image.width} x {image.height} pixels, and {limit:,} are the most"
                )
            yield image
    except Exception as error:  # decoders raise anything over damaged bytes
        raise ValueError(f"cannot read the {what} {path}: {reason_of(error)}") from None


def read_image(path: Path, scale: Scale = AS_STORED, limit: int = MAX_PIXELS) -> Tensor:
    """Decode a photo to uint8 RGB (3, H, W), upright by its EXIF (or XMP) orientation.

    Values of more than 8 bits are brought from ``scale`` to 0..255; the first photo with others
    beyond it is warned of.

    Raises:
        ValueError: the file cannot be decoded, claims more than ``limit`` pixels, or holds
            values of 32 bits and ``scale`` does not say what is white.
    """
    try:
        coded = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the photo {path}: {reason_of(error)}") from None
    with opened(path, "photo", coded, limit) as image:
        pixels = rgb(image, coded, scale, path)
        if (turn := turn_of(image)) is not None:
            pixels = np.array(Image.fromarray(pixels).transpose(turn))
        return torch.from_numpy(pixels).permute(2, 0, 1)


def rgb(image: Image.Image, coded: bytes, scale: Scale, path: Path) -> NDArray[np.uint8]:
    """Decode an opened photo as it is stored: uint8 (H, W, 3)."""
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        with contextlib.suppress(ValueError):  # Pillow then says what is wrong
            found: NDArray[np.uint8] = simplejpeg.decode_jpeg(coded)
            return found
    if getattr(image, "is_animated", False):
        warn_once("the first frame of photos with several is taken, as of %s", path)
    if image.mode in ("I", "F") or has_16_bits(image):
        return to_8_bits(image, coded, scale, path)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def to_8_bits(image: Image.Image, coded: bytes, scale: Scale, path: Path) -> NDArray[np.uint8]:
    """Decode a photo of 16 or 32 bits a channel, scaled to 8: uint8 (H, W, 3).

    Pillow keeps more than 8 bits of gray alone; of colors, torchvision reads those of a PNG.
    """
    if scale.white is None and image.mode in ("I", "F"):
        raise ValueError(
            f"its mode is {image.mode}, which does not say what white is: set data.white, and "
            "data.black unless it is 0"
        )
    black, white = scale.black, scale.white_of_16_bits
    if image.format == "PNG" and image.mode != "I":
        image.load()  # which refuses what torchvision lets pass, and finds a late orientation
        data = torch.frombuffer(bytearray(coded), dtype=torch.uint8)
        deep = decode_png(data, ImageReadMode.RGB).permute(1, 2, 0).numpy()
    elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
        deep = np.repeat(np.asarray(image)[..., None], 3, axis=2)
    elif (black, white) == (0, 65535):
        return np.array(image.convert("RGB"))  # the upper 8 bits
    else:
        raise ValueError(f"data.white={white:g} needs 16-bit colors as PNG, not {image.format}")
    inside = (deep >= black) & (deep <= white)
    if not inside.all():
        low, high = np.nanmin(deep), np.nanmax(deep)
        warn_once(
            "photos hold values beyond data.black=%g and data.white=%g, which are cut off: those "
            "of %s are from %g to %g",
            *(black, white, path, low, high),
        )
    scaled = np.nan_to_num(deep.astype(np.float64), nan=black).clip(black, white) - black
    pixels = np.asarray(np.floor(scaled * 255 / (white - black) + 0.5), np.uint8)
    # of fewer bits, Pillow itself inverts those where white is zero
    inverted = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
    return 255 - pixels if inverted else pixels


def warn_once(message: str, *about: object) -> None:
    """Warn of something, the first time in this process."""
    if message not in told:
        told.add(message)
        log.warning(message, *about)


def has_16_bits(image: Image.Image) -> bool:
    """Tell whether an opened, not yet loaded picture stores 16 bits a channel."""
    return "16" in stored_mode(image)


def stored_mode(image: Image.Image) -> str:
    """Return how an opened, not yet loaded picture stores its pixels: Pillow's raw mode."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return what makes an opened picture upright, by its EXIF or else XMP orientation.

    Only a JPEG need not be loaded before: a PNG's may stand behind its pixels, and Pillow itself
    turns a TIFF when it is loaded. Metadata that cannot be read turn nothing.
    """
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata, of a sound picture
        return None


def image_size(path: Path) -> tuple[int, int]:
    """Return the (height, width) of a picture when upright; of a JPEG, only the header is read.

    Raises:
        ValueError: the file is not a picture.
    """
    with opened(path, "photo") as image:
        if image.format not in ("JPEG", "MPO"):
            image.load()
        turn = turn_of(image)
        sideways = turn is not None and turn not in (TURNS[2], TURNS[3], TURNS[4])
        return (image.width, image.height) if sideways else (image.height, image.width)


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
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\w+, \S+\.cpp:\d+, ", "", line)  # torchvision names its own source first
