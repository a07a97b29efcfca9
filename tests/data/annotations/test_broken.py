"""Broken annotations: each is told in one line with the file and the place, and leaves nothing."""

import json
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated import FORMATS, coco_content, photos
from conftest import Command

from toyfcn.config.data_commands import ConvertConfig
from toyfcn.data.tools import run_convert

ODD: list[Any] = [
    *(
        None,
        True,
        -1,
        2.5,
        10**400,
        1e300,
        float("nan"),
        float("inf"),
        [],
        {},
        [1],
        "",
        "x",
        "\x1b[2J",
    ),
    *("../../etc/passwd", "/etc/passwd", "C:\\x.png", "a\x00.png", [[0, 0], [1, 1]], "9" * 5000),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values in JSON."""
    keys = list(value) if isinstance(value, dict) else []
    keys = list(range(len(value))) if isinstance(value, list) else keys
    return [path, *(found for key in keys for found in places(value[key], (*path, key)))]


def change_json(text: str, draw: random.Random) -> str:
    """Take out, repeat or replace one value."""
    content = json.loads(text)
    *way, last = draw.choice(places(content)[1:])
    above = content
    for key in way:
        above = above[key]
    match draw.randrange(4):
        case 0:
            del above[last]
        case 1 if isinstance(above, list):
            above.append(above[last])
        case _:
            above[last] = draw.choice(ODD)
    return json.dumps(content)


def change_words(text: str, draw: random.Random) -> str:
    """Replace a number, or what stands in quotes or behind a colon, in XML, YAML or a text file."""
    found = draw.choice([*re.finditer(r'(?<=")[^"<>]+(?=")|[\d.]+|(?<=: )\S+', text)])
    new = draw.choice(["", "nan", "-1", "1e400", "x", "../../x", "/x.png", "9" * 400, "&x;", "0.5"])
    return text[: found.start()] + new + text[found.end() :]


def change_bytes(text: str, draw: random.Random) -> bytes:
    """Cut off, take out, or put in some bytes."""
    content = text.encode()
    first, second = sorted(draw.sample(range(len(content)), 2))
    junk = draw.choice(
        [b"", b"\xff\xfe", b"\x00", b"{", b"]", b"<", b"&", b"[" * 100_000, b'"', b"9" * 5000]
    )
    return draw.choice([content[:first], content[:first] + junk + content[second:], junk])


def break_one(format_: str, source: Path, draw: random.Random) -> Path:
    """Change one file of sound annotations."""
    folder = source if source.is_dir() else source.parent
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in (".json", ".xml", ".yaml", ".txt")]
    file = draw.choice(files)
    text, structured = file.read_text(), change_json if file.suffix == ".json" else change_words
    changed = draw.choice([structured, structured, structured, change_bytes])(text, draw)
    file.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    return file


def refused(format_: str, folder: Path, seed: int) -> str | None:
    """What is said about a broken file; None: it is sound in spite of the change."""
    source = FORMATS[format_](folder / "source")
    file = break_one(format_, source, random.Random(seed))
    config = ConvertConfig(from_=format_, source=str(source), out=str(folder / "out"))
    try:
        with warnings.catch_warnings(action="error"):
            warnings.filterwarnings("ignore", module="pycocotools")
            assert run_convert.run(config) == 0
    except ValueError as error:
        assert sorted(path.name for path in folder.iterdir()) == ["source"]
        told = str(error)
        assert told.isprintable() and len(told) < 700
        place = (
            rf"{re.escape(str(folder))}/source/[\w./]+: .+: .+"  # of another, as data.yaml's names
        )
        whole = rf"{re.escape(str(file))}: (has no|is|train, val and test|nested) .+"
        nothing = r"source=\S+ holds no .+|there are 0 classes: .+"
        assert re.match(f"{place}|{whole}|{nothing}", told), told
        return told
    shutil.rmtree(folder / "out")
    return None


def refuse_many(format_: str, folder: Path, count: int) -> None:
    """Break files until so many were refused."""
    seed = told = 0
    while told < count:
        home = folder / str(seed)
        told += refused(format_, home, seed) is not None
        shutil.rmtree(home)
        seed += 1
    assert seed < 4 * count + 10  # most changes are faults


@pytest.mark.parametrize("format_", FORMATS)
def test_broken_annotations_are_one_line(format_: str, tmp_path: Path) -> None:
    refuse_many(format_, tmp_path, 12)


@pytest.mark.slow
@pytest.mark.parametrize("format_", FORMATS)
def test_300_broken_annotations_are_one_line(format_: str, tmp_path: Path) -> None:
    refuse_many(format_, tmp_path, 60)


Change = Callable[[dict[str, Any]], object]


def rle(counts: Any, size: Any = (48, 64)) -> Change:
    return lambda coco: coco["annotations"][2].update(
        segmentation={"size": [*size], "counts": counts}
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["images"][0].update(file_name="../a.png"), r"images\[0\].* leads out of the"),
        (lambda c: c["images"][0].update(file_name="/a.png"), r"images\[0\].* leads out of the"),
        (lambda c: c["images"][0].update(file_name="c.png"), r"images\[0\].*there is no photo .*c"),
        (
            lambda c: c["images"][0].update(width=65),
            "is said to be 65 x 48 pixels, .* has 64 x",
        ),
        (
            lambda c: c["images"][1].update(id=7),
            r"images\[1\].id: .* has the id 7 too",
        ),
        (lambda c: c["annotations"][1].update(id=1), r"annotations\[1\].id: .*has the id 1 too"),
        (lambda c: c["annotations"][1].update(image_id=99), "image_id: no image has the id 99"),
        (lambda c: c["annotations"][1].update(category_id=99), "no category has the id 99"),
        (lambda c: c["annotations"][1].update(iscrowd=2), "is 2, not 0 or 1"),
        (lambda c: c["annotations"][1].update(segmentation=[]), r"\(id 2\).segmentation: is empty"),
        (
            lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, 4]]),
            "3 points or more",
        ),
        (lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3]]), "no pairs of x and y"),
        (
            lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3, float("nan"), 5, 6]]),
            r"annotations\[1\] \(id 2\).segmentation\[0\]\[3\]: is nan",
        ),
        (
            lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3e9, 4, 5, 6]]),
            r"the point \(3e\+09, 4\) lies far outside of the photo of 64 x 48 pixels",
        ),
        (rle([100, 30]), r"counts: the RLE has 130 pixels, not 48 x 64 = 3072"),
        (rle([-5, 3077]), "the RLE has lengths that are no whole numbers from 0 on"),
        (rle([1.5, 3070.5]), "the RLE has lengths that are no whole numbers from 0 on"),
        (rle([10**400]), "digits"),
        (rle([1e300, 1]), "the RLE has 1000"),
        (lambda c: c["images"][0].update(file_name="a" * 300), r"images\[0\].*there is no photo"),
        (rle("abc"), "compressed RLE|the RLE has"),
        (rle("0o"), "ends in the middle"),
        (rle("1\x07"), "character 1"),
        (rle([3072], (64, 48)), r"size: is \[64.0, 48.0\], but the photo is \[48, 64\]"),
    ],
)
def test_faults_of_coco(change: Change, told: str, tmp_path: Path) -> None:
    photos(tmp_path)
    content = coco_content()
    change(content)
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=told) as error:
        run_convert.run(ConvertConfig(from_="coco", source=str(file), out=str(tmp_path / "out")))
    assert str(error.value).startswith(f"{file}: ")
    assert not (tmp_path / "out").exists()


LINES = {
    "1 0.1 0.2 0.3 0.4": "line 1: has 4 numbers behind the class: a box, not a polygon",
    "1 0.1 0.2 0.3": "line 1: has 3 numbers behind the class, no pairs",
    "2 0.1 0.2 0.3 0.4 0.5 0.6": "line 1: 2 is no number of a class, 0 to 1",
    "0.5 0.1 0.2 0.3 0.4 0.5 0.6": "line 1: 0.5 is no number of a class",
    "\n1 0.1 0.2 0.3 nan 0.5 0.6": "line 2: is nan",
    "1 0.1 0.2 0.3 x 0.5 0.6": "line 1: is text, not a number",
    "1 10 20 30 40 50 60": r"line 1: the point \(640, 960\) lies far outside",
}


@pytest.mark.parametrize(("line", "told"), LINES.items())
def test_faults_of_yolo(line: str, told: str, tmp_path: Path) -> None:
    source = FORMATS["yolo"](tmp_path / "in")
    (source / "labels/train/a.txt").write_text(line)
    with pytest.raises(ValueError, match=rf"labels/train/a\.txt: {told}"):
        run_convert.run(ConvertConfig(from_="yolo", source=str(source), out=str(tmp_path / "out")))


def test_entities_of_xml_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.xml"
    file.write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations>&a;</annotations>')
    with pytest.raises(ValueError, match=r"x\.xml: has a DOCTYPE"):
        run_convert.run(ConvertConfig(from_="cvat", source=str(file), out=str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "from= is missing"),
        ("from=labelme", "source= is missing"),
        ("from=labelm source=in", "from=labelm is none of labelme, coco"),
        ("from=labelme source=no", "source=no does not exist"),
        ("from=labelme source=in photos=no", "photos=no does not exist"),
        ("from=labelme source=in out=in", "out=in exists and is not empty"),
        (
            "from=labelme source=in classes=[house]",
            "in/a.json: shapes[1]: the class 'tree' is none",
        ),
        ("from=labelme source=in name=voc2007", "name=voc2007"),
        ("from=coco source=in/a.json", "in/a.json: has no categories"),
        ("from=coco source=in", "convert: cannot read in: Is a directory"),
        ("from=cvat source=in/a.json", "in/a.json: is not XML: "),
        ("from=yolo source=[[in]]", "source=[['in']] is no text, nor a list of texts"),
        ("from=yolo source=in", "cannot read in/data.yaml: No such file"),
        ("check source=in", "source"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(command: Command, words: str, told: str) -> None:
    FORMATS["labelme"](Path("in"))
    listed = words.split()
    answer = command("data", *([] if listed[:1] == ["check"] else ["convert"]), *listed)
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert answer.err.startswith("toyfcn-data c") and told in answer.err
    assert [path.name for path in Path().iterdir()] == ["in"]
