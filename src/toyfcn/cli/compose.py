"""A typed config from overrides as they are typed, without starting a command."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from toyfcn.cli import CONF, config_store, resolvers
from toyfcn.cli.errors import MISTAKES, explain
from toyfcn.cli.typed_text import as_typed
from toyfcn.config.commands import TrainConfig
from toyfcn.config.no_effect import without_effect

log = logging.getLogger(__name__)


def compose_train(overrides: Sequence[str]) -> TrainConfig:
    """Compose what toyfcn-train would train with.

    Raises:
        ValueError: a group, choice, option or value that does not exist.
    """
    resolvers.register()
    config_store.register()
    for item in overrides:
        if item.lstrip("+").startswith(("hydra.", "launcher=")):
            raise ValueError(f"{item} has no effect in Python; the run's folder is folder=")
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = OmegaConf.to_object(compose("train", as_typed(overrides, "train")))
    except MISTAKES as error:
        raise ValueError(explain(error)) from None
    assert isinstance(config, TrainConfig)
    config.sweep.refuse_alone()
    for told in without_effect(config, overrides):
        log.warning("%s", told)
    return config
