"""Videos as photos, frame by frame, with PyAV: the extra toyfcn[video]."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from toyfcn.config.extras import import_extra
from toyfcn.inference.sources import Photo
from toyfcn.text import first_line

log = logging.getLogger(__name__)


def import_av() -> ModuleType:
    """Import PyAV, which only videos need."""
    return import_extra("av", "video", "a video")


def frames(
    video: Photo, there: Callable[[Photo], bool], failed: list[str]
) -> Iterator[tuple[Photo, Tensor | None]]:
    """Yield the frames of a video as photos NAME/000001, …: uint8 (3, H, W), upright.

    None instead of those that are ``there``. What ends it before its end is added to ``failed``.
    """
    count = 0
    try:
        with import_av().open(str(video.path)) as container:
            if not container.streams.video:
                raise ValueError("it has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            seconds = float((stream.duration or 0) * stream.time_base)
            seconds = seconds or (container.duration or 0) / 1e6
            for frame in container.decode(stream):
                photo = Photo(video.path, f"{video.name}/{count + 1:06}", count + 1)
                pixels = None
                if not there(photo):
                    turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                    pixels = torch.from_numpy(turned.copy()).permute(2, 0, 1)
                yield photo, pixels
                count += 1
        if not count:
            raise ValueError("it has no frames")
        seen = (frame.time or 0) - float((stream.start_time or 0) * stream.time_base)
        seen += float(1 / stream.average_rate) if stream.average_rate else 0
        if seconds - seen > min(2, seconds / 4):  # less may be sound that goes on
            log.warning("%s: its pictures end after %.1f of %.1f s", video.path, seen, seconds)
    except Exception as error:  # decoders raise anything over damaged bytes
        after = f" after {count} frames" if count else ""
        reason = getattr(error, "strerror", None) or first_line(error)
        failed.append(f"cannot read the video {video.path}{after}: {reason}")
