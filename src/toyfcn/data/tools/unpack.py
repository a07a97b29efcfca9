"""Tar archives from strangers: looked through, unpacked aside, then moved into place."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path, PureWindowsPath

from toyfcn.data.tools.progress import progress
from toyfcn.data.voc import find_voc

# VOC2012, the largest year, has 40,000 members and 2 GB
MAX_MEMBERS = 500_000
MAX_MEMBER = 256 << 20  # bytes of one file
MAX_BYTES = 16 << 30  # of all files together
SLACK = 1.1  # a small file takes a whole block of the disk


class LocalError(ValueError):
    """Something on this machine, which no other server would mend."""


def unpack(tar: Path, root: Path, year: int, proof: str) -> Path:
    """Unpack an archive that holds one VOC year below ``root``; return the year's folder.

    Everything is unpacked aside first. A year that is not there yet appears at once and whole; to
    one that is, the missing files are added, and ``proof``, the split list that shows that the
    archive is there, comes last. A file that is there already stays as it is.

    Raises:
        ValueError: the archive is damaged, holds something else, or could do harm.
    """
    stage = root / f".{tar.name}.unpacking"
    try:
        shutil.rmtree(stage, ignore_errors=True)  # left by a run that was killed
        extract(tar, stage)
        try:
            fresh = find_voc(stage, year)
        except ValueError:
            fresh = stage
        if not (fresh / "ImageSets" / "Segmentation" / f"{proof}.txt").is_file():
            raise ValueError(f"{tar} holds no ImageSets/Segmentation/{proof}.txt of VOC{year}")
        try:
            home = find_voc(root, year)
        except ValueError:
            home = root / fresh.relative_to(stage)
        home.parent.mkdir(parents=True, exist_ok=True)
        if home.exists():
            add_files(fresh, home, proof)
        else:
            fresh.rename(home)
        return home
    except OSError as error:
        raise LocalError(f"cannot unpack {tar} into {root}: {error}") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def extract(tar: Path, folder: Path) -> None:
    """Unpack all of an archive into a new folder, or nothing where a member could do harm."""
    try:
        with tarfile.open(tar, "r:") as archive:
            members = look_through(archive, tar)
            make_sure_of_room(tar.parent, SLACK * sum(m.size for m in members), f"unpacking {tar}")
            # the same rules once more by the standard library, where it has them
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            folder.mkdir()
            with progress("unpacking") as advance:
                for done, member in enumerate(members, 1):
                    archive.extract(member, folder)
                    advance(done, len(members))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{tar} is no sound tar archive: {error}") from None


def look_through(archive: tarfile.TarFile, path: Path) -> list[tarfile.TarInfo]:
    """Return all members of an archive.

    Raises:
        ValueError: one is no plain file or folder, leads elsewhere, or all are too many or large.
    """
    members, size = [], 0
    for member in archive:
        size += member.size
        if why := objection(member):
            raise ValueError(f"{path} is not unpacked: its member {member.name!r} {why}")
        members.append(member)
        if size > MAX_BYTES or len(members) > MAX_MEMBERS:
            raise ValueError(
                f"{path} is not unpacked: it has more than {MAX_MEMBERS} members or "
                f"{amount(MAX_BYTES)}, which no VOC archive has"
            )
    return members


def objection(member: tarfile.TarInfo) -> str | None:
    """Say why a member is not to be unpacked, if so."""
    if not member.isreg() and not member.isdir():
        return "is a link or a device"
    windows = PureWindowsPath(member.name)
    if windows.root or windows.drive or ".." in re.split(r"[\\/]", member.name):
        return "leads out of the folder"
    if member.size > MAX_MEMBER:
        return f"claims {amount(member.size)}"
    return None


def add_files(fresh: Path, home: Path, proof: str) -> None:
    """Move the files that a folder does not have yet into it, the split list ``proof`` last."""
    files = [path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda path: (path.name == f"{proof}.txt", path)):
        target = home / file
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            (fresh / file).rename(target)


def make_sure_of_room(folder: Path, needed: float, what: str) -> None:
    """See that a disk has room.

    Raises:
        LocalError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LocalError(
            f"{what} takes {amount(needed)}, but only {amount(free)} are free in {folder}: "
            "make room, or set data.root= to a folder on another disk"
        )


def amount(size: float) -> str:
    """Write a number of bytes for people."""
    unit = 0
    while size >= 1024 and unit < 3:
        size, unit = size / 1024, unit + 1
    return f"{size:.{min(unit, 1)}f} {('B', 'KiB', 'MiB', 'GiB')[unit]}"
