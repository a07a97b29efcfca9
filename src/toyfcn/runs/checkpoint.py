"""What a checkpoint says about itself, and how a network is made again from it.

Checkpoints are read with ``weights_only=True``: nothing in one is ever executed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import KINDS, without_removed
from toyfcn.config.data_options import DataConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.target import refuse_untrusted
from toyfcn.config.trainer import COLDEST, HOTTEST
from toyfcn.data.source import Source
from toyfcn.files import refuse_no_file
from toyfcn.models.build import Network, build_network
from toyfcn.models.ensemble import Ensemble
from toyfcn.models.weights_file import read_tensors
from toyfcn.text import first_line

log = logging.getLogger(__name__)

VERSION = 1
KEY = "toyfcn"  # of the metadata in a checkpoint


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A trained network with what it knows about its classes and data."""

    net: Network | Ensemble
    model: ModelConfig
    data: DataConfig
    metadata: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, by label."""
        return list(self.metadata["classes"])


def make_metadata(
    config: TrainConfig, source: Source, trained_on: Iterable[int] = ()
) -> dict[str, Any]:
    """Return all that scoring and prediction need beside the weights, as plain builtins.

    ``trained_on``: identities of the photos that the weights have learned from (see overlap.py).
    """
    return {
        "version": VERSION,
        "model": dataclasses.asdict(config.model),
        "data": dataclasses.asdict(config.data),
        "recipe": config.recipe.name,
        "seed": config.seed,
        "classes": list(source.classes),
        "palette": list(source.palette),
        "void": source.void,
        "trained_on": sorted(trained_on),
    }


Paths = str | Path | Sequence[str | Path] | None


def load(path: Paths, trust: Sequence[str] = ()) -> Checkpoint:
    """Read a checkpoint of toyfcn-train and make its network again, on the CPU, in eval mode.

    Of several they become one, which averages the networks' probabilities.
    ``trust`` are packages whose code it may name, where its network is not one of toyfcn's.

    Raises:
        ValueError: no file, no checkpoint, or none of toyfcn's; the message says which.
    """
    if isinstance(path, Sequence) and not isinstance(path, str) and path:
        return averaged({str(one): load(one, trust) for one in path})
    assert isinstance(path, str | Path | None)
    refuse_no_file(path, "ckpt")
    content = read(Path(str(path)))
    metadata = content.get(KEY)
    if not isinstance(metadata, dict) or metadata.get("version") != VERSION:
        raise ValueError(f"ckpt={path} was not written by this version of toyfcn-train")
    try:
        model, data = checked_configs(metadata)
    except Exception as error:  # whatever forged metadata may provoke
        raise ValueError(f"ckpt={path} is damaged: {first_line(error)}") from None
    refuse_untrusted(model, trust, f"ckpt={path}")
    try:
        net = build_network(model, len(metadata["classes"]), data.channels)
        weights = {
            name.removeprefix("net."): value
            for name, value in content["state_dict"].items()
            if name.startswith("net.")
        }
        net.load_state_dict(weights)
    except Exception as error:  # whatever forged weights may provoke
        raise ValueError(f"ckpt={path} is damaged: {first_line(error)}") from None
    return Checkpoint(net.eval(), model, data, metadata)


def averaged(members: dict[str, Checkpoint]) -> Checkpoint:
    """Return one checkpoint of several; its data set is the first one's.

    Raises:
        ValueError: they mean other classes, or see photos at other sizes.
    """
    (first_path, first), *others = members.items()
    if not others:
        return first
    for path, other in others:
        for key in ("classes", "void"):
            if other.metadata[key] != first.metadata[key]:
                raise ValueError(f"ckpt=: {path} and {first_path} differ in their {key}")
        if other.data.channels != first.data.channels:
            raise ValueError(f"ckpt=: {path} and {first_path} differ in data.channels")
        if other.model.short_side != first.model.short_side:
            raise ValueError(f"ckpt=: {path} and {first_path} differ in model.short_side")
    every = members.values()
    trained_on = sorted({photo for one in every for photo in one.metadata.get("trained_on", ())})
    net = Ensemble([one.net for one in every]).eval()
    metadata = {key: value for key, value in first.metadata.items() if key != "temperature"}
    return Checkpoint(net, first.model, first.data, metadata | {"trained_on": trained_on})


def read(path: Path) -> dict[str, Any]:
    """Read the file of a checkpoint: tensors and plain values only, on the CPU.

    Raises:
        ValueError: no file, or none that can be read safely; the message says why.
    """
    content = read_tensors(path, "ckpt")
    if not isinstance(content, dict):
        raise ValueError(f"ckpt={path} is not a checkpoint: it holds a {type(content).__name__}")
    return content


def checked_configs(metadata: dict[str, Any]) -> tuple[ModelConfig, DataConfig]:
    """Return the typed options in metadata, and check that the rest of it is what we write.

    Raises:
        ValueError, KeyError, TypeError: it is not; nothing was built from it.
    """
    classes, palette, void = metadata["classes"], metadata["palette"], metadata["void"]
    if not isinstance(classes, list) or not 1 <= len(classes) <= 256:
        raise ValueError("classes is not a list of 1 to 256 names")
    if not all(isinstance(c, str) and c.isprintable() and len(c) <= 200 for c in classes):
        raise ValueError("a class has a name that cannot be printed")
    if len(set(classes)) < len(classes):
        raise ValueError("two classes have one name")
    if not isinstance(palette, list) or len(palette) != 768 or not set(palette) <= set(range(256)):
        raise ValueError("palette is not a list of 256 colors")
    if type(void) is not int or not 0 <= void <= 255:
        raise ValueError("void is not a label from 0 to 255")
    temperature = metadata.get("temperature", 1.0)  # of a run with validations
    if type(temperature) is not float or not COLDEST <= temperature <= HOTTEST:
        raise ValueError(f"temperature is not a number from {COLDEST} to {HOTTEST}")
    if not all(type(photo) is int for photo in metadata.get("trained_on", ())):
        raise ValueError("trained_on is not a list of integers")
    kind = KINDS[metadata["data"]["kind"]]
    data = without_removed(metadata["data"])
    return typed(ModelConfig, metadata["model"]), typed(kind, data)


def typed(kind: type[Any], values: dict[str, Any]) -> Any:
    """Make a config of plain values, each of the type that the schema says."""
    if "${" in repr(values):
        raise ValueError("an option holds an interpolation")
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))


def as_trained(chosen: Any, trained: DataConfig, trust: Sequence[str] = ()) -> DataConfig:
    """Return the data config to score on: what the user chose, else what the checkpoint has.

    ``chosen`` is a whole data config (data=NAME), or {option: value} of those that differ;
    ``trust`` are packages whose code the checkpoint's may name.

    Raises:
        ValueError: an option is not of that data set, or the checkpoint names other code.
    """
    if isinstance(chosen, DataConfig):
        return chosen
    values = dataclasses.asdict(trained)
    ignored = sorted(set(chosen) - set(values))
    if ignored:
        raise ValueError(f"data.{ignored[0]} is no option of data={trained.name}, the checkpoint's")
    if "target" not in chosen:
        scored = dataclasses.replace(trained, transform=None, transform_args=None)
        refuse_untrusted(scored, trust, "the checkpoint")
    return KINDS[trained.kind](**values | chosen)
