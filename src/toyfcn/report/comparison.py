"""What toyfcn-compare does: scores of several networks on the same photos, against the first's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from toyfcn.config.inference import CompareConfig
from toyfcn.config.option import as_list
from toyfcn.config.trainer import ScoringConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation import compare, pictures
from toyfcn.evaluation.compare import Difference
from toyfcn.evaluation.per_image import FILE, ImageCounts, read_images
from toyfcn.evaluation.scoring import predictions
from toyfcn.inference.evaluate import score_split
from toyfcn.report import comparison_page as told
from toyfcn.report.comparison_page import Pair
from toyfcn.report.results import DEPTH, clean, collect
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint import as_trained
from toyfcn.runs.failures import optional
from toyfcn.runs.run import Run


@dataclass(frozen=True)
class Network:
    """What a network scored, by split, and its checkpoint, or those of an ensemble."""

    counts: dict[str, ImageCounts]
    checkpoints: list[Path]


def run_command(config: CompareConfig, run: Run) -> int:
    """Compare; write compare.csv, compare.md, compare.html and photos.png into the run's folder.

    Returns 1 where one is surely worse than the first by more than ``config.fail_below``, else 0.
    """
    paths = as_list(config.of)
    if len(paths) < 2 or not all(paths):
        raise ValueError("name two or more runs, checkpoints, sweeps or folders with images.npz")
    if config.trainer.metrics:
        raise ValueError("trainer.metrics has no effect here: IU is what is compared")
    if not any(Path(path).is_file() for path in paths):
        refuse_scoring(config)
    sides = {name: networks(Path(p), config) for name, p in zip(names(paths), paths, strict=True)}
    split = chosen_split(sides, config.split)
    counts = {
        name: [net.counts[split] if split else next(iter(net.counts.values())) for net in side]
        for name, side in sides.items()
    }
    compare.refuse_unequal(counts)
    base, *others = counts
    pairs = []
    for name in others:
        found = compare.compare(counts[base], counts[name], config.resamples)
        sizes = (len(counts[base]), len(counts[name]))
        pairs.append(Pair(base, name, found, compare.verdict(name, base, found[0], sizes)))
    run.folder.mkdir(parents=True, exist_ok=True)
    if apart := compare.most_different(counts, config.photos):
        with optional("the pictures of the photos that differ most"):
            draw(run.folder / "photos.png", sides, apart, config)
    told.write(run.folder, pairs, f"{len(counts[base][0].ids)} photos", split)
    told.show(pairs, split)
    print(f"report:       {run.folder / 'compare.html'}")
    return int(any(worse(pair.differences[0], config.fail_below) for pair in pairs))


def refuse_scoring(config: CompareConfig) -> None:
    """Check that no option says how to score, where there are figures and no checkpoint.

    Raises:
        ValueError: naming one.
    """
    given, defaults = asdict(config.trainer), asdict(ScoringConfig())
    speed = ("accelerator", "threads", "progress")  # which no figure depends on
    chosen = [f"trainer.{k}" for k in given if given[k] != defaults[k] and k not in speed]
    if isinstance(config.data, dict):
        chosen += [f"data.{key}" for key in config.data if key != "root"]  # where photos are
    if chosen:
        raise ValueError(
            f"{chosen[0]} has no effect on what was scored before: name checkpoints to score anew"
        )


def worse(found: Difference, limit: float | None) -> bool:
    """Tell whether a figure is surely worse by more than a limit; None: there is none."""
    return limit is not None and found.verdict == "worse" and found.high < -limit


def names(paths: Sequence[str]) -> list[str]:
    """Return short names that tell paths apart: the parts in which they differ."""
    parts = [Path(path).absolute().parts for path in paths]
    for end, rest in ((0, slice(1, None)), (-1, slice(None, -1))):
        while len({p[end] for p in parts}) == 1 and min(map(len, parts)) > 1:
            parts = [p[rest] for p in parts]
    found = [clean("/".join(p), 40) for p in parts]
    return [f"{name} ({i})" if name in found[:i] else name for i, name in enumerate(found)]


def networks(path: Path, config: CompareConfig) -> list[Network]:
    """Read what a path names: a network, or those of a folder that differ in their seed alone.

    Raises:
        ValueError: there is nothing scored, or runs of several settings.
    """
    if path.is_file():
        loaded = checkpoint.load(path, config.trust)
        data = as_trained(config.data, loaded.data, config.trust)
        split = config.split or data.val_split or "val"
        _, counts = score_split(loaded, data, split, config.trainer)
        return [Network({split: counts}, [path])]
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}")
    below = [path.glob("*/" * depth + FILE) for depth in range(DEPTH + 1)]
    folders = [p.parent for found in below for p in sorted(found) if "earlier" not in p.parts]
    if not folders:
        raise ValueError(
            f"{path} holds no {FILE}, which toyfcn-train and toyfcn-eval write: of an older run, "
            "name the checkpoint"
        )
    if (path / FILE).is_file():
        folders = [path]
    elif any((folder / "run.json").is_file() for folder in folders):
        runs = [run.parameters for run in collect(path).runs]
        options = dict.fromkeys(key for run in runs for key in run if key != "seed")
        varied = [key for key in options if len({run.get(key) for run in runs}) > 1]
        if varied:
            raise ValueError(
                f"{path} holds runs that differ in {', '.join(varied)}: name the folder of one, or "
                "of runs that differ in their seed alone"
            )
    return [Network(*read_images(folder)) for folder in folders]


def chosen_split(sides: dict[str, list[Network]], asked: str | None) -> str | None:
    """Return the split to compare on: that asked for, else val, else another that all have.

    None: each was scored on one list, of another name; that its photos are the same is checked.

    Raises:
        ValueError: a network was not scored on the split.
    """
    every = [set(net.counts) for side in sides.values() for net in side]
    common = set.intersection(*every)
    if asked is None:
        if common:
            return "val" if "val" in common else min(common)
        if all(len(splits) == 1 for splits in every):
            return None
    elif asked in common:
        return asked
    listed = "; ".join(
        f"{name} on {', '.join(set.intersection(*(set(net.counts) for net in side)))}"
        for name, side in sides.items()
    )
    raise ValueError(f"split={asked or ''}: not all were scored on one list ({listed})")


def draw(
    path: Path,
    sides: dict[str, list[Network]],
    apart: list[tuple[str, list[float]]],
    config: CompareConfig,
) -> None:
    """Draw the photos that differ most: photo, truth, and the prediction of each side's first."""
    ids, columns = [name for name, _ in apart], []
    for side in sides.values():
        loaded = checkpoint.load(side[0].checkpoints, config.trust)
        trained = as_trained(config.data, loaded.data, config.trust)
        data = SegmentationData.open(trained, loaded.model.short_side)
        columns.append(list(predictions(loaded.net, data, ids)))
    palette, classes, rows = data.source.palette, data.source.classes, []
    for (name, scores), seen in zip(apart, zip(*columns, strict=True), strict=True):
        masks = [seen[0][2], *(labels for *_, labels in seen)]
        parts = [seen[0][1], *(pictures.colored(mask, palette) for mask in masks)]
        said = ", ".join(f"{side} {score:.3f}" for side, score in zip(sides, scores, strict=True))
        rows.append((f"{name}: mean IU {said}", pictures.side_by_side(parts)))
    headings = ("photo", "ground truth", *sides)
    pictures.sheet(rows, classes, palette, headings=headings).save(path)
