"""PASCAL VOC's archives: fetched from the first server that has them, checked, unpacked."""

import sys
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from torchvision.datasets.utils import calculate_md5
from torchvision.datasets.voc import DATASET_YEAR_DICT

from toyfcn.config.data import VOCConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.locations import find_voc
from toyfcn.data.progress import progress
from toyfcn.data.tools.unpack import LISTS, MAX_BYTES, unpack
from toyfcn.text import printable

TIMEOUT = 30.0  # seconds that a server may be silent
ARCHIVES = {2007: ("2007", "2007-test"), 2011: ("2011",), 2012: ("2012",)}  # torchvision's keys


def download_voc(config: DataCommandConfig) -> str:
    """Bring what is missing of a VOC year below ``data.root``; ValueError where it cannot be."""
    data, root, done = config.data, Path(config.data.root), "is there already"
    if not isinstance(data, VOCConfig) or data.year not in ARCHIVES:
        raise ValueError(f"cannot download data={data.name}: set data=voc2007, voc2011 or voc2012")
    archives = {DATASET_YEAR_DICT[key]["filename"]: key for key in ARCHIVES[data.year]}
    sums = config.md5 or [DATASET_YEAR_DICT[key]["md5"] for key in archives.values()]
    if len(sums) != len(archives):
        raise ValueError(f"md5= needs {len(archives)} checksums, of {', '.join(archives)}")
    for name, md5, split in zip(archives, sums, ("train", "test"), strict=False):
        url = DATASET_YEAR_DICT[archives[name]]["url"]
        urls = config.mirrors or [url, url.replace("https://thor.", "http://host.")]
        if wrong := [url for url in urls if not url.startswith(("http://", "https://"))]:
            raise ValueError(f"mirrors= holds {wrong[0]}: name http:// or https:// URLs")
        # a mirror is a folder of archives, or one of them, which may be the other one
        urls = [url if url.endswith(".tar") else f"{url.rstrip('/')}/{name}" for url in urls]
        urls = [url for url in urls if url.rpartition("/")[2] not in {*archives} - {name}]
        try:
            home = find_voc(root, data.year)
        except ValueError:
            home = None
        if home is None or not (home / LISTS / f"{split}.txt").is_file():
            fetch(root / name, md5.lower(), urls)
            unpack(root / name, root, data.year, split, home)
            done = "is complete"
            if not config.keep:
                (root / name).unlink()
    return f"{find_voc(root, data.year)} {done}"


def fetch(tar: Path, md5: str, urls: list[str]) -> None:
    """Bring an archive from the first URL that has it; ValueError with each one's reason."""
    if tar.exists():
        if (found := calculate_md5(tar)) != md5:
            raise ValueError(f"{tar} has the md5 {found}, not {md5}: delete it, or set md5=[…]")
        return
    part, failures = tar.with_name(f"{tar.name}.part"), []
    for url in urls:
        print(f"fetching {url}", flush=True)
        try:
            tar.parent.mkdir(parents=True, exist_ok=True)
            for continued in (part.exists(), False):
                receive(url, part)
                if (found := calculate_md5(part)) == md5:
                    part.replace(tar)
                    return
                part.unlink()
                if not continued:  # else it began as another archive: once more, from its start
                    raise URLError(f"its md5 is {found}, not {md5}, so it was removed")
        except (OSError, HTTPException) as error:
            reason = error if isinstance(error, HTTPError) else getattr(error, "reason", error)
            failures.append(f"{url}: {printable(reason, 160)}")
            print(f"  failed: {printable(reason, 160)}", file=sys.stderr)
    raise ValueError(
        f"could not download {tar.name} (tried {'; '.join(failures)}). Name other servers with "
        f"mirrors=[URL,…], or put the archive into data.root={tar.parent}"
    )


def receive(url: str, part: Path) -> None:
    """Append to a file what it lacks of a URL, again after each break that brought some of it."""
    with progress("fetching", in_bytes=True) as advance:
        while True:
            have = part.stat().st_size if part.exists() else 0
            asked = Request(url, headers={"User-Agent": "toyfcn-data", "Range": f"bytes={have}-"})
            try:
                with urlopen(asked, timeout=TIMEOUT) as answer:
                    size = have if answer.status == 206 else 0
                    total = size + int(answer.headers["Content-Length"] or 0)
                    if answer.headers.get_content_type() == "text/html" or total > MAX_BYTES:
                        raise URLError("it answers with a web page, or more than any VOC archive")
                    with part.open("ab" if size else "wb") as file:
                        while size <= MAX_BYTES and (chunk := answer.read(1 << 20)):
                            size += file.write(chunk)
                            advance(size, total)
                if size >= total:
                    return
                raise ConnectionError(f"the connection ended after {size:,} of {total:,} bytes")
            except (OSError, HTTPException) as error:
                if have and isinstance(error, HTTPError) and error.code == 416:
                    return  # nothing lies beyond what is there
                if not part.exists() or part.stat().st_size <= have:
                    raise
