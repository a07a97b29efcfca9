"""Every option of the trainer and of what it logs, with its meaning, unit and bounds."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal, get_args

from toyfcn.config.option import Checked, option
from toyfcn.config.target import entries, names_of

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
FIGURES = {  # of a split's scores in metrics.json, and what tables call them
    "miou": "mean IU",
    "boundary_miou": "boundary IU, 2 pixels",
    "pixel_acc": "pixel accuracy",
    "mean_acc": "mean accuracy",
    "fwiou": "frequency-weighted IU",
    "loss": "loss",
}
COLDEST, HOTTEST = 0.05, 20.0  # temperature of calibration
# all of one entry of metrics.json, but for those of trainer.metrics
KEYS = (*FIGURES, "images", "iou", "baseline_miou", "baseline_class", "intervals", "calibration")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass
class ScoringConfig(Checked):
    """Where and how to score."""

    GROUP = "trainer"

    accelerator: str = option("auto", "where to run", choices=("auto", "cpu", "gpu"))
    precision: str = option("32-true", "number format", choices=PRECISIONS)
    test_views: int = option(
        1,
        "test-time augmentation in metrics.json and toyfcn-eval: how many versions of an image are "
        "averaged; 2: mirrored too, 8: in all quarter turns too. Validations during training "
        "(history.csv, TensorBoard's val/…, pruning) see the image alone",
        choices=(1, 2, 8),
    )
    threads: int | None = option(None, "CPU threads, null: PyTorch's choice", low=1)
    tf32: bool = option(
        True, "GPUs: 32-true computes with factors of 10 bits, some times faster; false: of 23"
    )
    fused: bool = option(
        True, "upsampling and loss in one pass, equal and faster; false: the plain formulation"
    )
    progress: bool = option(True, "show a progress bar where there is a terminal")
    metrics: list[Any] = option(
        [],
        "further figures of val and test: torchmetrics of labels such as "
        "torchmetrics.classification:MulticlassF1Score, or your own; each package.module:name, or "
        "{target: …, args: {…}}",
        target="",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        entries("trainer.metrics", self.metrics)
        for name in names_of(self.metrics):
            if name in KEYS:
                raise ValueError(f"trainer.metrics: {name} is a figure already: rename yours")


@dataclass
class TrainerConfig(ScoringConfig):
    """Where and how long to train. Budgets are steps, so that runs repeat."""

    devices: int = option(1, "how many GPUs, or processes, on each machine", low=1)
    nodes: int = option(1, "how many machines", low=1)
    sync_batchnorm: bool = option(
        False, "GPUs: batch normalization over all processes; false: over each one's share"
    )
    max_steps: int = option(2000, "batches to train on; -1: only max_epochs counts", low=-1)
    max_epochs: int = option(-1, "passes over the images; -1: only max_steps counts", low=-1)
    val_every: int = option(100, "steps between validations; there is one more at the end", low=1)
    patience: int | None = option(
        None,
        "stop early after this many validations without a better one (see optimized_metric), "
        "null: never",
        low=1,
    )
    keep_mb: int = option(
        256,
        "CPU on Linux: MB of freed memory kept for the next step, in blocks of up to 64; 0: none",
        low=0,
        high=2047,
    )
    reuse_memory: bool = option(
        False, "CPU on Linux: keep all freed memory, for large steps; faster, for more memory"
    )
    compile: bool = option(
        False, "compile the backbone: faster after the first, long step of each size of photos"
    )
    lr_range: list[float] | None = option(
        None,
        "instead of training, let the learning rate rise from the first to the second over the "
        "steps, and suggest one; see debug=lr; null: train",
        low=1e-12,
        high=1000,
        length=2,
    )
    profile: bool = option(False, "show where a step's time goes, with a trace; see debug=profile")
    save_every: int | None = option(
        None, "steps between saves of last.ckpt beside those at validations; null: none", low=1
    )
    save_failed: str = option(
        "go_on",
        "what a run does that cannot save, its disk being full; the checkpoint before stays",
        choices=("go_on", "stop"),
    )
    deterministic: bool = option(True, "only operations that repeat bit for bit")
    callbacks: list[Any] = option(
        [],
        "Lightning callbacks of your own: each package.module:name, or {target: …, args: {…}}",
        target="",
    )
    extra: Any = option(
        None,
        "further settings of Lightning's Trainer: {detect_anomaly: true, "
        "gradient_clip_algorithm: value}",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        entries("trainer.callbacks", self.callbacks)
        if self.extra is not None and not isinstance(self.extra, dict):
            raise ValueError(f"trainer.extra={self.extra} is not like {{detect_anomaly: true}}")
        budgets = (self.max_steps, self.max_epochs)
        if 0 in budgets or max(budgets) < 1:
            raise ValueError("trainer.max_steps or trainer.max_epochs must be 1 or more, none be 0")
        if self.lr_range is not None and not self.lr_range[0] < self.lr_range[1]:
            raise ValueError(f"trainer.lr_range={self.lr_range} is not a range [low,high]")
        if self.lr_range is not None and (self.precision != "32-true" or self.processes > 1):
            raise ValueError(
                "trainer.lr_range needs trainer.precision=32-true and a single process"
            )

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes


@dataclass
class LoggerConfig(Checked):
    """Where curves, pictures, tables and figures go, and what is logged."""

    GROUP = "logger"

    to: list[str] = option(
        ["tensorboard"],
        "where they go, to several at once: [tensorboard,csv]; []: nowhere. Set by logger=NAME",
        choices=("tensorboard", "csv", "wandb", "mlflow"),
    )
    every: int = option(10, "steps between points of the training curves", low=1)
    panels: int = option(8, "validation photos in the picture panels; 0: none", low=0, high=64)
    histograms: bool = option(False, "TensorBoard: weights and gradients at each validation")
    graph: bool = option(False, "TensorBoard: the network's graph")
    project: str = option("toyfcn", "wandb: the project; MLflow: the experiment")
    offline: bool = option(
        False, "wandb: into the run's folder alone; wandb sync uploads it from there"
    )
    uri: str | None = option(
        None, "MLflow: where runs are kept, such as http://localhost:5000; null: the run's folder"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.project:
            raise ValueError("logger.project is empty")

    def refuse_missing_packages(self) -> None:
        """Check that the packages behind ``to`` are installed.

        Raises:
            ValueError: naming the extra that brings one.
        """
        for name in self.to:
            if name in ("wandb", "mlflow") and importlib.util.find_spec(name) is None:
                raise ValueError(
                    f"logger.to={name} needs the package {name}: pip install 'toyfcn[{name}]'"
                )
