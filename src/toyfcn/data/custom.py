"""A data set of the user's own: data=custom data.target=package.module:name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from toyfcn.config.data import CustomConfig
from toyfcn.config.target import call, find
from toyfcn.data.palettes import class_palette
from toyfcn.data.source import VOID, Source
from toyfcn.text import fault

NEEDED = ("classes", "ids", "image", "mask")


@dataclass(frozen=True, kw_only=True)
class CustomSource(Source):
    """Reads a data set through an object that ``make`` returns: see ``custom_source``.

    Each process makes an object of its own, so the object may hold open files and connections.
    """

    make: Callable[[], Any]
    made: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)  # by process

    def __getstate__(self) -> dict[str, Any]:
        """Be sent to a loader worker without the object, which is made again there."""
        return self.__dict__ | {"made": {}}

    @property
    def own(self) -> Any:
        """The user's object in this process; a forked one has its parent's too."""
        process = os.getpid()
        if process not in self.made:
            self.made[process] = self.make()
        return self.made[process]

    def ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split in the order in which the object names them.

        Raises:
            ValueError: it names none, one twice, or no texts.
        """
        try:
            names = tuple(self.own.ids(split))
        except (KeyError, FileNotFoundError) as error:
            raise ValueError(f"{self.name} has no split {split!r}: {error}") from None
        except Exception as error:  # whatever code of others may raise
            raise ValueError(f"{self.name}: ids({split!r}) fails: {fault(error)}") from error
        if not names:
            raise ValueError(f"{self.name}: ids({split!r}) names no image")
        if not all(isinstance(name, str) and name.isprintable() for name in names):
            raise ValueError(f"{self.name}: ids({split!r}) returns {str(names)[:80]}, not texts")
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: ids({split!r}) names an image twice")
        return names

    def image(self, name: str) -> Tensor:
        """Read the photo of an id: uint8 (channels, H, W).

        Raises:
            ValueError: the object returns something else.
        """
        pixels = self.picture(self.own.image, name, self.places(name)[0])
        count = self.channels
        if pixels.ndim == 2 and count == 1:
            pixels = pixels[None]
        elif pixels.ndim == 3 and pixels.shape[2] == count and pixels.shape[0] != count:
            pixels = pixels.permute(2, 0, 1)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != count:
            where = self.places(name)[0]
            raise ValueError(f"{where} is {kind(pixels)}, not uint8 (H, W, {count})")
        return pixels

    def read_labels(self, name: str) -> Tensor:
        """Read the mask of an id: uint8 (H, W).

        Raises:
            ValueError: the object returns something else.
        """
        labels = self.picture(self.own.mask, name, self.places(name)[1])
        if labels.ndim != 2 or labels.is_floating_point():
            raise ValueError(f"{self.places(name)[1]} is {kind(labels)}, not labels (H, W)")
        low, high = (int(end) for end in labels.aminmax())
        if low < 0 or high > 255:
            raise ValueError(f"{self.places(name)[1]} holds labels from {low} to {high}")
        return labels.to(torch.uint8)

    @staticmethod
    def picture(read: Callable[[str], Any], name: str, place: str) -> Tensor:
        """Read a picture as a tensor: from one of Pillow, an array, or a tensor.

        Raises:
            ValueError: the object cannot read it, or returns none.
        """
        try:
            pixels = read(name)
            return pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
        except Exception as error:  # whatever code of others may raise
            raise ValueError(f"{place} cannot be read: {fault(error)}") from error


def kind(pixels: Tensor) -> str:
    """Say what a tensor is, for messages."""
    return f"{str(pixels.dtype).removeprefix('torch.')} {tuple(pixels.shape)}"


def custom_source(config: CustomConfig) -> CustomSource:
    """Make the object that ``data.target`` and ``data.args`` mean, and see that it is a data set.

    It has ``classes``, the names of the labels from 0 on, and three methods: ``ids(split)`` returns
    the ids of a split, ``image(id)`` a photo and ``mask(id)`` its labels, each as a picture of
    Pillow, an array (H, W, data.channels) or (H, W), or a tensor. It may have ``palette``,
    [[r, g, b], …] one a class, and ``void``, the label that is neither learned nor scored (255).

    Raises:
        ValueError: it cannot be made, or lacks something.
    """
    name = f"data.target={config.target}"
    make = _Maker(name, str(config.target), config.args or {})
    own = make()
    if missing := [key for key in NEEDED if not hasattr(own, key)]:
        raise ValueError(
            f"{name} makes a {type(own).__name__} without {', '.join(missing)}: a data set has "
            f"{', '.join(NEEDED)}"
        )
    classes, void = tuple(own.classes), getattr(own, "void", VOID)
    if not 1 <= len(classes) <= 256 or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{name}: classes is not a list of 1 to 256 names")
    if len(set(classes)) < len(classes):
        raise ValueError(f"{name}: two classes have one name")
    colors = getattr(own, "palette", None) or ()
    if colors and len(colors) != len(classes):
        raise ValueError(f"{name}: palette has {len(colors)} colors for {len(classes)} classes")
    palette = class_palette(colors, None, void)
    label = config.name if config.name != CustomConfig().name else str(config.target)
    return CustomSource(
        name=label,
        classes=classes,
        palette=palette,
        void=void,
        channels=config.channels,
        make=make,
        made={os.getpid(): own},
    )


@dataclass(frozen=True)
class _Maker:
    """Makes the user's object, in any process."""

    name: str
    target: str
    args: dict[str, Any]

    def __call__(self) -> Any:
        return call(self.name, find(self.name, self.target), self.args)
