"""Every option of a sweep (-m), with its meaning and bounds."""

from __future__ import annotations

from dataclasses import dataclass

from toyfcn.option import Checked, option


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
    n_trials: int = option(20, "optuna: trials in all, those before a resume included", low=1)
    sampler: str = option(
        "tpe",
        "optuna: what draws the trials",
        choices=("tpe", "random", "grid", "cmaes", "nsgaii"),
    )
    seed: int = option(0, "optuna: seed of the sampler", low=0)
    direction: str = option(
        "maximize", "what is better in optimized_metric", choices=("maximize", "minimize")
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
