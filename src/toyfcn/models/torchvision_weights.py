"""ImageNet weights of torchvision, and those of the FCN paper's Caffe release for VGG-16."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import VGG16_Weights, WeightsEnum

from toyfcn.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from toyfcn.models.torchvision_backbones import TorchvisionBackbone
from toyfcn.models.vgg import BLOCKS
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


def torchvision_weights(backbone: TorchvisionBackbone, source: str) -> dict[str, Tensor]:
    """Return weights, and the preprocessing that they need, by the names that they have in an FCN.

    ``source`` is ``imagenet`` or a file: a state dict with torchvision's names.

    Raises:
        ValueError: the weights do not exist or cannot be read safely.
    """
    state = state_dict(source, backbone.weights)
    layers = {name.rpartition(".")[0] for name in state}
    names = {layer: f"trunk.{backbone.renamed.get(layer, layer)}" for layer in layers}
    return renamed(state, names) | preprocessing(backbone.mean, backbone.std)


def vgg_weights(source: str) -> dict[str, Tensor]:
    """Return weights of VGG-16, and the preprocessing that they need, as in an FCN.

    ``source`` is ``imagenet`` or a file: a state dict with torchvision's names
    (``features.0.weight``: RGB in 0..1, ImageNet's mean and standard deviation) or the Caffe
    release's (``conv1_1.weight``: BGR in 0..255, mean subtracted). BGR weights are converted to
    RGB: every network here takes RGB.

    Raises:
        ValueError: the weights do not exist, cannot be read safely, or have other names.
    """
    state, key = state_dict(source, VGG16_Weights.IMAGENET1K_V1), f"model.weights={source}"
    if "features.1.running_mean" in state:
        raise ValueError(
            f"{key} is a VGG-16 with batch normalization, which this one is without: take "
            "torchvision's vgg16 (model.weights=imagenet)"
        )
    if "features.0.weight" in state:
        return vgg_from_torchvision(state) | preprocessing(IMAGENET_MEAN, IMAGENET_STD)
    if "conv1_1.weight" in state:
        return vgg_from_caffe(state) | preprocessing(CAFFE_MEAN, (1.0, 1.0, 1.0))
    raise ValueError(
        f"{key} has neither torchvision's layers (features.0.weight, …) nor the Caffe "
        f"release's (conv1_1.weight, …), but {', '.join(list(state)[:3])}, …"
    )


def preprocessing(mean: Sequence[float], std: Sequence[float]) -> dict[str, Tensor]:
    """Return the buffers of ``Normalize`` for a mean and standard deviation of RGB in 0..255."""
    given = {"normalize.mean": mean, "normalize.std": std}
    return {name: torch.tensor(values).view(1, -1, 1, 1) for name, values in given.items()}


def state_dict(source: str, weights: WeightsEnum) -> dict[str, Tensor]:
    """Read a file of tensors, or for ``imagenet`` these weights of torchvision."""
    return imagenet(weights) if source == "imagenet" else read(Path(source).expanduser())


def imagenet(weights: WeightsEnum) -> dict[str, Tensor]:
    """Return weights of torchvision, downloaded once; their hash is checked every time."""
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


def vgg_from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's layers: its convolutions are numbered, in the same order as here."""
    numbers = sorted({int(n) for n in re.findall(r"features\.(\d+)\.weight", " ".join(state))})
    convolutions = zip(numbers, CONVOLUTIONS, strict=False)
    names = {f"features.{number}": f"trunk.{name}" for number, name in convolutions}
    names |= {"classifier.0": "trunk.fc6", "classifier.3": "trunk.fc7", "classifier.6": "fc8"}
    return renamed(state, names)


def vgg_from_caffe(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the Caffe release's layers, and reverse the first one's channels from BGR to RGB."""
    names = CAFFE | {name: f"trunk.{name}" for name in [*CONVOLUTIONS, "fc6", "fc7"]}
    given = renamed(state, names)
    given["trunk.conv1_1.weight"] = given["trunk.conv1_1.weight"].flip(1)
    return given


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename layers from the keys of ``names`` to its values; others keep their names."""
    split = ((*name.rpartition(".")[::2], value) for name, value in state.items())
    return {f"{names.get(layer, layer)}.{kind}": value for layer, kind, value in split}
