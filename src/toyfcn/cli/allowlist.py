"""Which code a config may name: a config from someone else must not run anything of its own.

Nothing of ours is built from ``_target_``. Hydra itself builds launchers, sweepers, callbacks and
log handlers from what the config says, so everything composed is checked before it does. Hydra's
own list of forbidden targets stands behind this list of permitted ones.
"""

from __future__ import annotations

import contextlib
import difflib
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

BUILT = {  # by _target_
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra.experimental.callbacks.LogJobReturnCallback",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra_plugins.toyfcn_sweeper.ToyfcnSweeper",
}
LOGGING = {  # by class or () in a logging config
    "colorlog.ColoredFormatter",
    "logging.FileHandler",
    "logging.Formatter",
    "logging.NullHandler",
    "logging.StreamHandler",
    "logging.handlers.RotatingFileHandler",
}
PERMITTED = {"_target_": BUILT, "()": LOGGING, "class": LOGGING, "factory": LOGGING}
STREAMS = {"ext://sys.stdout", "ext://sys.stderr"}
MAKERS = ("_target_", "oc.decode", "oc.create")  # what could make a target out of text


def refuse_untrusted(config: Any, at: str = "", seen: frozenset[int] = frozenset()) -> None:
    """See that a composed config names no code but what is permitted.

    Raises:
        ValueError: naming the key and what it names.
    """
    if id(config) in seen:
        return
    seen = seen | {id(config)}
    uninterpolated: Any = OmegaConf.to_container(config, resolve=False)
    keys = list(config.keys()) if isinstance(config, DictConfig) else list(range(len(config)))
    for key in keys:
        where = f"{at}.{key!s}".lstrip(".")
        if OmegaConf.is_missing(config, key):
            continue
        raw = value = uninterpolated[key]
        with contextlib.suppress(OmegaConfBaseException):  # what only a running job knows
            value = config[key]
        permitted = PERMITTED.get(key) if isinstance(key, str) else None
        if permitted is not None and not (key == "class" and value is None):
            if not isinstance(value, str) or value not in permitted:
                close = difflib.get_close_matches(str(value), permitted, n=1)
                hint = f"did you mean {close[0]}?" if close else "only Hydra's plugins and ours"
                raise ValueError(f"{where}={value} is not code that a config may name ({hint})")
        elif isinstance(value, DictConfig | ListConfig):
            refuse_untrusted(value, where, seen)
        for text in (value, raw):
            if not isinstance(text, str):
                continue
            if text.startswith("ext://") and text not in STREAMS:
                raise ValueError(f"{where}={text} is not code that a config may name")
            if any(maker in text for maker in MAKERS):
                raise ValueError(f"{where}={text}: a config may not make up what code it names")
