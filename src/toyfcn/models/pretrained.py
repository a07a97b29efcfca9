"""Trained weights for an FCN: from our own classifiers, or by name from other libraries.

A fully connected layer becomes a convolution by a reshape of its weight: see ``in_shape``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from toyfcn.models.fcn import FCN
from toyfcn.models.lenet import LeNet
from toyfcn.models.timm_backbone import TimmBackbone
from toyfcn.models.timm_weights import timm_weights
from toyfcn.models.torchvision_backbones import TorchvisionBackbone
from toyfcn.models.torchvision_weights import torchvision_weights, vgg_weights
from toyfcn.models.vgg import VGG16


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

    ``source`` is ``imagenet`` (an installed package's, or downloaded once) or a file of tensors by
    name: see ``timm_weights``, ``torchvision_weights`` and ``vgg_weights`` for the names.

    Raises:
        ValueError: the weights do not exist, cannot be read safely, or do not fit.
    """
    backbone = net.backbone
    if isinstance(backbone, TimmBackbone):
        given = timm_weights(backbone, source)
    elif isinstance(backbone, TorchvisionBackbone):
        given = torchvision_weights(backbone, source)
    else:
        given = vgg_weights(source)
    if backbone.inputs != 3:  # it was set to what the training photos are like
        own = net.state_dict()
        given |= {name: own[name] for name in own if name.startswith("normalize.")}
    return copy_weights(net, given, f"model.weights={source}")


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
