"""What Hydra finds when -m asks for a sweep: all of it is in toyfcn.sweep.

Hydra looks for plugins in this namespace package, and imports each at every start: nothing heavy,
and no annotations of the future, which a dataclass cannot resolve in a module that Hydra loads.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper


@dataclass
class ToyfcnSweeperConf:
    """Only the name: the options of a sweep are in toyfcn/config/sweep.py."""

    _target_: str = "hydra_plugins.toyfcn_sweeper.ToyfcnSweeper"


class ToyfcnSweeper(Sweeper):
    """A grid or a search that resumes, and that one failing job does not end."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep what Hydra hands over, and make the launcher."""
        from toyfcn.sweep.jobs import make_launcher

        self.context: Any = hydra_context
        self.config: Any = config
        self.launcher = make_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that the command line's overrides describe."""
        from toyfcn.cli.launch import typed
        from toyfcn.cli.typed_text import as_typed
        from toyfcn.sweep.run import run_sweep

        settings = typed(self.config.sweep, self.config.hydra)
        settings.space = as_typed(settings.space, "train")
        settings.stages = [" ".join(as_typed(s.split(), "train")) for s in settings.stages]
        loader = self.context.config_loader
        run_sweep(self.config, settings, loader, self.launcher, arguments)


ConfigStore.instance().store(
    group="hydra/sweeper", name="toyfcn", node=ToyfcnSweeperConf, provider="toyfcn"
)
