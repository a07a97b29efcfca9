"""Whether the data of a config is there. Nothing heavy is imported, so that it is told at once."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from toyfcn.config.data import CustomConfig, FolderConfig, VOCConfig
from toyfcn.config.data_options import DataConfig
from toyfcn.data.layout import split_folders
from toyfcn.data.layout_search import advice


def refuse_missing(config: DataConfig) -> None:
    """Check that a data set's folders are there; a shapes world is drawn where it is missing.

    Raises:
        ValueError: naming the option and where it was looked for.
    """
    if isinstance(config, VOCConfig):
        find_voc(config.root, config.year)
    elif isinstance(config, CustomConfig) and config.target is None:
        raise ValueError("data.target is missing: data=custom needs data.target=module:name")
    elif isinstance(config, FolderConfig):
        for key in ("images", "masks", "lists"):
            value, root = getattr(config, key), Path(config.root)
            if value is None and key != "lists":
                told = f"data.{key} is missing: data=folder needs data.{key}=FOLDER"
                raise ValueError(f"{told}{advice(root)}")
            if value is not None and not split_folders(folder := root / value):
                told = f"data.{key}={value}: {folder} is not a folder"
                raise ValueError(f"{told}{advice(root) if key != 'lists' else ''}")


def refuse_missing_source(source: str) -> None:
    """Check that a file, a folder or a glob names something; - is the standard input.

    Raises:
        ValueError: it does not.
    """
    if source == "-":
        return
    path = Path(source)
    if not path.exists() and not glob(source, recursive=True):
        raise ValueError(f"source={source} does not exist")
    if path.is_symlink() and not path.exists():
        raise ValueError(f"source={source}, a link to {path.readlink()}, does not exist")


def find_voc(root: str | Path, year: int | str) -> Path:
    """Return the folder of one VOC year below (or at) ``root``.

    ``root`` may be the folder above ``VOCdevkit`` (or above the 2011 archive's ``TrainVal``),
    ``VOCdevkit`` itself, or the year's folder.

    Raises:
        ValueError: no such folder; the message names every folder that was tried.
    """
    root, name = Path(root).expanduser(), f"VOC{year}"
    below = [root / part / name for part in (".", "VOCdevkit", "TrainVal/VOCdevkit")]
    other_year = root.name.startswith("VOC2") and root.name != name
    for folder in below if other_year else [root, *below]:
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    looked = ", ".join(str(folder) for folder in below)
    raise ValueError(
        f"no {name} found: data.root={root} is neither the year's folder nor above it (looked for "
        f"{looked}). Set data.root= or TOYFCN_VOC to the folder that holds VOCdevkit, or get the "
        f"data with `toyfcn-data download data=voc{year}`"
    )
