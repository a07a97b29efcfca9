"""Trained weights for an FCN: from our own classifiers, torchvision or the Caffe release.

A fully connected layer becomes a convolution by a reshape of its weight: see ``in_shape``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import VGG16_Weights

from toyfcn.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from toyfcn.models.fcn import FCN
from toyfcn.models.lenet import LeNet
from toyfcn.models.timm_backbone import TimmBackbone
from toyfcn.models.timm_weights import timm_weights
from toyfcn.models.vgg import BLOCKS, VGG16
from toyfcn.models.weights_file import read, sha256

# the Caffe release's layers (32s upscore; 16s upscore2, upscore16; 8s upscore2, upscore_pool4, …)
CAFFE = {
    "score_fr": "heads.0",
    "score_pool4": "heads.1",
    "score_pool3": "heads.2",
    "upscore": "ups.0",
    "upscore2": "ups.0",
    "upscore16": "ups.1",
    "upscore_pool4": "ups.1",
    "upscore8": "ups.2",
}
CAFFE_MEAN = (122.67892, 116.66877, 104.00699)  # of RGB; the release subtracts it from BGR
CONVOLUTIONS = [
    f"conv{block}_{number}"
    for block, (_, count) in enumerate(BLOCKS, 1)
    for number in range(1, count + 1)
]


@dataclass
class Transplant:
    """The names of an FCN's weights that were copied, reshaped and left newly initialized."""

    copied: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # of the weights given

    @property
    def scores(self) -> bool:
        """Whether a score layer is among them: without one all scores start at zero."""
        return any(name.startswith("heads.") for name in (*self.copied, *self.reshaped))

    def __str__(self) -> str:
        parts = [f"{len(self.copied)} weights copied"]
        for label in ("reshaped", "new", "unused"):
            names = [short(name) for name in getattr(self, label)]
            if names:
                parts.append(f"{'left ' * (label == 'new')}{label}: {', '.join(names)}")
        return "; ".join(parts)


def short(name: str) -> str:
    """Return a weight's name as its backbone has it."""
    return name.removeprefix("trunk.").removeprefix("network.")


def convolutionalize(classifier: LeNet | VGG16, net: FCN) -> Transplant:
    """Copy a trained classifier's weights into an FCN with the same backbone (FCN paper, 4.1).

    The classifier's last layer becomes the coarsest score layer. Finer score layers are left new.

    Raises:
        ValueError: the backbones differ.
    """
    given = {}
    for name, value in classifier.state_dict().items():
        layer, _, rest = name.partition(".")
        target = {"normalize": "normalize", classifier.OUTPUT: "heads.0"}.get(
            layer, f"trunk.{layer}"
        )
        given[f"{target}.{rest}"] = value
    return copy_weights(net, given, "the classifier")


def load_weights(net: FCN, source: str) -> Transplant:
    """Load trained weights, and the preprocessing that they need, into an FCN.

    For backbones of timm see ``timm_weights``. For VGG-16 ``source`` is ``imagenet``
    (torchvision's, cached or downloaded) or a file written by ``torch.save``: a state dict with
    torchvision's names (``features.0.weight``: RGB in 0..1, ImageNet's mean and standard
    deviation) or the Caffe release's (``conv1_1.weight``: BGR in
    0..255, mean subtracted). BGR weights are converted to RGB: every network here takes RGB.

    Raises:
        ValueError: the weights do not exist, cannot be read safely, or do not fit.
    """
    key = f"model.weights={source}"
    if isinstance(net.backbone, TimmBackbone):
        return copy_weights(net, timm_weights(net.backbone, source), key)
    state = imagenet() if source == "imagenet" else read(Path(source).expanduser())
    if "features.1.running_mean" in state:
        raise ValueError(
            f"{key} is a VGG-16 with batch normalization, which this one is without: take "
            "torchvision's vgg16 (model.weights=imagenet)"
        )
    if "features.0.weight" in state:
        given, mean, std = from_torchvision(state), IMAGENET_MEAN, IMAGENET_STD
    elif "conv1_1.weight" in state:
        given, mean, std = from_caffe(state), CAFFE_MEAN, (1.0, 1.0, 1.0)
    else:
        raise ValueError(
            f"{key} has neither torchvision's layers (features.0.weight, …) nor the Caffe "
            f"release's (conv1_1.weight, …), but {', '.join(list(state)[:3])}, …"
        )
    given["normalize.mean"] = torch.tensor(mean).view(1, -1, 1, 1)
    given["normalize.std"] = torch.tensor(std).view(1, -1, 1, 1)
    return copy_weights(net, given, key)


def imagenet() -> dict[str, Tensor]:
    """Return torchvision's ImageNet VGG-16, downloaded once; its hash is checked every time."""
    weights = VGG16_Weights.IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    expected = path.stem.rpartition("-")[2]
    if path.exists() and not sha256(path).startswith(expected):
        raise ValueError(
            f"model.weights=imagenet: {path} is damaged (its SHA-256 does not start with "
            f"{expected}): remove it"
        )
    try:
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"model.weights=imagenet could not be downloaded ({error}): put {path.name} into "
            f"{path.parent}, it comes from {weights.url}"
        ) from None
    return state


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's layers: its convolutions are numbered, in the same order as here."""
    numbers = sorted({int(n) for n in re.findall(r"features\.(\d+)\.weight", " ".join(state))})
    convolutions = zip(numbers, CONVOLUTIONS, strict=False)
    names = {f"features.{number}": f"trunk.{name}" for number, name in convolutions}
    names |= {"classifier.0": "trunk.fc6", "classifier.3": "trunk.fc7", "classifier.6": "fc8"}
    return renamed(state, names)


def from_caffe(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the Caffe release's layers, and reverse the first one's channels from BGR to RGB."""
    names = CAFFE | {name: f"trunk.{name}" for name in [*CONVOLUTIONS, "fc6", "fc7"]}
    given = renamed(state, names)
    given["trunk.conv1_1.weight"] = given["trunk.conv1_1.weight"].flip(1)
    return given


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename layers from the keys of ``names`` to its values; others keep their names."""
    split = ((*name.rpartition(".")[::2], value) for name, value in state.items())
    return {f"{names.get(layer, layer)}.{kind}": value for layer, kind, value in split}


def copy_weights(net: FCN, given: Mapping[str, Tensor], source: str) -> Transplant:
    """Copy weights by name; score layers and deconvolutions that do not fit are left new.

    Raises:
        ValueError: a weight of the backbone is missing or of another size; nothing is changed then.
    """
    report, copies = Transplant(), []
    own = net.state_dict()
    for name, target in own.items():
        value, needed = given.get(name), name.startswith(("trunk.", "normalize."))
        layer = short(name)
        if value is not None and name.startswith("ups."):
            value = one_filter_per_class(value, target, f"{source}: {layer}")
        fitted = None if value is None else in_shape(value, target.shape)
        if fitted is not None:
            (report.copied if fitted is value else report.reshaped).append(name)
            copies.append((target, fitted))
        elif not needed:
            report.new.append(name)
        elif value is None:
            raise ValueError(f"{source} has no {layer}: an FCN needs the whole backbone")
        else:
            raise ValueError(
                f"{source} has {layer} as {list(value.shape)}, but this model needs "
                f"{list(target.shape)}: set model.width or model.backbone to that of the weights"
            )
    report.unused = [name for name in given if name not in own]
    with torch.no_grad():
        for target, value in copies:
            target.copy_(value)
    return report


def in_shape(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a weight in the shape that a layer needs, or None if it does not fit.

    A fully connected weight (O, C·H·W) is the convolution (O, C, H, W) with the same numbers in the
    same order.
    """
    if weight.shape == shape:
        return weight
    fully_connected, convolution = weight.ndim == 2, len(shape) == 4
    if fully_connected and convolution and weight.numel() == shape.numel():
        return weight.view(shape)
    return None


def one_filter_per_class(value: Tensor, target: Tensor, name: str) -> Tensor:
    """Return a dense deconvolution's weight as one filter per class, if the FCN has that kind.

    Raises:
        ValueError: it mixes classes, so that one filter per class cannot represent it.
    """
    classes = len(target)
    if target.shape[1] == 1 and value.shape == (classes, classes, *target.shape[2:]):
        index = torch.arange(classes)
        filters = value[index, index][:, None]
        if value.count_nonzero() > filters.count_nonzero():
            raise ValueError(f"{name} mixes classes: set model.upsample=dense")
        return filters
    return value
