"""The log of how often test splits were scored."""

import csv
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toyfcn.commands import eval, train
from toyfcn.config.data import ShapesConfig, VOCConfig
from toyfcn.evaluation import test_scorings

FOUND = {"images": 210, "miou": 0.1234567}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows() -> list[dict[str, str]]:
    with test_scorings.LOG.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_split_counts_by_its_name_or_its_part() -> None:
    voc = VOCConfig(test_split="seg11valid")
    for split in ("val", "seg11valid", "test", "trainval"):
        test_scorings.note_scoring(Path("outputs/a, b"), ["/far/best.ckpt"], voc, split, FOUND)
    assert [row["split"] for row in rows()] == ["seg11valid", "test"]
    first = rows()[0]
    assert (first["folder"], first["checkpoint"]) == ("outputs/a, b", "/far/best.ckpt")
    assert (first["data"], first["photos"], first["miou"]) == ("voc2007", "210", "0.123457")


def some(number: int) -> None:
    for time in range(50):
        test_scorings.append(test_scorings.LOG, (number, time, *"abcdef"))


def test_processes_lose_no_line_of_each_other() -> None:
    way = multiprocessing.get_context("fork")
    jobs = [way.Process(target=some, args=(number,)) for number in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    lines = test_scorings.LOG.read_text().splitlines()
    assert lines[0] == ",".join(test_scorings.COLUMNS)
    assert sorted(lines[1:]) == sorted(f"{n},{t},a,b,c,d,e,f" for n in range(4) for t in range(50))


def test_a_log_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outputs").write_text("no folder")
    test_scorings.note_scoring(tmp_path, ["best.ckpt"], ShapesConfig(), "test", FOUND)
    assert "test_scorings.csv could not be written" in caplog.text


def test_commands_log_what_they_score(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    tiny = "data.train_images=4 data.val_images=2 data.test_images=3 data.size=[48,48]"
    short = "data.batch_size=2 model.width=0.3 trainer.max_steps=1 hydra.run.dir=run"

    def run(main: Callable[[], None], name: str, words: str) -> None:
        monkeypatch.setattr(sys, "argv", [f"bin/{name}", *words.split()])
        main()

    run(train.main, "toyfcn-train", f"{tiny} {short}")
    best = "run/checkpoints/best.ckpt"
    for split in ("val", "test"):
        run(eval.main, "toyfcn-eval", f"ckpt={best} split={split} hydra.run.dir=scored")
    kept = [(row["command"], row["folder"], row["checkpoint"], row["photos"]) for row in rows()]
    assert kept == [("toyfcn-train", "run", best, "3"), ("toyfcn-eval", "scored", best, "3")]
    assert rows()[0]["miou"] == rows()[1]["miou"]
    run(train.main, "toyfcn-train", f"{tiny} {short} hydra.run.dir=next data.test_split=null")
    assert len(rows()) == 2
