"""Signals that ask a run to stop: it saves at the next step and says how it is continued."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

# SLURM warns with SIGTERM before it preempts a job, or with SIGUSR1 where --signal asks for it;
# a terminal that is closed, or whose connection breaks, sends SIGHUP
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
SIGNALS = [signal.Signals[name] for name in NAMES if hasattr(signal, name)]
REQUEUE = getattr(signal, "SIGUSR2", None)  # submitit's warning, whose handler requeues the job


class Interrupted(SystemExit):
    """Leaves a run with the exit code that shells know: 128 + the signal's number.

    It passes Hydra as every SystemExit does, so that the rest of a sweep does not start either.
    """

    def __init__(self, number: int, at_once: bool = False) -> None:
        super().__init__(128 + number)
        self.number, self.at_once = number, at_once

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


class Interruption:
    """Notes a signal while ``patient``, for whoever asks ``due``; else it ends the run at once.

    A context manager: on leaving it, the handlers are those from before. Signals only reach the
    main thread of the process, so it does nothing in another one. Once a run has ended on
    submitit's warning, submitit's own handler requeues the job.
    """

    def __init__(self) -> None:
        self.number, self.patient = 0, False
        self.process = os.getpid()
        self.before: dict[signal.Signals, Any] = {}

    @property
    def due(self) -> bool:
        """Whether a signal has asked to stop."""
        return self.number != 0

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            # nohup starts what shall go on with SIGHUP ignored
            self.before = {
                number: handler
                for number, handler in handlers.items()
                if not (number.name == "SIGHUP" and handler == signal.SIG_IGN)
            }
            if REQUEUE is not None and callable(handler := signal.getsignal(REQUEUE)):
                self.before[REQUEUE] = handler
        self.take()
        return self

    def __exit__(self, *exception: object) -> None:
        self._set(self.before)
        if self.number and self.number == REQUEUE:
            self.before[REQUEUE](self.number, None)

    def take(self) -> None:
        """Take the signals, from Lightning too, which puts its own handlers over ours."""
        self._set(dict.fromkeys(self.before, self._handle))

    def _set(self, handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]]) -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            return  # a loader's worker, which inherited this handler: its parent decides
        if not self.patient:
            self.number = number
            raise Interrupted(number)
        if number == signal.SIGINT and self.number == number:
            raise Interrupted(number, at_once=True)
        if not self.due:
            name = signal.Signals(number).name
            again = "; once more to stop at once" if number == signal.SIGINT else ""
            log.warning("%s: saving at the next step%s", name, again)
        self.number = number
