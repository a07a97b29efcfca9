"""What all loggers of a run take, and that none of them can end it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger

from toyfcn.evaluation.pictures import Pixels
from toyfcn.text import first_line

log = logging.getLogger(__name__)
Row = Sequence[str | float | None]


class RunLogger(Logger):
    """One of Lightning's loggers, of a run in the first process: what it cannot write is lost.

    It comes before that logger among a class's bases. ``put_…`` are what each kind has of its own,
    where it can take such a thing; call ``attempt`` with them.
    """

    told = ""  # how to look at what was logged
    gives_up = False  # after an error, since each would take minutes
    warned = False

    def attempt(self, write: Callable[..., None], *given: Any) -> None:
        """Write, or warn once that something is lost, whatever the error: a run goes on."""
        if self.warned and self.gives_up:
            return
        try:
            write(*given)
        except Exception as error:
            if not self.warned:
                kind, why = type(self).__name__, first_line(error.__cause__ or error)
                log.warning("%s: points of the curves are lost: %s", kind, why)
            self.warned = True
            self.failed()

    def failed(self) -> None:
        """Make ready for what comes after an error."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take points of curves."""
        self.attempt(super().log_metrics, metrics, step)  # type: ignore[safe-super]

    def save(self) -> None:
        """Flush, so that all is on disk."""
        self.attempt(super().save)

    def finalize(self, status: str = "success") -> None:
        """Flush and close, as Lightning asks for at the end of the steps."""
        self.attempt(super().finalize, status)

    def put_image(self, tag: str, pixels: Pixels, step: int) -> None:
        """Take a picture, uint8 (H, W, 3)."""

    def put_config(self, config: dict[str, Any]) -> None:
        """Take the config of the run, nested."""
        self.log_hyperparams(config)

    def put_table(self, tag: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
        """Take a table."""

    def put_results(self, parameters: dict[str, Any], figures: dict[str, float], step: int) -> None:
        """Take the figures of the best checkpoint, and the options that tell runs apart."""
        self.log_metrics(figures, step)

    def close(self, success: bool) -> None:
        """End it: nothing comes after."""
        self.finalize("success" if success else "failed")
