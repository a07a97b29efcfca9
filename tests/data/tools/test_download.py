"""Downloads from a real server on 127.0.0.1, of small archives made here."""

import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from toyfcn.config.data import ShapesConfig, VOCConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.tools import download, unpack
from toyfcn.data.tools.download import download_voc
from toyfcn.data.voc import find_voc

FILE = "VOCtrainval_11-May-2012.tar"
LIST = "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"


class Server(ThreadingHTTPServer):
    """Serves ``files``; its switches make it misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = True  # False: sends all, whatever was asked
        self.shift = 0  # bytes by which a partial answer begins elsewhere
        self.break_after: list[int] = []  # bytes after which the next connections break
        self.kind = "application/x-tar"
        self.claim: int | None = None  # a Content-Length that is not true
        self.asked: list[tuple[str, str | None]] = []  # (path, Range) of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.asked.append((self.path, asked))
        if self.path not in server.files:
            self.send_error(404)
            return
        body, start = server.files[self.path], 0
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            start += server.shift if start else 0
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(server.claim or len(body) - start))
        self.end_headers()
        end = start + server.break_after.pop(0) if server.break_after else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def tar_of(members: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in more:
            tar.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def voc_tar(year: int = 2012, above: str = "VOCdevkit", lists: str = "train") -> bytes:
    """An archive of 40 KiB, so that it comes in parts where it is to."""
    home = f"{above}/VOC{year}"
    return tar_of(
        {
            f"{home}/JPEGImages/{lists}_1.jpg": bytes(range(256)) * 128,
            f"{home}/ImageSets/Segmentation/{lists}.txt": b"a\n",
        }
    )


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(tmp_path: Path, server: Server) -> Fetch:
    """Downloads VOC2012 into tmp_path / "here" from the server, which has ``content``."""

    def run(content: bytes | None = None, **options: Any) -> Path:
        root = tmp_path / "here"
        if content is not None:
            server.files[f"/{FILE}"] = content
            options.setdefault("md5", [md5(content)])
        options.setdefault("mirrors", [server.url])
        year = options.pop("year", 2012)
        data = VOCConfig(name=f"voc{year}", year=year, root=str(root))
        print(download_voc(DataCommandConfig(data=data, **options)))
        return root

    return run


def told(fetch: Fetch, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        fetch(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


PARTS = {"VOCdevkit/VOC2012/JPEGImages/train_1.jpg", LIST}


# ---- what it fetches ----


def test_a_year_is_fetched_checked_and_unpacked(fetch, capsys):
    root = fetch(voc_tar())
    assert files_in(root) == PARTS
    assert not any(path.name.startswith(".") for path in root.iterdir())
    assert (root / LIST).read_bytes() == b"a\n"
    assert f"{root}/VOCdevkit/VOC2012 is complete" in capsys.readouterr().out


def test_what_is_there_is_not_fetched_again(fetch, server, capsys):
    fetch(voc_tar())
    fetch(mirrors=["http://127.0.0.1:9/"])
    assert len(server.asked) == 1
    assert "already" in capsys.readouterr().out


def test_a_year_without_lists_is_completed(fetch, tmp_path):
    photos = tmp_path / "here/VOCdevkit/VOC2012/JPEGImages"
    photos.mkdir(parents=True)
    (photos / "train_1.jpg").write_bytes(b"mine")
    assert files_in(fetch(voc_tar())) == PARTS
    assert (photos / "train_1.jpg").read_bytes() == b"mine"


def test_the_archive_stays_if_asked(fetch, server):
    root = fetch(voc_tar(), keep=True)
    assert files_in(root) == PARTS | {FILE}
    shutil.rmtree(root / "VOCdevkit")
    fetch(md5=[md5(voc_tar())], mirrors=["http://127.0.0.1:9/"])  # unpacked without a server
    assert files_in(root) == PARTS
    assert len(server.asked) == 1


def test_a_foreign_file_of_the_archives_name_is_told_and_stays(fetch, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / FILE).write_bytes(b"mine")
    assert md5(b"mine") in told(fetch, voc_tar())
    assert (tmp_path / "here" / FILE).read_bytes() == b"mine"


def test_2011_has_a_folder_more(fetch, server):
    server.files["/x.tar"] = content = voc_tar(2011, "TrainVal/VOCdevkit")
    root = fetch(mirrors=[f"{server.url}/x.tar"], md5=[md5(content)], year=2011)
    assert find_voc(root, 2011) == root / "TrainVal/VOCdevkit/VOC2011"


def test_2007_comes_in_two_archives(fetch, server):
    contents = [voc_tar(2007), voc_tar(2007, lists="test")]
    sums = [md5(content) for content in contents]
    names = [f"VOC{part}_06-Nov-2007.tar" for part in ("trainval", "test")]
    server.files |= {f"/voc/{name}": content for name, content in zip(names, contents, strict=True)}
    of_test = f"{server.url}/voc/{names[1]}"
    root = fetch(mirrors=[of_test, f"{server.url}/voc/"], md5=sums, year=2007)
    assert [path.rpartition("/VOC")[2][:4] for path, _ in server.asked] == ["trai", "test"]
    home = find_voc(root, 2007)
    assert {path.name for path in home.rglob("*.txt")} == {"train.txt", "test.txt"}
    (home / "ImageSets/Segmentation/test.txt").unlink()
    (home / "JPEGImages/test_1.jpg").write_bytes(b"mine")
    fetch(mirrors=[f"{server.url}/voc"], md5=sums, year=2007)  # only the part that is missing
    assert len(server.asked) == 3
    assert (home / "ImageSets/Segmentation/test.txt").is_file()
    assert (home / "JPEGImages/test_1.jpg").read_bytes() == b"mine"


def test_without_mirrors_the_official_server_is_asked_by_both_its_names(fetch, monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(download, "urlopen", refuse)
    told(fetch, mirrors=None)
    path = f"robots.ox.ac.uk/pascal/VOC/voc2012/{FILE}"
    assert asked == [f"https://thor.{path}", f"http://host.{path}"]


# ---- partial files ----


def part_of(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "here").mkdir()
    part = tmp_path / "here" / f"{FILE}.part"
    part.write_bytes(content)
    return part


def test_a_partial_file_is_gone_on_with(fetch, server, tmp_path):
    part_of(tmp_path, voc_tar()[:1000])
    assert files_in(fetch(voc_tar())) == PARTS
    assert server.asked == [(f"/{FILE}", "bytes=1000-")]


def test_a_whole_partial_file_is_taken(fetch, tmp_path):
    part_of(tmp_path, voc_tar())
    assert files_in(fetch(voc_tar())) == PARTS


def test_a_server_without_ranges_sends_all(fetch, server, tmp_path):
    part_of(tmp_path, voc_tar()[:1000])
    server.ranges = False
    assert files_in(fetch(voc_tar())) == PARTS
    assert len(server.asked) == 1


@pytest.mark.parametrize("length", [1000, 10**6], ids=["shorter", "longer"])
def test_a_partial_file_of_another_archive_is_fetched_afresh(fetch, server, tmp_path, length):
    part_of(tmp_path, b"x" * length)
    assert files_in(fetch(voc_tar())) == PARTS
    assert [asked for _, asked in server.asked] == [f"bytes={length}-", "bytes=0-"]


def test_a_server_that_sends_another_part_is_asked_for_all(fetch, server, tmp_path):
    part_of(tmp_path, voc_tar()[:1000])
    server.shift = 7
    assert files_in(fetch(voc_tar())) == PARTS
    assert [asked for _, asked in server.asked] == ["bytes=1000-", "bytes=0-"]


def test_broken_connections_are_taken_up_again(fetch, server):
    server.break_after = [5000, 7000]
    assert files_in(fetch(voc_tar())) == PARTS
    assert [asked for _, asked in server.asked] == ["bytes=0-", "bytes=5000-", "bytes=12000-"]


def test_a_server_that_stops_leaves_the_partial_file(fetch, server, tmp_path):
    server.break_after = [5000, *[0] * 9]
    assert "ended after 5,000 of 40,960 bytes" in told(fetch, voc_tar())
    assert (tmp_path / "here" / f"{FILE}.part").stat().st_size == 5000


def test_a_silent_server_is_given_up(fetch, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(Handler, "do_GET", lambda self: threading.Event().wait(0.5))
    assert "timed out" in told(fetch, voc_tar())


# ---- mirrors ----


def test_mirrors_are_tried_in_order(fetch, server, capsys):
    down = "http://127.0.0.1:9"
    root = fetch(voc_tar(), mirrors=[down, f"{server.url}/gone", f"{server.url}/"])
    assert files_in(root) == PARTS
    output = capsys.readouterr()
    assert f"fetching {down}/{FILE}" in output.out
    assert "refused" in output.err
    assert "HTTP Error 404" in output.err


def test_the_second_mirror_goes_on_where_the_first_broke(fetch, server):
    server.files[f"/a/{FILE}"] = voc_tar()
    server.break_after = [5000, 0]
    assert files_in(fetch(voc_tar(), mirrors=[f"{server.url}/a", server.url])) == PARTS
    assert server.asked[-1] == (f"/{FILE}", "bytes=5000-")


def test_when_all_fail_it_tells_what_was_tried_and_what_to_do(fetch, server):
    text = told(fetch, mirrors=["http://127.0.0.1:9", f"{server.url}/none"])
    for words in ("127.0.0.1:9", "refused", "/none/", "404", "data.root=", "mirrors="):
        assert words in text


def test_a_wrong_checksum_removes_the_file_and_is_told(fetch, tmp_path):
    text = told(fetch, voc_tar(), md5=["0" * 32])
    assert md5(voc_tar()) in text
    assert "0" * 32 in text
    assert files_in(tmp_path / "here") == set()


def test_a_web_page_is_no_archive(fetch, server):
    server.kind = "text/html; charset=utf-8"
    assert "web page" in told(fetch, voc_tar())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mirrors": ["file:///etc/"]}, "file:///etc/"),
        ({"mirrors": ["voc.tar"]}, "voc.tar"),
        ({"md5": ["a", "b"]}, "1 checksums"),
        ({"year": 2009}, "voc2012"),
    ],
)
def test_options_that_make_no_sense(fetch, options, words):
    assert words in told(fetch, **options)


def test_shapes_are_not_downloaded():
    with pytest.raises(ValueError, match="cannot download data=shapes"):
        download_voc(DataCommandConfig(data=ShapesConfig()))


def test_a_server_that_claims_too_much(fetch, server):
    server.claim = 10**15
    assert "more than any VOC archive" in told(fetch, voc_tar())


def test_a_folder_that_cannot_be_made(fetch, tmp_path):
    (tmp_path / "here").write_text("a file")
    assert "data.root=" in told(fetch, voc_tar())


# ---- archives that could do harm ----


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil"),
        member("VOCdevkit/../../evil"),
        member("VOCdevkit\\..\\..\\evil"),
        member("/tmp/evil"),
        member("C:\\evil"),
        member("link", tarfile.SYMTYPE, "../.."),
        member("link", tarfile.SYMTYPE, "VOCdevkit"),
        member("link", tarfile.LNKTYPE, "../../evil"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.linkname}",
)
def test_members_that_lead_elsewhere(fetch, tmp_path, bad):
    text = told(fetch, tar_of({"link/evil": b"x", LIST: b"a"}, bad))
    assert repr(bad.name) in text
    assert files_in(tmp_path) == {f"here/{FILE}"}  # nothing unpacked, inside or outside


def test_a_huge_member_is_refused(fetch):
    content = tar_of({}, member("bomb", size=unpack.MAX_BYTES + 1))
    assert "no VOC archive has so much in it" in told(fetch, content)


@pytest.mark.parametrize(("limit", "value"), [("MAX_MEMBERS", 1), ("MAX_BYTES", 1000)])
def test_too_many_or_too_large_members(fetch, monkeypatch, limit, value):
    monkeypatch.setattr(unpack, limit, value)
    assert "no VOC archive has so much in it" in told(fetch, voc_tar())


def test_another_archive_is_told(fetch, tmp_path):
    assert "VOC2012" in told(fetch, voc_tar(2007))
    assert files_in(tmp_path / "here") == {FILE}


@pytest.mark.parametrize("content", [b"no tar at all" * 99, voc_tar()[:33000]], ids=["text", "cut"])
def test_a_damaged_archive_is_told(fetch, content, tmp_path):
    assert FILE in told(fetch, content)
    assert not (tmp_path / "here/VOCdevkit").exists()


def test_an_interrupted_unpacking_looks_unfinished(fetch, monkeypatch, tmp_path):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(voc_tar())
    assert files_in(tmp_path / "here") == {FILE}
    (tmp_path / "here" / f".{FILE}.unpacking").mkdir()  # as a killed run leaves it
    assert files_in(fetch(voc_tar())) == PARTS
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["VOCdevkit"]
