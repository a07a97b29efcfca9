"""Videos frame by frame: upright, as photos are predicted, and going on where they were left."""

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from numpy.typing import NDArray
from PIL import Image

import toyfcn

av = pytest.importorskip("av", reason="PyAV: pip install 'toyfcn[video]'")
Pixels = NDArray[np.uint8]
pytestmark = pytest.mark.usefixtures("one_thread")


def film(path: Path, count: int = 7, size: tuple[int, int] = (48, 64), codec: str = "ffv1") -> None:
    """Write a video of noise: without loss, of ffv1."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for pixels in noise(count, size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def noise(count: int, size: tuple[int, int]) -> list[Pixels]:
    return [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i in range(count)]


def mask(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)


def test_each_frame_is_a_photo(best: Path, command: Command) -> None:
    Path("in/day").mkdir(parents=True)
    film(Path("in/day/film.mkv"))
    Image.fromarray(noise(1, (40, 50))[0]).save("in/photo.png")
    words = ["device=cpu", "out=out", "shares=true"]
    answer = command("predict", f"ckpt={best}", "source=in", *words)
    assert answer.code == 0, answer.err
    assert "wrote masks and overlays of 1 photo and 7 frames into out" in answer.out
    predictor = toyfcn.load(best, "cpu")
    for index, pixels in enumerate(noise(7, (48, 64)), 1):
        place = Path(f"out/day/film/{index:06}.png")
        assert np.array_equal(mask(place), predictor.predict(pixels))
        assert place.with_name(f"{index:06}_overlay.png").exists()
    rows = list(csv.DictReader(Path("out/shares.csv").read_text().splitlines()))
    assert [row["photo"] for row in rows[:2]] == ["photo.png", "day/film/000001"] and len(rows) == 8


def test_what_is_there_is_not_computed_again(
    best: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(Path("film.mkv"))
    words = [f"ckpt={best}", "source=film.mkv", "out=out", "device=cpu", "shares=true"]
    assert command("predict", *words).code == 0
    whole = {path: path.read_bytes() for path in Path("out").rglob("*.*") if path.is_file()}
    for number in (3, 7):
        Path(f"out/film/00000{number}.png").unlink()
    label, labeled = toyfcn.Predictor.label, []
    monkeypatch.setattr(
        toyfcn.Predictor, "label", lambda *given: labeled.append(1) or label(*given)
    )
    answer = command("predict", *words, "resume=true")
    assert answer.code == 0, answer.err
    assert "resume: 5 frames were there already" in answer.out and len(labeled) == 2
    assert "wrote masks and overlays of 2 frames into out" in answer.out
    assert {path: path.read_bytes() for path in whole} == whole
    answer = command("predict", *words, "resume=true", "test_views=2")
    assert answer.code == 2 and "have made the masks in out" in answer.err


def test_videos_of_phones_come_upright(best: Path, command: Command) -> None:
    """Turned by the matrix of the track's header (tkhd), 90 degrees clockwise."""
    film(Path("film.mp4"), 1, codec="mpeg4")
    with av.open("film.mp4") as container:
        (plain,) = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    coded = bytearray(Path("film.mp4").read_bytes())
    at = coded.index(b"tkhd") + 4 + 40
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    coded[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    Path("film.mp4").write_bytes(coded)
    answer = command("predict", f"ckpt={best}", "source=film.mp4", "out=out", "device=cpu")
    assert answer.code == 0, answer.err
    expected = toyfcn.load(best, "cpu").predict(np.rot90(plain, -1).copy())
    assert np.array_equal(mask(Path("out/film/000001.png")), expected)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_half_of_a_short_video_is_told(best: Path, command: Command, count: int) -> None:
    film(Path("film.mkv"), count, (120, 160))
    whole = Path("film.mkv").read_bytes()
    answer = command("predict", f"ckpt={best}", "source=film.mkv", "out=out", "device=cpu")
    assert answer.code == 0 and "pictures end" not in answer.err + answer.out
    if count == 10:
        Path("cut.mkv").write_bytes(whole[: len(whole) // 2])
        answer = command("predict", f"ckpt={best}", "source=cut.mkv", "out=out", "device=cpu")
        assert answer.code == 0 and "of 2.0 s" in answer.err + answer.out


def test_mistakes_are_told_in_a_line(
    best: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(Path("film.mkv"), 30, (120, 160))
    whole = Path("film.mkv").read_bytes()
    given = [f"ckpt={best}", "out=out", "device=cpu"]
    Path("text.mp4").write_text("no video")
    answer = command("predict", *given, "source=text.mp4")
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert "1 of 1 photos and videos failed: cannot read the video text.mp4: " in answer.err
    Path("cut.mkv").write_bytes(whole[: len(whole) // 2])  # what is before the cut is predicted
    answer = command("predict", *given, "source=cut.mkv")
    assert answer.code == 0
    assert re.search(r"cut.mkv: its pictures end after [23]\.\d of 6\.0 s", answer.err + answer.out)
    assert 8 < len(list(Path("out/cut").glob("??????.png"))) < 20
    answer = command("predict", *given, "source=film.mkv", "polygons=labelme")
    assert answer.code == 2 and "film.mkv is a video" in answer.err
    Path("film").mkdir()
    Image.new("RGB", (40, 40)).save("film/000001.png")
    answer = command("predict", *given, "source=**/*")  # film.mkv and film/000001.png
    assert answer.code == 2 and "would both be written to" in answer.err
    monkeypatch.setitem(sys.modules, "av", None)
    answer = command("predict", *given, "source=film.mkv")
    assert answer.code == 2 and "pip install 'toyfcn[video]'" in answer.err
