"""PASCAL VOC's archives: fetched from the first server that has them, checked, unpacked."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from toyfcn.config.commands import DataCommandConfig
from toyfcn.config.data import VOCConfig
from toyfcn.data.tools.progress import Advance, progress
from toyfcn.data.tools.unpack import MAX_BYTES, SLACK, LocalError, amount, make_sure_of_room, unpack
from toyfcn.data.voc import find_voc

TIMEOUT = 30.0  # seconds that a server may be silent
BREAKS = 5  # how often a broken connection that brought something is taken up again
CHUNK = 1 << 20


class Archive(NamedTuple):
    """A file of VOC's, and the split list that shows that it has been unpacked."""

    file: str
    md5: str
    proof: str


ARCHIVES = {
    2007: (
        Archive("VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", "train"),
        Archive("VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", "test"),
    ),
    2011: (Archive("VOCtrainval_25-May-2011.tar", "6c3384ef61512963050cb5d687e5bf1e", "train"),),
    2012: (Archive("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", "train"),),
}
OFFICIAL = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc{year}/",  # as torchvision has it
    "http://host.robots.ox.ac.uk/pascal/VOC/voc{year}/",
)


def download_voc(config: DataCommandConfig) -> str:
    """Bring a VOC year below ``data.root``, whatever of it is missing there; say where it is.

    Raises:
        ValueError: the options make no sense, or it could not be had; the message says why.
    """
    data = config.data
    if not isinstance(data, VOCConfig) or data.year not in ARCHIVES:
        known = " or ".join(f"data=voc{year}" for year in ARCHIVES)
        raise ValueError(f"data={data.name} cannot be downloaded: choose {known}")
    year, root = data.year, Path(data.root).expanduser()
    archives = ARCHIVES[year]
    if config.md5 is not None:
        if len(config.md5) != len(archives):
            names = ", ".join(archive.file for archive in archives)
            raise ValueError(f"md5= needs {len(archives)} checksums, of {names}")
        pairs = zip(archives, config.md5, strict=True)
        archives = tuple(archive._replace(md5=md5.lower()) for archive, md5 in pairs)
    mirrors = config.mirrors or [mirror.format(year=year) for mirror in OFFICIAL]
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https"):
            raise ValueError(f"mirrors= holds {mirror}, which is no http:// or https:// URL")

    missing = [archive for archive in archives if not is_unpacked(root, year, archive)]
    for archive in missing:
        try:
            root.mkdir(parents=True, exist_ok=True)
            tar = fetch(archive, list(urls(mirrors, archive, archives)), root)
        except OSError as error:
            raise ValueError(f"cannot write into data.root={root}: {error}") from None
        unpack(tar, root, year, archive.proof)
        if not config.keep:
            tar.unlink()
    home = find_voc(root, year)
    return f"{home} is {'complete' if missing else 'there already: nothing to download'}"


def is_unpacked(root: Path, year: int, archive: Archive) -> bool:
    """Tell whether what an archive brings is there already."""
    try:
        home = find_voc(root, year)
    except ValueError:
        return False
    return (home / "ImageSets" / "Segmentation" / f"{archive.proof}.txt").is_file()


def urls(mirrors: list[str], archive: Archive, archives: tuple[Archive, ...]) -> Iterator[str]:
    """Yield where an archive may lie: a mirror names a folder, or one archive by its URL."""
    others = {other.file for other in archives} - {archive.file}
    for mirror in mirrors:
        path = urlsplit(mirror).path
        if not path.endswith(".tar"):
            yield f"{mirror.rstrip('/')}/{archive.file}"
        elif Path(path).name not in others:
            yield mirror


def fetch(archive: Archive, urls: list[str], root: Path) -> Path:
    """Return the archive's file in ``root``, from the first URL that has the right one.

    A file that is there already, whole or in part (``.part``), is not fetched again.

    Raises:
        ValueError: no URL had it; the message tells the reason for each.
    """
    tar = root / archive.file
    if tar.exists():
        if (found := md5_of(tar)) == archive.md5:
            return tar
        raise ValueError(
            f"{tar} is there, but has the md5 {found} instead of {archive.md5}: delete it to have "
            "it downloaded, or name its checksum with md5=[…]"
        )
    part = tar.with_name(tar.name + ".part")
    failures = []
    for url in urls:
        print(f"fetching {url}", flush=True)
        try:
            fetch_from(url, part, archive.md5)
        except LocalError:
            raise
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {reason(error)}")
            print(f"  failed: {reason(error)}", file=sys.stderr)
        else:
            part.replace(tar)
            return tar
    raise ValueError(
        f"could not download {archive.file} (tried {'; '.join(failures) or 'nothing'}). Name other "
        "servers with mirrors=[URL,…], or, if you have a copy, set data.root= to the folder that "
        "holds its VOCdevkit"
    )


def reason(error: BaseException) -> str:
    """Say in a few words why a server failed."""
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        return reason(error.reason)
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT:g} s"
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(text.split()) or type(error).__name__


def fetch_from(url: str, part: Path, md5: str) -> None:
    """Fetch one URL into ``part``, going on where that ends, until it has the right checksum.

    Raises:
        ValueError: the file there is another one.
        OSError, HTTPException: the server does not give it.
    """
    for _ in range(2):
        with progress("fetching", in_bytes=True) as advance:
            went_on = stream(url, part, advance)
        found = md5_of(part)
        if found == md5:
            return
        part.unlink()
        if not went_on:
            break
        print("  the partial file was of another archive, and is fetched afresh", file=sys.stderr)
    raise ValueError(f"its md5 is {found} instead of {md5}, so it was removed")


def stream(url: str, part: Path, advance: Advance) -> bool:
    """Fetch what ``part`` does not hold yet; tell whether it held something that was kept."""
    went_on, breaks = False, 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        try:
            with ask(url, have) as response:
                went_on = have > 0 and response.status == 206
                receive(response, part, have if went_on else 0, advance)
                return went_on
        except HTTPError as error:
            if error.code == 416 and have:  # nothing lies beyond what is there
                return True
            raise
        except (OSError, HTTPException):
            brought = part.exists() and part.stat().st_size > have
            if not brought or breaks == BREAKS:
                raise
            breaks += 1
            time.sleep(0.1 * 2**breaks)


def ask(url: str, have: int) -> HTTPResponse:
    """Ask for a file from byte ``have`` on."""
    headers = {"User-Agent": "toyfcn-data", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    answer: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    return answer


def receive(response: HTTPResponse, part: Path, have: int, advance: Advance) -> None:
    """Write an answer's body behind the first ``have`` bytes of ``part``.

    Raises:
        LocalError: there is no room for it, or it cannot be written.
        ConnectionError: it ended too early.
        ValueError: it is no archive.
    """
    if response.headers.get_content_type() == "text/html":
        raise ValueError("it answers with a web page")
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else 0
    if total > MAX_BYTES:
        raise ValueError(f"it claims {amount(total)}, which no VOC archive has")
    make_sure_of_room(part.parent, total - have + SLACK * total, f"{part.stem} with its content")
    try:
        file = part.open("ab" if have else "wb")
    except OSError as error:
        raise LocalError(f"cannot write {part}: {error.strerror}") from None
    with file:
        while chunk := response.read(CHUNK):
            try:
                file.write(chunk)
            except OSError as error:
                raise LocalError(f"cannot write {part}: {error.strerror}") from None
            have += len(chunk)
            if have > MAX_BYTES:
                raise ValueError(f"it sends more than {amount(MAX_BYTES)}")
            advance(have, total)
    if have < total:
        raise ConnectionError(f"the connection ended after {amount(have)} of {amount(total)}")


def md5_of(path: Path) -> str:
    """Return a file's MD5 checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
