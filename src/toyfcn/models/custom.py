"""A network of the user's own: model=custom model.target=package.module:name."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.config.model import ModelConfig
from toyfcn.config.target import call, find
from toyfcn.models.backbone import Normalize
from toyfcn.models.upsampling import Deconvolution
from toyfcn.text import fault


class CustomNetwork(nn.Module):
    """Scores photos by someone else's network, whatever stride its scores have.

    ``network`` maps photos (B, C, H, W), normalized (RGB by ImageNet's mean and deviation), to
    scores (B, classes, h, w), or to a dict that holds them as ``out``, as networks of torchvision
    do. Photos are padded at the right and the bottom to multiples of ``pad`` pixels; the scores are
    enlarged bilinearly to the padded photo and cropped.

    ``upsample_by`` makes the enlargement a fixed deconvolution, which computes the same: with it
    the loss and the scoring are fused as in an ``FCN``.
    """

    offset = 0  # of the photo in the enlarged scores

    def __init__(self, network: nn.Module, pad: int, channels: int = 3) -> None:
        super().__init__()
        self.normalize = Normalize(channels)
        self.trunk, self.pad = network, pad
        self.heads = nn.ModuleList()  # its score layers are not told apart from the rest
        self.ups = nn.ModuleList()

    def upsample_by(self, stride: int, classes: int) -> None:
        """Enlarge scores, which always have this stride, by a deconvolution that does not learn."""
        self.ups.append(Deconvolution(classes, stride, learned=False))

    @property
    def backbone(self) -> nn.Module:
        """The whole network."""
        return self.trunk

    @property
    def coarsest_stride(self) -> int:
        """The pixels by which a photo may be shifted so that all cells fit again."""
        return self.pad

    def score_map(self, image: Tensor) -> Tensor:
        """Score photos (B, C, H, W) in 0..255: scores of the padded photos, not enlarged."""
        height, width = image.shape[-2:]
        right, bottom = -width % self.pad, -height % self.pad
        made = self.trunk(F.pad(self.normalize(image), (0, right, 0, bottom)))
        scores: Tensor = made.get("out", made) if isinstance(made, dict) else made
        return scores

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, C, H, W) in 0..255, of any size from 1x1 up.

        Returns scores (B, classes, H, W), or interpolated bilinearly to ``size``: see ``FCN``.
        """
        height, width = image.shape[-2:]
        scores = self.score_map(image)
        padded = height + -height % self.pad, width + -width % self.pad
        if self.ups:
            scores = self.ups[0](scores)
        elif tuple(scores.shape[-2:]) != padded:
            scores = F.interpolate(scores, size=padded, mode="bilinear", align_corners=False)
        scores = scores[..., :height, :width]
        if size is not None and tuple(scores.shape[-2:]) != tuple(size):
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def build_custom(config: ModelConfig, classes: int, channels: int) -> CustomNetwork:
    """Return what ``model.target`` makes of ``classes=`` (or num_classes=) and model.args.

    Photos that are not RGB are told it as ``channels=``, ``in_channels=`` or ``in_chans=``, if it
    takes one of these.

    Raises:
        ValueError: it cannot be made, or does not map photos to scores.
    """
    assert config.target is not None  # ModelConfig has seen to it
    name, args = f"model.target={config.target}", dict[str, Any](config.args or {})
    maker = find(name, config.target)
    taken = inspect.signature(maker).parameters
    key = "num_classes" if "num_classes" in taken and "classes" not in taken else "classes"
    told = [key for key in ("channels", "in_channels", "in_chans") if key in taken]
    inputs = {key: channels for key in told[:1] if channels != 3}
    network = call(name, maker, {key: classes} | inputs | args)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} returns a {type(network).__name__}, not an nn.Module")
    if not any(weights.requires_grad for weights in network.parameters()):
        raise ValueError(f"{name} has no weights that learn")
    net = CustomNetwork(network, config.pad, channels)
    side = 2 * max(config.pad, 32)
    modes = {module: module.training for module in net.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = net.eval().score_map(torch.zeros(1, channels, side, 2 * side))
    except Exception as error:  # whatever code of others may raise
        photos = f"photos of {side}x{2 * side} pixels and {channels} channels"
        raise ValueError(f"{name} fails on {photos}: {fault(error)}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(found, Tensor) or found.ndim != 4 or found.dtype != torch.float32:
        made = f"{found.dtype} {[*found.shape]}" if isinstance(found, Tensor) else type(found)
        raise ValueError(
            f"{name} returns {made}, not scores float32 (B, classes, h, w), or a dict that holds "
            "them as out"
        )
    if found.shape[1] != classes:
        raise ValueError(
            f"{name} returns scores of {found.shape[1]} classes, but is called with {key}={classes}"
        )
    stride = side // found.shape[2]
    if (
        stride > 1
        and config.pad % stride == 0
        and found.shape[2:] == (side // stride, 2 * side // stride)
    ):
        net.upsample_by(stride, classes)
    return net
