"""Reports of runs and sweeps in any state, against numbers worked out by hand."""

import csv
import dataclasses
import io
import json
import re
import shlex
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Command
from PIL import Image
from rich.console import Console

from toyfcn.report import plots, tables, theme
from toyfcn.report.results import clean, collect, over_repeats
from toyfcn.report.write import write_report
from toyfcn.runs.history import read_history, write_history

SCORES = {"0.01": (0.60, 0.64, 0.68), "0.03": (0.70, 0.50, None)}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep over lr and seed: five jobs finished, the sixth failed; a seventh never started."""
    folder, jobs = tmp_path / "sweep", []
    for lr, scores in SCORES.items():
        for seed, score in enumerate(scores):
            name = str(len(jobs))
            jobs.append({"name": name, "parameters": {"recipe.lr": lr, "seed": str(seed)}})
            run = folder / name
            run.mkdir(parents=True)
            steps = [
                {
                    "step": step,
                    "epoch": 0,
                    "train_loss": 1.0,
                    "val_loss": 1 / step,
                    "val_miou": (score or 0.1) * step / 3,
                    "val_pixel_acc": 0.9,
                    "seconds": step,
                }
                for step in (1, 2, 3)
            ]
            write_history(run / "history.csv", steps)
            if score is None:
                ended = {
                    "status": "failed",
                    "error": f"no \x1b[31m[bold]{HOSTILE}",
                    "duration_s": 9,
                }
                (run / "run.json").write_text(json.dumps(ended))
                continue
            (run / "run.json").write_text('{"status": "finished", "duration_s": 75.0}')
            found = {
                "miou": score,
                "pixel_acc": 0.9,
                "loss": 0.2,
                "iou": {"background": 0.9, HOSTILE: score, "a$b$|`_": None},
            }
            (run / "metrics.json").write_text(json.dumps({"val": found, "test": None}))
            Image.new("RGB", (30, 20)).save(run / "predictions.png")
    jobs.append({"name": "6", "parameters": {"recipe.lr": "[x](javascript:y)", "seed": "9"}})
    plan = {
        "method": "grid",
        "metric": "val.miou",
        "direction": "maximize",
        "parameters": {"recipe.lr": "", "seed": ""},
        "fixed": {},
        "jobs": jobs,
    }
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder


class Page(HTMLParser):
    """Collects what a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_runs_are_ranked_and_seeds_grouped(sweep: Path) -> None:
    results = collect(sweep)
    assert [run.name for run in results.runs] == ["3", "2", "1", "0", "4", "5", "6"]
    assert [run.status for run in results.runs] == [*["finished"] * 5, "failed", "waiting"]
    first, second = over_repeats(results)
    assert first.parameters == {"recipe.lr": "0.01"} and first.count == 3
    assert first.mean == pytest.approx(0.64) and first.std == pytest.approx(0.04)
    assert second.count == 2 and second.mean == pytest.approx(0.6)
    assert second.std == pytest.approx(statistics.stdev([0.7, 0.5]))
    assert tables.group_cells(first) == ["0.01", "0.6400 ± 0.0400", "–", "3"]


def test_a_seed_that_is_repeated_counts_once(sweep: Path) -> None:
    plan = json.loads((sweep / "sweep.json").read_text())
    for job, seed in (("1", "00"), ("2", "0")):  # of scores 0.64 and 0.68, beside seed 0's 0.60
        plan["jobs"][int(job)]["parameters"]["seed"] = seed
        (sweep / job / "metrics.json").write_text((sweep / "0/metrics.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps(plan))
    (group,) = (g for g in over_repeats(collect(sweep)) if g.parameters["recipe.lr"] == "0.01")
    assert (group.count, group.mean, group.std) == (1, 0.60, None)


def test_folds_are_grouped_as_seeds_are(sweep: Path) -> None:
    plan = json.loads((sweep / "sweep.json").read_text())
    for job in plan["jobs"]:
        job["parameters"]["data.fold"] = job["parameters"].pop("seed", "0")
    (sweep / "sweep.json").write_text(json.dumps(plan))
    first, _ = over_repeats(collect(sweep))
    assert (first.parameters, first.count) == ({"recipe.lr": "0.01"}, 3)
    assert first.mean == pytest.approx(0.64)
    assert tables.group_headings(collect(sweep))[0] == "recipe.lr"


def test_the_command_writes_everything(sweep: Path, command: Command) -> None:
    code, out, err = command("report", str(sweep))
    assert code == 0, err
    assert "0.7000" in out and "failed" in out and "0.6400 ± 0.0400" in out
    rows = list(csv.DictReader((sweep / "results.csv").open()))
    assert [row["rank"] for row in rows] == list("1234567")
    assert [rows[0][key] for key in ("recipe.lr", "val.miou", "seconds")] == ["0.03", "0.7", "75.0"]
    assert rows[5]["status"] == "failed" and float(rows[5]["val.miou"]) == pytest.approx(0.1)
    for name in ("curves", "parameters", "iou_by_class"):
        assert Image.open(sweep / "plots" / f"{name}.png").width > 800
    text = (sweep / "results.md").read_text()
    assert "| 3 | 0.03 | 0 | finished | 0.7000 | – | 1 min 15 s |" in text
    assert "<script" not in text and "](" not in text.replace("\\](", "")


def test_tables_have_intervals(sweep: Path) -> None:
    path = sweep / "3/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["val"]["intervals"] = {"miou": [0.6512, 0.7444], "pixel_acc": None}
    metrics["val"]["intervals"]["iou"] = {"background": [0.8, 0.95], HOSTILE: None}
    path.write_text(json.dumps(metrics))
    write_report(sweep)
    write_report(sweep / "3")
    said = "0.7000 [0.651, 0.744]"
    assert said in Page((sweep / "report.html").read_text()).text
    assert "95 % interval [0.651, 0.744]" in Page((sweep / "3/report.html").read_text()).text
    assert said.replace("[", r"\[").replace("]", r"\]") in (sweep / "results.md").read_text()
    rows = list(csv.DictReader((sweep / "results.csv").open()))
    assert (rows[0]["val.miou low"], rows[0]["val.miou high"]) == ("0.6512", "0.7444")
    assert rows[0]["val.pixel_acc low"] == rows[1]["val.miou low"] == ""


def test_the_page_needs_nothing_and_runs_nothing(sweep: Path) -> None:
    write_report(sweep)
    text = (sweep / "report.html").read_text()
    page = Page(text)
    assert {"table", "picture", "img"} <= set(page.tags)
    assert "script" not in page.tags and "a" not in page.tags
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", text)
    assert f"[bold]{HOSTILE}" in page.text  # told as it is
    assert "\x1b" not in text
    assert "0.7000" in page.text and "5 of 7" in page.text


def test_nothing_breaks_the_terminal(sweep: Path) -> None:
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["jobs"][3]["parameters"]["recipe.lr"] = "[red]x[/red]\x1b[2J\n\u202ey"
    (sweep / "sweep.json").write_text(json.dumps(plan))
    file = io.StringIO()
    tables.print_results(collect(sweep), Console(file=file, width=200))
    assert "[red]x[/red]�[2J��y" in file.getvalue()
    assert "\x1b" not in file.getvalue()
    assert len(clean("a" * 999)) == 120


def test_a_narrow_terminal_shows_whole_parameters(sweep: Path) -> None:
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["jobs"][3]["parameters"]["recipe.lr"] = "0.022746866942740366"
    (sweep / "sweep.json").write_text(json.dumps(plan))
    for width, said in ((200, "0.02275"), (72, "lr=0.02275")):
        file = io.StringIO()
        tables.print_results(collect(sweep), Console(file=file, width=width))
        assert said in file.getvalue()
    assert tables.brief("0.022746866942740366") == "0.02275"
    assert tables.brief("0.01") == "0.01" and tables.brief("[1.0,1.25]") == "[1.0,1.25]"


def test_a_narrow_terminal_shows_every_column(sweep: Path) -> None:
    file, results = io.StringIO(), dataclasses.replace(collect(sweep), metric="val.loss")
    tables.print_results(results, Console(file=file, width=80))
    first = next(line for line in file.getvalue().splitlines() if "finished" in line)
    for text in tables.cells(results, results.runs[0]):
        assert text.partition(" [")[0] in first


def test_formulas_stay_text(sweep: Path) -> None:
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["jobs"][3]["parameters"] |= {"recipe.lr": "=cmd()", "seed": "-1"}
    (sweep / "sweep.json").write_text(json.dumps(plan))
    tables.write_csv(collect(sweep), sweep / "results.csv")
    row = next(csv.DictReader((sweep / "results.csv").open()))
    assert (row["recipe.lr"], row["seed"]) == ("'=cmd()", "-1")


def test_a_single_run_and_a_folder_of_runs(sweep: Path, tmp_path: Path) -> None:
    write_report(sweep / "3")
    assert "0.7000" in Page((sweep / "3/report.html").read_text()).text
    for name, lr in (("0", "0.01"), ("3", "0.03")):
        (sweep / name / ".hydra").mkdir()
        lines = f"- recipe.lr={lr}\n- seed=0\n"
        (sweep / name / ".hydra/overrides.yaml").write_text(lines)
    (sweep / "sweep.json").unlink()
    results = collect(tmp_path)
    assert results.parameters == ("recipe.lr", "seed")  # those in which the six runs differ
    assert results.runs[0].parameters["recipe.lr"] == "0.03"


def test_a_folder_of_runs_tells_apart_by_what_they_are(tmp_path: Path) -> None:
    """Not by where they read or how they went on; and what a run does not set takes no room."""
    for name, chosen in {"a": "recipe.lr=0.5", "b": "resume=x\n- data.root=y\n- seed=3"}.items():
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "overrides.yaml").write_text(f"- {chosen}\n")
        (tmp_path / name / "run.json").write_text('{"status": "finished"}')
    results = collect(tmp_path)
    assert results.parameters == ("recipe.lr", "seed")
    table = ["run", "recipe.lr", "seed", "time"], [["a", "0.5", "", "1 s"], ["b", "", "3", "2 s"]]
    headings, rows = tables.in_one_column(results.parameters, {"recipe.lr": "lr"}, *table)
    assert headings == ["run", "parameters", "time"]
    assert rows == [["a", "lr=0.5", "1 s"], ["b", "seed=3", "2 s"]]


def test_curves_that_hardly_move_look_so(sweep: Path) -> None:
    for run in sweep.glob("*/history.csv"):
        rows = read_history(run)
        write_history(run, [row | {"val_miou": 0.1109 + 1e-7 * row["step"]} for row in rows])
    figure = plots.curves(collect(sweep), theme.LIGHT)
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert low < 0.1109 < high and high - low == pytest.approx(0.02)


def test_curves_of_runs_that_are_not_among_the_best_have_no_names(sweep: Path) -> None:
    figure = plots.curves(collect(sweep), dataclasses.replace(theme.LIGHT, runs=()))
    assert figure is not None and not figure.legends and figure.axes[0].lines


def test_what_is_no_folder_of_runs_is_told(tmp_path: Path, command: Command) -> None:
    for folder, words in ((tmp_path, "holds no run"), (tmp_path / "nowhere", "is no folder")):
        answer = command("report", str(folder))
        assert answer.code == 2 and words in answer.err


def test_damaged_files_are_as_good_as_missing(sweep: Path) -> None:
    (sweep / "0/metrics.json").write_text("{")
    (sweep / "1/run.json").write_bytes(b"\xff\x00")
    (sweep / "2/history.csv").write_text("step,epoch\nx,y\n")
    write_report(sweep)
    states = {run.name: run.status for run in collect(sweep).runs}
    assert states["0"] == "finished" and states["1"] == "waiting"
    assert read_history(sweep / "2/history.csv") == []


def test_several_folders_are_ranked_together(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, score in {"a/0": 0.5, "a/1": 0.7, "b": 0.6}.items():
        (tmp_path / name / ".hydra").mkdir(parents=True)
        lines = f"- recipe.lr={score / 10}\n- recipe=muon\n"
        (tmp_path / name / ".hydra/overrides.yaml").write_text(lines)
        (tmp_path / name / "run.json").write_text(
            json.dumps({"status": "finished", "versions": {"x": 1}, "command": ["t", "a='b c'"]})
        )
        scores = {"miou": score, "baseline_miou": 0.25, "baseline_class": "sky"}
        (tmp_path / name / "metrics.json").write_text(json.dumps({"val": scores, "test": None}))
    code, out, err = command("report", "a", "b", "--out", "both")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines() if re.match(r" *[ab]\b.*finished", line)]
    assert [(row[0], row[1], row[3]) for row in rows[:3]] == [
        ("a/1", "0.07", "0.7000"),
        ("b", "0.06", "0.6000"),
        ("a/0", "0.05", "0.5000"),
    ]
    assert "all sky" in out and "0.2500" in out  # the baseline stands in the table itself
    assert (
        "| all sky |  | baseline | 0.2500 | – | – |" in (tmp_path / "both/results.md").read_text()
    )
    text = Page((tmp_path / "both/report.html").read_text()).text
    assert "all sky" in text and shlex.join(["t", "a='b c'"]) in text
    (tmp_path / "b/sweep.json").write_text(
        json.dumps(
            {
                "metric": "val.loss",
                "direction": "minimize",
                "parameters": {},
                "jobs": [{"name": ".", "parameters": {}}],
            }
        )
    )
    answer = command("report", "a", "b")
    assert answer.code == 2 and "val.loss (minimize) and val.miou (maximize)" in answer.err


def test_numbers_beside_words_have_a_line_a_word(sweep: Path) -> None:
    """Learning curves of two networks: the mean of both would be that of neither."""
    plan = json.loads((sweep / "sweep.json").read_text())
    for i, job in enumerate(plan["jobs"]):
        photos = 10 * (1 + i // 2)
        job["parameters"] = {"data.limit": str(photos), "model": "ab"[i % 2]}
    plan["parameters"] = {"data.limit": "", "model": ""}
    (sweep / "sweep.json").write_text(json.dumps(plan))
    results = collect(sweep)
    figure = plots.parameters(results, theme.LIGHT)
    assert figure is not None
    by_word: dict[str, dict[float, float]] = {"a": {}, "b": {}}
    for run in results.runs:
        if run.status == "finished":
            place = float(run.parameters["data.limit"])
            by_word[run.parameters["model"]][place] = results.score(run) or 0.0
    (ax,) = (ax for ax in figure.axes if ax.get_title() == "data.limit")
    drawn = [dict(zip(*line.get_data(), strict=True)) for line in ax.lines]
    assert drawn == [by_word["a"], by_word["b"]]
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


def test_words_stand_in_the_order_of_their_scores_each_in_a_color(sweep: Path) -> None:
    """Means 0.64 and 0.60: the words of the first are right of the other's, whatever they are."""
    plan = json.loads((sweep / "sweep.json").read_text())
    for job in plan["jobs"]:
        lr = job["parameters"]["recipe.lr"]
        job["parameters"]["recipe.lr"] = {"0.01": "a", "0.03": "b"}.get(lr, "c")
    (sweep / "sweep.json").write_text(json.dumps(plan))
    figure = plots.parameters(collect(sweep), theme.LIGHT)
    assert figure is not None
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["b", "a"]
    colors = {
        (float(dot.get_offsets()[0][0]), tuple(dot.get_edgecolor()[0]))
        for dot in ax.collections
        if len(dot.get_offsets()) and hasattr(dot, "get_sizes")
    }
    assert len({x for x, _ in colors}) == len({color for _, color in colors}) == 2
