"""From the data options to the data set that they mean."""

from __future__ import annotations

import logging
from pathlib import Path

from toyfcn.config.data import CustomConfig, FolderConfig, ShapesConfig, VOCConfig
from toyfcn.config.data_options import DataConfig
from toyfcn.data.custom import custom_source
from toyfcn.data.folder import folder_source
from toyfcn.data.labels import merged
from toyfcn.data.locations import find_voc, refuse_missing
from toyfcn.data.progress import progress
from toyfcn.data.shapes import scene, world
from toyfcn.data.source import FileSource, Source
from toyfcn.data.voc import voc_source

log = logging.getLogger(__name__)


def open_source(config: DataConfig) -> Source:
    """Find the data set of a config on disk; the shapes world is drawn where it is missing.

    Raises:
        ValueError: it is not there; the message says where it was looked for. Or its classes are
            not those that ``data.merge`` names.
    """
    return merged(unmerged(config), config.merge)


def unmerged(config: DataConfig) -> Source:
    """Find the data set of a config on disk, with its own classes."""
    if isinstance(config, ShapesConfig):
        if not Path(config.root).exists():
            count = config.train_images + config.val_images + config.test_images
            log.info("drawing %d photos of shapes into %s (once)", count, config.root)
        return voc_source(draw_world(config), scene.CLASSES, config.name)
    if isinstance(config, FolderConfig):
        return folder_source(config)
    if isinstance(config, CustomConfig):
        refuse_missing(config)
        return custom_source(config)
    assert isinstance(config, VOCConfig)
    return open_voc(config)


def open_voc(config: VOCConfig) -> FileSource:
    """Find a VOC year on disk.

    Raises:
        ValueError: it is not there, or has no such folder of masks.
    """
    source = voc_source(find_voc(config.root, config.year), name=config.name, masks=config.masks)
    if not source.masks.is_dir():
        raise ValueError(f"data.masks={config.masks}: {source.masks} is not a folder")
    return source


def draw_world(config: ShapesConfig) -> Path:
    """Draw the shapes world of a config where it is missing, and return its folder.

    Raises:
        ValueError: the folder holds something else.
    """
    with progress("drawing") as advance:
        return world.draw(
            Path(config.root),
            seed=config.world_seed,
            train=config.train_images,
            val=config.val_images,
            test=config.test_images,
            size=(config.size[0], config.size[1]),
            progress=advance,
        )
