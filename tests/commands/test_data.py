"""toyfcn-data as a user types it."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer, Command

from toyfcn.config.data import FolderConfig, ShapesConfig, VOCConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.tools import run_check, run_download, run_draw
from toyfcn.data.voc import CLASSES


@pytest.fixture
def data(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], Answer]:
    """Runs toyfcn-data in this process, in an empty folder."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.delenv("TOYFCN_VOC", raising=False)
    return lambda words: command("data", *shlex.split(words))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "it is missing (known: check, plan, convert, draw, download)"),
        ("chek data=voc2007", "did you mean check?"),
        ("data=voc2007 check", "'data=voc2007'"),
        ("check data.rot=x", "did you mean data.root"),
        ("check workers=0", "workers=0 is below 1"),
        ("check data=voc2007", "no VOC2007 found"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(data, arguments, words):
    answer = data(arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert answer.err.startswith("toyfcn-data")
    assert answer.err.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_tells_the_words(data, flag):
    answer = data(flag)
    assert answer.code == 0
    for word in ("check", "plan", "convert", "draw", "download"):
        assert f"  {word} " in answer.out


def test_help_of_a_word_tells_the_options(data):
    answer = data("check --help")
    assert answer.code == 0
    assert re.search(r"^  report +\[data-report\.json\] check: ", answer.out, re.M)


def test_check_of_sound_data(data, tiny_voc):
    answer = data(f"check data=voc2007 data.root={tiny_voc} data.test_split=null")
    assert answer.code == 0
    assert "voc2007: 6 images" in answer.out
    assert "every file is sound" in answer.out
    assert [path.name for path in Path().iterdir()] == ["data-report.json"]  # no run folder
    report = json.loads(Path("data-report.json").read_text())
    assert report["faults"] == []
    assert report["classes"]["tvmonitor"]["images"] == 6


def test_check_of_broken_data(data, tiny_voc):
    mask = tiny_voc / "VOCdevkit/VOC2007/SegmentationClass/000003.png"
    mask.unlink()
    answer = data(f"check data=voc2007 data.root={tiny_voc} report=deep/er/faults.json workers=1")
    assert answer.code == 1
    assert f"{mask}: is missing\n" in answer.out
    assert "2 faults\n" in answer.out  # VOC2007's test list is not there either
    faults = json.loads(Path("deep/er/faults.json").read_text())["faults"]
    assert {"file": str(mask), "reason": "is missing"} in faults


# what follows needs no command line: the jobs take a config


@pytest.mark.parametrize(
    ("job", "config", "words"),
    [
        (run_draw, {"data": VOCConfig()}, "set data=shapes"),
        (run_download, {"data": ShapesConfig()}, "set data=voc2007, voc2011 or voc2012"),
        (run_download, {"data": VOCConfig(root="."), "mirrors": ["ftp://x/"]}, "ftp://x/"),
    ],
)
def test_a_data_set_that_a_word_cannot_take(job, config, words):
    with pytest.raises(ValueError, match=words):
        job.run(DataCommandConfig(**config))


def test_check_of_some_lists_without_report(tiny_voc, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path / "VOCdevkit")
    voc = VOCConfig(root=str(tiny_voc))
    assert run_check.run(DataCommandConfig(data=voc, splits=["val"], report=None)) == 0
    assert "lists:  val 2\n" in capsys.readouterr().out
    assert [path.name for path in Path().iterdir()] == ["VOC2007"]


def test_check_tells_where_the_report_cannot_be_written(tiny_voc):
    (tiny_voc / "file").write_text("")
    report = f"{tiny_voc}/file/x.json"
    with pytest.raises(ValueError, match=r"cannot write the report .*file/x\.json"):
        run_check.run(DataCommandConfig(data=VOCConfig(root=str(tiny_voc)), report=report))


WORLD = "data.train_images=3 data.val_images=1 data.test_images=2 data.size=[48,64]"


def test_draw_then_draw_again(data):
    answer = data(f"draw {WORLD} data.world_seed=5 'data.root=a world'")
    assert answer.code == 0
    assert "a world is drawn: 3 + 1 + 2 photos" in answer.out
    assert [path.name for path in Path().iterdir()] == ["a world"]
    assert len(list(Path("a world/JPEGImages").iterdir())) == 6

    hint = answer.out.partition("train on it: toyfcn-train ")[2].strip()
    assert "already" in data(f"draw {hint}").out  # it names all that the world is made of
    with pytest.raises(ValueError, match="other settings"):
        run_draw.run(DataCommandConfig(data=ShapesConfig(root="a world")))


def test_draw_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    world = ShapesConfig(root=f"{tmp_path}/file/world", train_images=1, val_images=1, test_images=1)
    with pytest.raises(ValueError, match=r"cannot draw into .*file/world"):
        run_draw.run(DataCommandConfig(data=world))


def test_download_of_what_is_there_says_how_to_go_on(data, tiny_voc):
    (tiny_voc / "VOCdevkit/VOC2007/ImageSets/Segmentation/test.txt").write_text("000004\n")
    root = tiny_voc.with_name("it's, a=(root)")
    tiny_voc.rename(root)
    quoted = str(root).replace("'", "\\'")
    answer = data(shlex.join(["download", "data=voc2007", f"data.root='{quoted}'"]))
    assert answer.code == 0
    assert f"{root}/VOCdevkit/VOC2007 is there already" in answer.out
    hint = answer.out.partition("toyfcn-data check ")[2].splitlines()[0]
    assert data(f"check {hint}").code == 0


def test_check_of_your_own_folders(tiny_voc, capsys):
    home = tiny_voc / "VOCdevkit/VOC2007"
    (home / "SegmentationClass/000003.png").unlink()
    (home / "classes.txt").write_text("\n".join(CLASSES))
    folders = {"images": "JPEGImages", "masks": "SegmentationClass", "classes_file": "classes.txt"}
    own = FolderConfig(root=str(home), **folders)
    assert run_check.run(DataCommandConfig(data=own, report=None)) == 1
    printed = capsys.readouterr().out
    assert printed.count("SegmentationClass/000003.png: is missing\n") == 1
    assert "1 fault\n" in printed


def test_an_interrupt_is_no_traceback(data, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("toyfcn.data.shapes.world.draw", interrupt)
    answer = data("draw")
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "toyfcn-data draw: interrupted"
