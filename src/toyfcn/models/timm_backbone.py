"""Any timm network that gives feature maps, as a backbone. Needs the extra toyfcn[backbones]."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.config.extras import import_extra
from toyfcn.models.backbone import PROBE, Backbone, pad_to_multiple
from toyfcn.models.grid_tracer import trace
from toyfcn.text import first_line

STRIDES = (4, 8, 16, 32)  # of the features that are used


def import_timm() -> ModuleType:
    """Import timm, which only these backbones need."""
    return import_extra("timm", "backbones", "model=fcn_timm")


class EvenConvolution(nn.Conv2d):
    """timm's ``Conv2dSame`` for maps whose size its stride divides: the padding is a constant then.

    Computed from sizes at run time, as timm has to, it could not be exported.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pad as TensorFlow does, the odd cell at the right and the bottom, and convolve."""
        padding: list[int] = []
        for side in (1, 0):  # width first
            reach = self.dilation[side] * (self.kernel_size[side] - 1) + 1 - self.stride[side]
            padding += [max(reach, 0) // 2, max(reach, 0) - max(reach, 0) // 2]
        x = F.pad(x, padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class TimmBackbone(Backbone):
    """A timm classifier without its last layer: features at strides 4, 8, 16 and 32.

    ``name`` is timm's (``tf_efficientnet_lite0``, ``resnet18.a1_in1k``). The coarsest features are
    what the classifier pools: of the EfficientNets the output of their last 1x1 convolution, unless
    ``conv_head`` is false. ``dropout`` is elementwise, on these. Strides below ``finest`` are left
    out.

    Photos are padded at the right and the bottom to whole cells of stride 32. So any size from 1x1
    up works, and cells lie at the same places in photos of all sizes, also with padding that
    depends on the size (TensorFlow's).

    Raises:
        ValueError: no such network, or one whose maps no FCN can use.
    """

    geometry = "same"

    def __init__(
        self,
        name: str,
        dropout: float = 0.2,
        conv_head: bool = True,
        finest: int = 4,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.name, self.network, self.conv_head = name, create(name, inputs), conv_head
        self.inputs = inputs
        self.dropout = nn.Dropout(dropout)
        for module in self.network.modules():
            if isinstance(module, import_timm().layers.Conv2dSame):
                module.__class__ = EvenConvolution  # forward always gives it even maps
        strides = [entry["reduction"] for entry in self.network.feature_info]
        self.indices = [i for i, s in enumerate(strides) if s in STRIDES and s >= finest]
        self.strides = [strides[i] for i in self.indices]
        if self.strides[-1:] != [32] or len(set(self.strides)) < len(self.strides):
            raise ValueError(
                f"model.backbone={name} has features at strides {strides}, not up to 32"
            )
        side = PROBE * 32
        try:
            features, self._grids, used = trace(self, side, inputs)
        except (ValueError, AssertionError, RuntimeError) as error:
            reason = first_line(error, 120)
            raise ValueError(f"model.backbone={name} is no network for an FCN: {reason}") from None
        self.channels = [feature.shape[1] for feature in features]
        for feature, grid, stride in zip(features, self._grids, self.strides, strict=True):
            if grid.stride != stride or feature.shape[2:] != (side // stride, side // stride):
                raise ValueError(
                    f"model.backbone={name} is no network for an FCN: its features of stride "
                    f"{stride} are {list(feature.shape)} for a photo of {side}x{side}"
                )
        for path, module in list(self.network.named_modules()):
            if module not in used and list(module.parameters(recurse=False)):
                self.network.set_submodule(path, nn.Identity())  # a layer behind the features

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, C, H, W) to the feature maps, finest first."""
        x = pad_to_multiple(x, 32)
        if self.conv_head:
            last, features = self.network.forward_intermediates(x, indices=self.indices)
        else:
            features = self.network.forward_intermediates(
                x, indices=self.indices, intermediates_only=True
            )
            last = features[-1]
        return [*features[:-1], self.dropout(last)]

    def grids(self) -> list[Any]:
        """Return where the cells of each feature map lie in the photo, finest first."""
        return self._grids


def create(name: str, inputs: int = 3) -> Any:
    """Return timm's network of that name for photos of so many channels, without its last layer.

    Only timm's own names are taken: ``hf-hub:`` would download what a checkpoint names.

    Raises:
        ValueError: timm has no such network.
    """
    timm = import_timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f": did you mean {', '.join(close)}?" if close else ""
        raise ValueError(f"model.backbone={name} is not a network of timm {timm.__version__}{hint}")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, in_chans=inputs)
    except RuntimeError as error:  # such as an unknown tag of weights
        raise ValueError(f"model.backbone={name}: {first_line(error, 120)}") from None
