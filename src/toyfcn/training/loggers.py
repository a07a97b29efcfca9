"""Where a run's curves, pictures, tables and figures go: Lightning's loggers, as logger.to says.

What resumes goes on in the same run of wandb and MLflow: their ids stand in loggers.json. No point
is doubled in TensorBoard, MLflow and CSV; wandb cannot take any back, so that what a killed run had
logged since its last save stands there twice, with the same values.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, WandbLogger

from toyfcn.config.commands import TrainConfig
from toyfcn.config.target import names_of
from toyfcn.evaluation import pictures
from toyfcn.evaluation.per_image import ImageCounts
from toyfcn.files import read_json, write_json
from toyfcn.runs.resume import flatten
from toyfcn.runs.run import Run
from toyfcn.text import first_line
from toyfcn.training.run_logger import Row, RunLogger
from toyfcn.training.tensorboard import Curves

log = logging.getLogger(__name__)

IDS = "loggers.json"  # in a run's folder
# in TensorBoard's HParams tab of every run, beside what its command line chose: few, for it shows
# the first five columns of its own alphabetical order
ALWAYS = ("data.name", "model.name", "recipe.lr", "seed")
OF_BEST = ("miou", "pixel_acc", "loss")  # figures of the best checkpoint


class Csv(RunLogger, CSVLogger):
    """csv/metrics.csv in the run's folder, and the config beside it."""

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        super().__init__(folder, name="csv", version="")
        path = folder / "csv" / "metrics.csv"
        self.told, self.resumed_at, self.present = str(path), resumed_at, set[str]()
        before = []
        if resumed_at is not None and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                before = [row for row in csv.DictReader(file) if int(row["step"]) <= resumed_at]
        shutil.rmtree(path.parent, ignore_errors=True)  # as Lightning would, with a warning
        for row in before:
            there = {key: value for key, value in row.items() if value and key != "step"}
            self.experiment.log_metrics(there, int(row["step"]))
            self.present |= {*there} if int(row["step"]) == resumed_at else set()
        self.experiment.save()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a line of those that stand not there yet."""
        new = {k: v for k, v in metrics.items() if step != self.resumed_at or k not in self.present}
        if new:
            super().log_metrics(new, step)


class Wandb(RunLogger, WandbLogger):
    """A run of Weights & Biases, in the project logger.project."""

    def __init__(self, config: TrainConfig, run: Run, name: str | None) -> None:
        import wandb  # an extra

        self.run = wandb.init(
            project=config.logger.project,
            id=name or secrets.token_hex(8),
            name="/".join(run.folder.parts[-2:]),
            group=run.folder.parent.name if run.in_sweep else None,
            dir=run.folder,
            resume="allow" if name else None,
            reinit="create_new",
            mode="offline" if config.logger.offline else None,
            settings=wandb.Settings(console="off", quiet=True),
        )
        super().__init__(experiment=self.run)
        self.run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        kept = f"wandb sync {shlex.quote(str(run.folder / 'wandb'))}/offline-run-*"
        self.told = kept if config.logger.offline else str(self.run.url)

    def put_image(self, tag: str, pixels: pictures.Pixels, step: int) -> None:
        """Add a picture."""
        self.log_image(tag, [pixels], step)

    def put_table(self, tag: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
        """Add a table."""
        self.log_table(tag, list(columns), [list(row) for row in rows], step=step)

    def close(self, success: bool) -> None:
        """End the run, so that a next one in this process is another."""
        self.run.finish(exit_code=0 if success else 1)


class MLflow(RunLogger, MLFlowLogger):
    """A run of MLflow, in the experiment logger.project."""

    gives_up = True  # MLflow asks a server that is gone again and again

    def __init__(self, config: TrainConfig, run: Run, name: str | None) -> None:
        uri = config.logger.uri
        if uri is None:
            uri = (run.folder / "mlflow").absolute().as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else refused as old
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger(MLFlowLogger.__module__).setLevel(logging.ERROR)  # of new experiments
        place = "/".join(run.folder.parts[-2:])
        super().__init__(config.logger.project, place, uri, run_id=name)
        self.resumed = name is not None
        self.told = f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        if self.resumed:
            self.experiment.update_run(self.run_id, "RUNNING")
        self.last_step = cache(self._last_step)

    def _last_step(self, key: str) -> int:
        """Return the last step that a curve has from an earlier process, -1 without one."""
        history = self.experiment.get_metric_history(self.run_id, key) if self.resumed else []
        return max((point.step for point in history), default=-1)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add points, but for those that an earlier process has added: they are the same."""
        keys = {key: re.sub(r"[^\w/. -]+", "_", key, flags=re.ASCII) for key in metrics}
        self.attempt(
            lambda: super(MLflow, self).log_metrics(
                {keys[k]: v for k, v in metrics.items() if (step or 0) > self.last_step(keys[k])},
                step,
            )
        )

    def put_image(self, tag: str, pixels: pictures.Pixels, step: int) -> None:
        """Add a picture."""
        key = re.sub(r"[^\w/. -]+", "_", tag, flags=re.ASCII)
        self.experiment.log_image(self.run_id, pixels, key=key, step=step)

    def put_config(self, config: dict[str, Any]) -> None:
        """Add the options as parameters, and whole as a file; they are set once."""
        if not self.resumed:
            self.log_hyperparams(config)
            self.experiment.log_dict(self.run_id, config, "config.yaml")

    def put_table(self, tag: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
        """Add a table, as MLflow's own JSON."""
        table = {"columns": columns, "data": rows}
        self.experiment.log_text(self.run_id, json.dumps(table), f"{tag}.json")


@contextmanager
def opened(config: TrainConfig, run: Run, resumed_at: int | None) -> Iterator[list[RunLogger]]:
    """Open the loggers of a run, in its first process; end them however the block ends.

    ``resumed_at`` is the step that the run goes on from. One that does not open is warned of.

    Raises:
        ValueError: wandb needs a login.
    """
    ids = read_json(run.folder / IDS) if resumed_at is not None else {}
    found: list[RunLogger] = []
    for kind in dict.fromkeys(config.logger.to):
        try:
            logger: Any = make(kind, config, run, resumed_at, ids.get(kind))
            _ = logger.experiment  # which begins with it
            found.append(logger)
        except Exception as error:
            if type(error).__name__ == "UsageError":  # of wandb: no key, and no one to ask
                raise ValueError(
                    f"logger=wandb: {first_line(error)}: run wandb login, or set "
                    "logger.offline=true"
                ) from None
            log.warning("logger.to=%s could not be opened: %s", kind, first_line(error))
    now = {type(x).__name__.lower(): x.version for x in found if isinstance(x, Wandb | MLflow)}
    if not now.items() <= ids.items():
        write_json(run.folder / IDS, ids | now)
    success = False
    try:
        yield found
        success = True
    finally:
        for logger in found:
            logger.attempt(logger.close, success)


def make(
    kind: str, config: TrainConfig, run: Run, resumed_at: int | None, name: str | None
) -> RunLogger:
    """Return a logger of a kind of logger.to; ``name`` is its run's id in an earlier process."""
    if kind == "tensorboard":
        return Curves(run.folder, resumed_at)
    if kind == "csv":
        return Csv(run.folder, resumed_at)
    return (Wandb if kind == "wandb" else MLflow)(config, run, name)


def log_results(
    loggers: Sequence[RunLogger],
    config: TrainConfig,
    chosen: Iterable[str],
    metrics: dict[str, Any],
    counts: dict[str, ImageCounts],
    step: int,
) -> None:
    """Show how a run ended: its figures, and for each split the IU by class and the confusions.

    ``chosen`` are the overrides of the command line, which a sweep has alike in all of its jobs;
    ``metrics`` is the content of metrics.json, of the best checkpoint; ``counts`` has what was
    counted on each photo, by split.
    """
    scored = {split: scores for split, scores in metrics.items() if scores is not None}
    found = {  # a name that sorts behind val/…: TensorBoard opens on curves, not on single points
        f"with_best/{split}_{key}": float(scores[key])
        for split, scores in scored.items()
        for key in (*OF_BEST, *names_of(config.trainer.metrics))
        if isinstance(scores[key], float)
    }
    matrices = {
        split: pictures.confusion(
            images.matrices.sum(0), images.classes, f"{split}: share of each true class, %"
        )
        for split, images in counts.items()
    }
    for logger in loggers:
        logger.attempt(logger.put_results, parameters(config, chosen), found, step)
        for split, scores in scored.items():
            rows = [*scores["iou"].items()]
            logger.attempt(logger.put_image, f"with_best/confusion_{split}", matrices[split], step)
            logger.attempt(logger.put_table, f"iou/{split}", ("class", "IU"), rows, step)


def parameters(config: TrainConfig, chosen: Iterable[str]) -> dict[str, Any]:
    """Return {option: plain value} of what compares runs."""
    flat = flatten(dataclasses.asdict(config))
    named = [override.lstrip("+").partition("=")[0] for override in chosen]
    apart = {*flat} - {*ALWAYS, "resume", "rerun"}
    keys = [*ALWAYS, *sorted(apart.intersection(named))]
    plain = int | float | str  # bool is an int
    return {key: flat[key] if isinstance(flat[key], plain) else str(flat[key]) for key in keys}
