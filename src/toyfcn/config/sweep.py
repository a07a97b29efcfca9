"""Every option of a sweep (-m), with its meaning and bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from toyfcn.config.option import Checked, option


@dataclass
class ClaimConfig(Checked):
    """A claim that a sweep over seeds is to judge."""

    GROUP = "sweep.claim"

    text: str | None = option(None, "the claim in a sentence; null: the sweep judges none")
    settings: list[str] = option(
        [], "what is compared, best first as the claim has it: each like model.stride=2"
    )
    kind: str = option(
        "better",
        "better: each setting scores above the next; same: no difference beyond margin",
        choices=("better", "same"),
    )
    margin: float = option(0.01, "kind=same: difference in score that does not count", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None and len(self.settings) < 2:
            raise ValueError("sweep.claim.text needs two or more sweep.claim.settings to compare")


@dataclass
class SweepConfig(Checked):
    """Sweeps: toyfcn-train -m key=1,2,3. The same command with the same folder resumes one."""

    GROUP = "sweep"

    method: str = option(
        "grid",
        "grid: every combination; optuna: a search. Set by sweep=NAME",
        choices=("grid", "optuna"),
    )
    name: str | None = option(
        None, "folder under outputs/sweeps/ (a known name resumes); null: date and time"
    )
    space: list[str] = option(
        [], "what to sweep besides the command line: key=values, as there; for experiment files"
    )
    stages: list[str] = option(
        [],
        "grid: runs that follow each other, each like 'model.stride=16 recipe.lr=0.001'; each "
        "starts from best.ckpt of the one before, unless it has a ckpt= (or ckpt=null) itself",
    )
    n_trials: int = option(20, "optuna: trials in all, those before a resume included", low=1)
    sampler: str = option(
        "tpe",
        "optuna: what draws the trials",
        choices=("tpe", "random", "grid", "cmaes", "nsgaii"),
    )
    seed: int = option(0, "optuna: seed of the sampler", low=0)
    direction: str | None = option(
        None,
        "what is better in optimized_metric; null: minimize a loss, maximize any other figure",
        choices=("maximize", "minimize"),
    )
    pruner: str = option(
        "median",
        "optuna: median stops a trial that is worse than the median of the others at its step",
        choices=("median", "none"),
    )
    prune_after_trials: int = option(
        4, "optuna: no pruning before so many trials have finished", low=1
    )
    prune_after_steps: int = option(0, "optuna: no pruning in a trial's first steps", low=0)
    parallel: int = option(
        1,
        "optuna: trials drawn at a time: as many as the launcher runs at once",
        low=1,
    )
    trial: int | None = option(None, "trial that a run belongs to: set by the sweep itself", low=0)
    claim: ClaimConfig = field(default_factory=ClaimConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (self.name[:1] in "/~" or ".." in self.name.split("/")):
            raise ValueError(
                f"sweep.name={self.name} names no folder below outputs/sweeps: hydra.sweep.dir= "
                "places a sweep elsewhere"
            )

    def refuse_alone(self) -> None:
        """Check that a single run is not asked for what only a sweep does.

        Raises:
            ValueError: naming the option.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            heeded = item.name in ("direction", "trial")
            if not heeded and value != getattr(SweepConfig(), item.name):
                shown = "…" if item.name == "claim" else value
                raise ValueError(
                    f"sweep.{item.name}={shown} has an effect in a sweep alone: add -m"
                )

    def refuse_of_other_method(self) -> None:
        """Check that only what this method heeds is asked for, as the options' meanings say.

        Raises:
            ValueError: naming the option.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            owner = item.metadata.get("meaning", "").partition(": ")[0]
            other = "optuna" if self.method == "grid" else "grid"
            if (
                owner == other
                and item.name != "method"
                and value != getattr(SweepConfig(), item.name)
            ):
                raise ValueError(
                    f"sweep.{item.name}={value} has an effect with sweep={other} alone"
                )

    def better(self, metric: str) -> str:
        """Return what is better in a figure such as val.loss: maximize or minimize.

        Raises:
            ValueError: the options say that a high loss is.
        """
        loss = metric.rpartition(".")[2] == "loss"
        if loss and self.direction == "maximize":
            raise ValueError(f"sweep.direction=maximize contradicts optimized_metric={metric}")
        return self.direction or ("minimize" if loss else "maximize")
