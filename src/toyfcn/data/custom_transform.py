"""An augmentation of the user's own, behind toyfcn's: data.transform=package.module:name."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torchvision import tv_tensors

from toyfcn.config.target import call, find
from toyfcn.data.transforms import TrainTransform
from toyfcn.text import fault


@dataclass(frozen=True)
class CustomTransform:
    """Transforms a training photo and its mask by ``own``, then by what ``target`` makes.

    That is a transform of torchvision (v2), called with tv_tensors, or one of albumentations. Every
    sample's seed is set before it, for torch, numpy, random and albumentations, so that batches are
    the same with any number of loader workers.
    """

    own: TrainTransform
    target: str
    args: dict[str, Any]
    classes: int
    made: list[Any] = field(default_factory=list, repr=False, compare=False)  # of this process

    def __getstate__(self) -> dict[str, Any]:
        """Be sent to a loader worker without the transform, which is made again there."""
        return self.__dict__ | {"made": []}

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"data.transform={self.target}"

    def make(self) -> Any:
        """Return the user's transform, made once a process.

        Raises:
            ValueError: it cannot be made.
        """
        if not self.made:
            self.made.append(call(self.name, find(self.name, self.target), self.args))
            if not callable(self.made[0]):
                kind = type(self.made.pop()).__name__
                raise ValueError(f"{self.name} returns a {kind}, which cannot be called")
        return self.made[0]

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Transform a photo uint8 (C, H, W) and its mask uint8 (H, W), from ``seed`` alone.

        Raises:
            ValueError: it fails, or what comes out is no such pair.
        """
        image, mask = self.own(image, mask, seed)
        transform = self.make()
        with isolate_rng(include_cuda=False):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            if hasattr(transform, "set_random_seed"):
                transform.set_random_seed(seed % 2**32)
            try:
                if any(kind.__module__.startswith("albument") for kind in type(transform).__mro__):
                    found = transform(image=image.permute(1, 2, 0).numpy(), mask=mask.numpy())
                    image, mask = found["image"], found["mask"]
                else:
                    image, mask = transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
            except Exception as error:  # whatever code of others may raise
                raise ValueError(f"{self.name} fails: {fault(error)}") from error
        return self.checked(image, mask)

    def checked(self, image: Any, mask: Any) -> tuple[Tensor, Tensor]:
        """Return what came out as plain tensors.

        Raises:
            ValueError: other types, sizes or labels than a photo's and a mask's.
        """
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if isinstance(mask, np.ndarray):
            mask = torch.from_numpy(np.ascontiguousarray(mask))
        image, mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        kinds = [f"{pixels.dtype} {tuple(pixels.shape)}" for pixels in (image, mask)]
        types, channels = {image.dtype, mask.dtype}, len(self.own.fill)
        if image.shape != (channels, *mask.shape) or not mask.numel() or types != {torch.uint8}:
            raise ValueError(
                f"{self.name} returns {' and '.join(kinds)}, not torch.uint8 "
                f"({channels}, H, W) and torch.uint8 (H, W): normalization belongs to the network"
            )
        wrong = mask[(mask >= self.classes) & (mask != self.own.void)]
        if len(wrong):
            raise ValueError(
                f"{self.name} returns a mask with the label {wrong[0]}, but the classes end at "
                f"{self.classes - 1} and void is {self.own.void}"
            )
        return image, mask
