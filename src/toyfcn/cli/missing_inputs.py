"""What can be missed before the imports of seconds: a checkpoint, data, a photo, a GPU."""

from __future__ import annotations

from typing import Any

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.config.data_options import DataConfig
from toyfcn.config.inference import DemoConfig, PredictConfig
from toyfcn.config.option import as_list
from toyfcn.data.locations import refuse_missing, refuse_missing_source
from toyfcn.files import refuse_no_file


def refuse_missing_inputs(config: Any, command: str) -> None:
    """Check that the files, folders and the GPU that a config names are there.

    Raises:
        ValueError: naming the option.
    """
    needed = hasattr(config, "ckpt") and not isinstance(config, TrainConfig)
    if needed or getattr(config, "ckpt", None):
        for ckpt in as_list(config.ckpt) or [None]:
            refuse_no_file(ckpt, "ckpt")
    if isinstance(config, DemoConfig) and config.compare is not None:
        for ckpt in as_list(config.compare):
            refuse_no_file(ckpt, "compare")
    if isinstance(config, PredictConfig) and config.source:
        for source in as_list(config.source):
            refuse_missing_source(source)
    reads = not isinstance(config, DataCommandConfig) or command.endswith("check")
    if reads and isinstance(data := getattr(config, "data", None), DataConfig):
        refuse_missing(data)
    trainer = getattr(config, "trainer", None)
    for option, value in (
        ("trainer.accelerator", getattr(trainer, "accelerator", None)),
        ("device", getattr(config, "device", None)),
    ):
        if value == "gpu":
            from toyfcn import hardware  # PyTorch alone, a third of all imports

            hardware.use_gpu(value, option)
