"""The typed schema, made known to Hydra under the names that conf/ refers to."""

from __future__ import annotations

from functools import cache

from hydra.core.config_store import ConfigStore

from toyfcn.config.commands import COMMANDS
from toyfcn.config.data import CustomConfig, FolderConfig, ShapesConfig, VOCConfig
from toyfcn.config.inference import AsTrainedConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.sweep import SweepConfig
from toyfcn.config.trainer import TrainerConfig


@cache
def register() -> None:
    """Store the schema of every command and group, once a process."""
    store = ConfigStore.instance()
    for command, schema in COMMANDS.items():
        store.store(f"{command}_schema", schema)
    for group, name, node in (
        ("data", "shapes_schema", ShapesConfig),
        ("data", "voc_schema", VOCConfig),
        ("data", "folder_schema", FolderConfig),
        ("data", "custom_schema", CustomConfig),
        ("data", "as_trained", AsTrainedConfig),
        ("model", "model_schema", ModelConfig),
        ("recipe", "recipe_schema", RecipeConfig),
        ("trainer", "trainer_schema", TrainerConfig),
        ("sweep", "sweep_schema", SweepConfig),
    ):
        store.store(name, node, group=group)
