"""Results as tables: for the terminal, CSV and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from toyfcn.config.trainer import FIGURES, KEYS
from toyfcn.evaluation.score_table import between
from toyfcn.report.claims import judge, lines
from toyfcn.report.results import REPEATS, Group, Result, Results, clean, over_repeats, repeats
from toyfcn.text import no_formula

MOST = 40  # rows in the terminal
UNFINISHED = ("failed", "interrupted")
OF_STAGES = {"boundary IU": "boundary_miou", "pixel acc": "pixel_acc"}  # beside mean IU
STYLE = {"finished": "green", "pruned": "yellow", "failed": "red", "interrupted": "magenta"}


def headings(results: Results) -> list[str]:
    """Return the names of the columns that every table has."""
    scores = ["val mean IU", "test mean IU"]
    if results.metric not in ("val.miou", "test.miou"):
        scores.insert(0, results.metric)
    more = OF_STAGES if results.staged else []
    return ["run", *results.parameters, "status", *scores, *more, "time"]


def cells(results: Results, run: Result) -> list[str]:
    """Return the texts of a run's row, in the order of ``headings``."""
    scores = [
        number(run.figure(name)) + between(run.interval(name), 1, 3)
        for name in ("val.miou", "test.miou")
    ]
    if results.metric not in ("val.miou", "test.miou"):
        scores.insert(0, number(results.score(run)) + between(run.interval(results.metric), 1, 3))
    values = [brief(run.parameters.get(name, "")) for name in results.parameters]
    if results.staged:
        split = results.metric.partition(".")[0]
        scores += [number(run.figure(f"{split}.{key}")) for key in OF_STAGES.values()]
    return [clean(run.name), *values, run.status, *scores, duration(run.seconds)]


def baseline_cells(results: Results) -> list[list[str]]:
    """Return a row with the scores of the most frequent class everywhere; none where runs differ.

    No run's score that is close to it says anything.
    """
    found = {f"{split} mean IU": results.baseline(split) for split in ("val", "test")}
    names = dict.fromkeys(baseline[0] for baseline in found.values() if baseline)
    scores = {name: number(baseline[1]) for name, baseline in found.items() if baseline}
    texts = {"run": f"all {' / '.join(names)}", "status": "baseline", "time": "–"} | scores
    empty = dict.fromkeys((*found, results.metric), "–")
    return [[(empty | texts).get(name, "") for name in headings(results)]] if scores else []


def brief(value: str) -> str:
    """Write a parameter for reading: a drawn number to four digits. results.csv has all of them."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def number(value: float | None) -> str:
    """Write a score."""
    return "–" if value is None else f"{value:.4f}"


def duration(seconds: float | None) -> str:
    """Write a time span."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def group_cells(group: Group) -> list[str]:
    """Return the texts of a row over seeds: parameters, mean ± std, boundary IU, n."""
    spread = "" if group.std is None else f" ± {group.std:.4f}"
    score = f"{group.mean:.4f}{spread}"
    return [*map(brief, group.parameters.values()), score, number(group.boundary), str(group.count)]


def group_headings(results: Results) -> list[str]:
    """Return the names of the columns over seeds."""
    return [
        *(p for p in results.parameters if p not in REPEATS),
        f"{results.metric} ± std",
        "boundary IU",
        "n",
    ]


def print_results(results: Results, console: Console | None = None) -> None:
    """Print the ranked table, and the one over seeds; nothing in it is taken for markup."""
    console = console or Console()
    table = Table(title=Text(f"{clean(results.title)}: {results.metric}"), title_justify="left")
    table.box, table.padding = box.SIMPLE_HEAD, (0, 1, 0, 0)
    names, rows = headings(results), [cells(results, run) for run in results.runs[:MOST]]
    rows += baseline_cells(results)
    short = {name: name.rpartition(".")[2] for name in results.parameters}
    if len(set(short.values())) < len(short):
        short = {}
    if width(names, rows) > console.width:
        names, rows = in_one_column(results.parameters, short, names, rows)
    if width(names, rows) > console.width:  # the intervals are in the report
        rows = [[text.partition(" [")[0] for text in row] for row in rows]
    for name in names:
        right = name in (results.metric, "val mean IU", "test mean IU", *OF_STAGES, "time")
        side: Any = "right" if right else "left"
        fixed = right or name == "status"
        heading = Text(clean(short.get(name, name).replace(" mean IU", " IU")))
        wide = {"run": 4, "parameters": 16}.get(name)
        table.add_column(heading, justify=side, no_wrap=fixed, min_width=wide)
    at = names.index("status")
    for place, texts in enumerate(rows):
        row = [Text(text) for text in texts]
        row[at].stylize(STYLE.get(texts[at], "dim"))
        table.add_row(*row, style="bold" if place == 0 and results.runs[0].finished else "")
    console.print(table)
    if len(results.runs) > MOST:
        console.print(Text(f"… {len(results.runs) - MOST} more in results.csv"))
    if groups := over_repeats(results):
        seeds = Table(title=f"over {repeats(results)}", title_justify="left", box=box.SIMPLE_HEAD)
        for name in group_headings(results):
            seeds.add_column(Text(clean(name)))
        for group in groups:
            seeds.add_row(*(Text(cell) for cell in group_cells(group)))
        console.print(seeds)
    if judgement := judge(results):
        console.print(Text(f"claim: {clean(judgement.text, 400)}", style="italic"))
        for line in lines(judgement):
            console.print(Text(f"  {clean(line, 400)}"))
        console.print(Text(f"verdict: {judgement.verdict}", style="bold"))


def width(names: list[str], rows: list[list[str]]) -> int:
    """Return how many characters wide a table is, with parameters wrapped where they share one."""
    columns = list(zip(names, *rows, strict=True))
    most = [24 if column[0] == "parameters" else 1000 for column in columns]
    return 2 + sum(2 + min(n, max(map(len, c))) for n, c in zip(most, columns, strict=True))


def in_one_column(
    parameters: Sequence[str], short: dict[str, str], names: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows with all parameters of a run in its second column: a=1 b=2."""
    last = 1 + len(parameters)
    keys = [short.get(name, name) for name in parameters]
    joined = [
        [
            row[0],
            " ".join(f"{k}={v}" for k, v in zip(keys, row[1:last], strict=True) if v),
            *row[last:],
        ]
        for row in rows
    ]
    return [names[0], "parameters", *names[last:]], joined


def write_csv(results: Results, path: Path) -> None:
    """Write a line a run, best first, with every figure of metrics.json but those by class.

    Bounds of 95 % intervals stand behind their figures.
    """
    figures = [f"{split}.{key}" for split in ("val", "test") for key in FIGURES]
    figures += own_figures(results)
    bounded = [name for name in figures if name.endswith((".miou", ".pixel_acc"))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        first = ["rank", "run", "status", *results.parameters]
        ends = [f"{name} {end}" for name in bounded for end in ("low", "high")]
        heads = [no_formula(clean(name)) for name in figures]
        writer.writerow([*first, *heads, *ends, "seconds", "error"])
        for rank, run in enumerate(results.runs, 1):
            values = [run.parameters.get(name, "") for name in results.parameters]
            scores = [run.figure(name) for name in figures]
            scores += [end for name in bounded for end in run.interval(name) or (None, None)]
            said = [clean(run.run.get("error", ""))]
            texts = [no_formula(text) for text in (clean(run.name), run.status, *values)]
            writer.writerow([rank, *texts, *scores, run.seconds, *map(no_formula, said)])


def own_figures(results: Results) -> list[str]:
    """Return the figures of trainer.metrics that any run has, such as val.MulticlassF1Score."""
    found = {
        f"{split}.{key}": None
        for run in results.runs
        for split in ("val", "test")
        if isinstance(scores := run.metrics.get(split), dict)
        for key, value in scores.items()
        if key not in KEYS and isinstance(value, float)
    }
    return [*found]


def markdown(results: Results) -> str:
    """Return the tables as Markdown."""
    parts = [f"# {escaped(results.title)}", ""]
    rows = [cells(results, run) for run in results.runs]
    parts += rows_of(headings(results), rows + baseline_cells(results))
    if groups := over_repeats(results):
        parts += ["", f"## Over {repeats(results)}", ""]
        parts += rows_of(group_headings(results), [group_cells(group) for group in groups])
    if judgement := judge(results):
        parts += ["", f"## Claim: {escaped(clean(judgement.text, 400))}", ""]
        parts += [f"- {escaped(clean(line, 400))}" for line in lines(judgement)]
        parts += ["", f"**Verdict: {judgement.verdict}.**"]
    failed = [r for r in results.runs if r.run.get("error") and r.status in UNFINISHED]
    if failed:
        parts += ["", "## Not finished", ""]
        parts += [f"- {escaped(r.name)}: {escaped(clean(r.run['error'], 300))}" for r in failed]
    return "\n".join(parts) + "\n"


def rows_of(names: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table, a string a line."""
    lines = [names, ["---"] * len(names), *rows]
    safe = [line if i == 1 else [escaped(c) for c in line] for i, line in enumerate(lines)]
    return ["| " + " | ".join(line) + " |" for line in safe]


def escaped(text: str) -> str:
    """Return a text in which nothing is Markdown or HTML."""
    for sign in ("\\", "`", "*", "_", "|", "[", "]", "#"):
        text = text.replace(sign, "\\" + sign)
    return clean(text, 400).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
