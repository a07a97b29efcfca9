"""What is checked before training or scoring, so that no fault in the data stays silent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from toyfcn.data.folder import FolderSource
from toyfcn.data.image_io import (
    palette_in_header,
    read_header,
    read_mask_and_palette,
)
from toyfcn.data.palettes import (
    ADVICE,
    disagreements,
    palette,
    used_colors,
    warn_of_reordered_voc,
)
from toyfcn.data.scale import Scale
from toyfcn.data.source import FileSource, Source

JPEG = (".jpg", ".jpeg", ".jfif")  # which have 8 bits
log = logging.getLogger(__name__)


def check(source: Source, ids: Iterable[str]) -> None:
    """Check the headers of photos and masks that are to be read: palettes, channels and their bits.

    Where they are no files, the first pair is read.
    """
    names = list(dict.fromkeys(ids))
    if not isinstance(source, FileSource):
        source.pair(names[0])
        return
    refuse_odd_palettes(source, names)
    photos = [source.image_path(name) for name in names]
    tell_of_16_bits(photos, source.scale, source.channels)
    for path in photos if source.channels != 3 else ():  # where 3 are wanted, all become RGB
        if (found := read_header(path, source.channels).channels) != source.channels:
            raise ValueError(f"{path} has {found} channels, but data.channels={source.channels}")


def refuse_odd_palettes(source: FileSource, ids: Iterable[str]) -> None:
    """Check that palette masks have the colors expected: VOC's, or in a folder those of the others.

    Only headers are read where all palettes are the same.

    Raises:
        ValueError: some have not; the message names the first such file.
    """
    if isinstance(source, FolderSource) and source.colors:
        return
    found = {name: palette_in_header(source.mask_path(name)) for name in ids}
    found = {name: colors for name, colors in found.items() if colors is not None}
    if not isinstance(source, FolderSource):
        for name, colors in found.items():
            if colors != bytes(palette()):
                source.mask(name)  # which compares the colors that occur
        return
    first = next((source.mask_path(name) for name in found), None)
    if first is not None:
        warn_of_reordered_voc(first, used_colors(*read_mask_and_palette(first)))
    if len(set(found.values())) < 2:
        return
    masks = {source.mask_path(n): read_mask_and_palette(source.mask_path(n)) for n in found}
    if odd := disagreements({path: used_colors(*read) for path, read in masks.items()}):
        path, why = next(iter(odd.items()))
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        raise ValueError(f"{path}{more}: its palette {why}; {ADVICE}")


def void_only(source: Source, ids: Sequence[str]) -> bool:
    """Tell whether every pixel of some masks is void; masks are read until one has another."""
    return all(bool((source.mask(name) == source.void).all()) for name in ids)


def refuse_void_only(source: Source, splits: Mapping[str, Sequence[str]], train: str) -> None:
    """Check that some pixel of the training masks has a class; warn of other splits without.

    Raises:
        ValueError: all are void.
    """
    for split, ids in splits.items():
        if not void_only(source, ids):
            continue
        every = (
            f"every pixel of the {len(ids)} masks of the split {split!r} is void ({source.void})"
        )
        if split == train:
            first = source.places(ids[0])[1]
            raise ValueError(f"{every}: nothing can be learned; look at {first} and data.void")
        log.warning("%s: its scores will be null", every)


def tell_of_16_bits(
    photos: Iterable[Path],
    scale: Scale,
    channels: int,
    advice: str | None = None,
) -> None:
    """Warn once if photos have 16 bits a channel, for which a value of white must be known.

    Without ``advice``, it is to set that value, unless it is set.
    """
    if advice is None and scale.white is None:
        advice = "set it to the largest value that yours can have, such as 4095 of 12 bits"
    deep = [path for path in photos if path.suffix.lower() not in JPEG and is_deep(path, channels)]
    if deep:
        log.warning(
            "%d photos have 16 bits a channel (the first is %s), scaled so that data.white=%g is "
            "white%s",
            len(deep),
            deep[0],
            scale.white_of_16_bits,
            f": {advice}" if advice else "",
        )


def is_deep(path: Path, channels: int) -> bool:
    """Tell whether a photo has 16 bits a channel, by its header."""
    with contextlib.suppress(ValueError):
        return read_header(path, channels).deep
    return False
