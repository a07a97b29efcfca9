"""Results as one HTML page that needs nothing beside it: pictures inside, no scripts, no network.

Whatever comes from a config, a class name or a file is escaped by ``safe`` on its way in.
"""

from __future__ import annotations

import base64
import html
import platform
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from string import Template

from toyfcn.evaluation.score_table import between
from toyfcn.report.claims import judge, lines
from toyfcn.report.results import Result, Results, clean, over_repeats, repeats
from toyfcn.report.tables import (
    UNFINISHED,
    baseline_cells,
    cells,
    duration,
    group_cells,
    group_headings,
    headings,
    number,
)
from toyfcn.report.theme import colour_of

CAPTIONS = {
    "claim": "Claim",
    "curves": "Curves",
    "parameters": "Parameters against the score",
    "iou_by_class": "Classes",
    "kinds": "Kinds of error",
    "confusion": "Confusion",
    "sizes": "Object size",
    "calibration": "Calibration",
}
NUMERIC = ("val mean IU", "test mean IU", "boundary IU", "time", "n")


def page(results: Results, light: dict[str, bytes], dark: dict[str, bytes]) -> str:
    """Return the page; ``light`` and ``dark`` are the plots of ``plots.draw_all``."""
    sections = [section("Runs", table(results))] if len(results.runs) > 1 else []
    if groups := over_repeats(results):
        rows = [[safe(cell) for cell in group_cells(group)] for group in groups]
        sections.append(section(f"Over {repeats(results)}", rows_of(group_headings(results), rows)))
    sections += [verdict(results)]
    sections += [
        section(CAPTIONS[name], plot(light[name], dark.get(name, light[name]), CAPTIONS[name]))
        for name in CAPTIONS
        if name in light
    ]
    sections += [pictures(results), failures(results), origin(results)]
    kind = "sweep" if results.sweep else "run" if len(results.runs) == 1 else "runs"
    return filled(kind, results.title, subtitle(results), tiles(results), sections)


def filled(
    kind: str, title: str, subtitle: str, tiles: Sequence[str], sections: Sequence[str]
) -> str:
    """Fill in the template: ``tiles`` and ``sections`` are HTML, the others are not."""
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.substitute(
        kind=kind,
        title=safe(title),
        subtitle=safe(subtitle),
        tiles="".join(tiles),
        sections="\n".join(part for part in sections if part),
    )


def verdict(results: Results) -> str:
    """Return what the sweep says about its claim."""
    judgement = judge(results)
    if judgement is None:
        return ""
    items = "".join(f"<li>{safe(line)}</li>" for line in lines(judgement))
    said = f"<p><em>{safe(judgement.text, 400)}</em></p><ul>{items}</ul>"
    return section(f"Claim: {judgement.verdict}", said)


def safe(text: object, longest: int = 200) -> str:
    """Escape a text for HTML, without control characters."""
    return html.escape(clean(text, longest))


def subtitle(results: Results) -> str:
    """Say what the runs have in common."""
    if results.parameters:
        varied = ", ".join(results.parameters)
        return f"{len(results.runs)} runs over {varied}, ranked by {results.metric}"
    return f"ranked by {results.metric}" if len(results.runs) > 1 else str(results.folder)


def tiles(results: Results) -> list[str]:
    """Return the figures at the top."""
    found = []

    def tile(value: object, meaning: object) -> None:
        found.append(tile_of(value, meaning))

    best = results.best
    if best is not None:
        said = ", ".join(f"{key}={value}" for key, value in best.parameters.items())
        where = f"best {results.metric}, run {best.name}" if results.sweep else results.metric
        bounds = between(best.interval(results.metric), 1, 3)
        about = f", 95 % interval{bounds}" if bounds else ""
        tile(number(results.score(best)), f"{where}{': ' if said else ''}{said}{about}")
        test = best.figure("test.miou")
        if test is not None and results.metric != "test.miou":
            tile(number(test), "its test mean IU")
    states = Counter(run.status for run in results.runs)
    others = [f"{n} {status}" for status, n in states.items() if status != "finished"]
    if len(results.runs) > 1:
        tile(f"{states['finished']} of {len(results.runs)}", ", ".join(["finished", *others]))
    else:
        tile(results.runs[0].status, "status")
    together = ", all runs together" if len(results.runs) > 1 else ""
    tile(duration(sum(run.seconds or 0 for run in results.runs)), f"time{together}")
    return found


def tile_of(value: object, meaning: object) -> str:
    """Return a figure at the top, with what it means."""
    return f'<div class="tile"><b>{safe(value)}</b><span>{safe(meaning)}</span></div>'


def section(title: str, content: str) -> str:
    """Return a card with a heading; ``content`` is HTML."""
    return f"<section><h2>{safe(title)}</h2>{content}</section>"


def rows_of(names: Sequence[str], rows: Sequence[Sequence[str]], best: bool = False) -> str:
    """Return a table; the cells are HTML, the names are not."""
    right = [name in NUMERIC or name.endswith("± std") for name in names]
    kinds = [' class="n"' if number else "" for number in right]
    head = "".join(f"<th{kind}>{safe(n)}</th>" for kind, n in zip(kinds, names, strict=True))
    body = []
    for place, row in enumerate(rows):
        line = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        body.append(f"<tr{' class=best' if best and place == 0 else ''}>{line}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def table(results: Results) -> str:
    """Return the ranked table: runs with their colour, status pills, a bar behind the score."""
    names = headings(results)
    ranked = results.metric if results.metric in names else "val mean IU"
    ranked = "test mean IU" if results.metric == "test.miou" else ranked
    scores = [score for run in results.runs if (score := results.score(run)) is not None]
    top = max(scores, default=0.0)
    rows = []
    for run in results.runs:
        row = [safe(cell) for cell in cells(results, run)]
        row[0] = chip(results, run) + row[0]
        at = names.index("status")
        row[at] = f'<span class="pill {safe(run.status)}">{row[at]}</span>'
        score = results.score(run)
        if score is not None:
            share = max(0.0, min(1.0, score / top)) if top > 0 else 0.0
            at = names.index(ranked)
            row[at] = f'<span class="score" style="--share:{100 * share:.1f}%">{row[at]}</span>'
        rows.append(row)
    rows += [[safe(cell) for cell in row] for row in baseline_cells(results)]
    return rows_of(names, rows, best=results.best is not None)


def chip(results: Results, run: Result) -> str:
    """Return a swatch of the run's colour in the plots."""
    light, dark = colour_of(results, run)
    return f'<span class="chip" style="--l:{light};--d:{dark}"></span>'


def embedded(content: bytes, kind: str = "png") -> str:
    """Return a picture as a URL that holds it."""
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()


def plot(light: bytes, dark: bytes, title: str) -> str:
    """Return a plot, drawn for the reader's choice of light or dark; all texts of one size."""
    width = int.from_bytes(light[16:20]) * 2 // 3  # of the PNG of 150 dpi: 100 pixels an inch
    return (
        '<figure class="plot"><picture>'
        f'<source srcset="{embedded(dark)}" media="(prefers-color-scheme: dark)">'
        f'<img style="max-width: {width}px" src="{embedded(light)}" alt="{safe(title)}">'
        "</picture></figure>"
    )


def pictures(results: Results) -> str:
    """Return the prediction pictures of the best run."""
    run = results.best
    path = run.folder / "predictions.png" if run else Path()
    if run is None or not path.is_file():
        return ""
    title = f"Predictions of run {run.name}" if len(results.runs) > 1 else "Predictions"
    found = section(title, photo(path, "photo, truth, prediction and errors"))
    errors = run.folder / "plots" / "photos.jpg"
    if len(results.runs) == 1 and errors.is_file():
        found += section("Worst, median and best photos", photo(errors, "photos with their errors"))
    return found


def photo(path: Path, alt: str) -> str:
    """Return a file of pictures, PNG or JPEG, as a figure."""
    kind = "png" if path.suffix == ".png" else "jpeg"
    image = f'<img src="{embedded(path.read_bytes(), kind)}" alt="{safe(alt)}">'
    return f'<figure class="photo">{image}</figure>'


def failures(results: Results) -> str:
    """Return why runs have not finished."""
    items = []
    for run in results.runs:
        if run.run.get("error") and run.status in UNFINISHED:
            reason = f"<code>{safe(run.run['error'], 400)}</code>"
            items.append(f"<li><b>{safe(run.name)}</b> {safe(run.status)}: {reason}</li>")
    return section("Not finished", f"<ul>{''.join(items)}</ul>") if items else ""


def origin(results: Results) -> str:
    """Return where the figures come from: command, commit, versions, machine."""
    run = next((r for r in results.runs if r.run.get("versions")), None)
    facts = {"folder": str(results.folder.absolute())}
    if run is not None:
        command = run.run.get("command")
        versions, machine = run.run.get("versions"), run.run.get("hardware")
        if isinstance(command, list):
            facts["command"] = shlex.join(str(word) for word in command)
        facts["commit"] = str(run.run.get("git_commit") or "–")
        if isinstance(versions, dict):
            facts["versions"] = ", ".join(f"{k} {v}" for k, v in versions.items())
        if isinstance(machine, dict):
            gpus = ", ".join(map(str, machine.get("gpus") or [])) or "no GPU"
            facts["hardware"] = f"{machine.get('cpu_cores')} CPU cores, {gpus}"
    facts["page made"] = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z} on {platform.node()}"
    rows = "".join(
        f"<dt>{safe(key)}</dt><dd><code>{safe(value, 2000)}</code></dd>"
        for key, value in facts.items()
    )
    return section("Where this comes from", f"<dl>{rows}</dl>")
