"""Untrusted tar archives: checked, unpacked aside, then moved into place."""

import shutil
import tarfile
from pathlib import Path, PureWindowsPath

from toyfcn.data.progress import progress

MAX_MEMBERS, MAX_BYTES = 500_000, 16 << 30  # VOC2012, the largest year, has 40,000 and 2 GB
LISTS = "ImageSets/Segmentation"


def unpack(tar: Path, root: Path, year: int, split: str, home: Path | None = None) -> None:
    """Unpack an archive that holds one VOC year below ``root``, or add what ``home`` lacks of it.

    A year appears at once and whole. Where it is there, no file is replaced, and the list of
    ``split`` comes last. ValueError where the archive is damaged, another one, or could do harm.
    """
    stage = root / f".{tar.name}.unpacking"
    try:
        shutil.rmtree(stage, ignore_errors=True)  # left by a run that was killed
        extract(tar, stage)
        last = next(stage.glob(f"**/VOC{year}/{LISTS}/{split}.txt"), None)
        if last is None:
            raise ValueError(f"{tar} holds no {LISTS}/{split}.txt of VOC{year}")
        fresh = last.parents[2]
        home = home or root / fresh.relative_to(stage)
        files = [path for path in fresh.rglob("*") if path.is_file() and path != last]
        for path in [*files, last] if home.exists() else [fresh]:
            target = home / path.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                path.rename(target)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"cannot unpack {tar} into {root}: {error}") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def extract(tar: Path, folder: Path) -> None:
    """Unpack all of an archive into a new folder, or nothing where a member could do harm."""
    with tarfile.open(tar, "r:") as archive, progress("unpacking") as advance:
        count = size = 0
        for member in archive:
            path, count, size = PureWindowsPath(member.name), count + 1, size + member.size
            if not (member.isreg() or member.isdir()):
                raise ValueError(f"{tar} is not unpacked: {member.name!r} is a link or a device")
            if path.anchor or ".." in path.parts:  # as Windows reads it: both slashes, drives
                raise ValueError(f"{tar} is not unpacked: {member.name!r} leads out of the folder")
            if count > MAX_MEMBERS or size > MAX_BYTES:
                raise ValueError(f"{tar} is not unpacked: no VOC archive has so much in it")
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # its rules, once more
        for done, member in enumerate(archive, 1):
            archive.extract(member, folder)
            advance(done, count)
