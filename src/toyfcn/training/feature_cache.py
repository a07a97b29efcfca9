"""What a frozen backbone makes of photos that are never augmented: computed once, and kept."""

from __future__ import annotations

import torch
from torch import Tensor

from toyfcn.data.collate import Batch
from toyfcn.models.fcn import FCN


class FeatureCache:
    """The feature maps of training photos, by id, in memory where the network is.

    Each photo is computed alone, so that its features do not depend on those beside it: a run that
    goes on has the same ones. The backbone's dropout is off.
    """

    def __init__(self) -> None:
        self.kept: dict[str, list[Tensor]] = {}

    def features(self, net: FCN, batch: Batch) -> list[Tensor]:
        """Return the feature maps of a batch of photos of one size, (B, C, h, w), finest first."""
        for i, name in enumerate(batch["id"]):
            if name not in self.kept:
                net.backbone.eval()  # for good: what would train in it is frozen
                with torch.no_grad():
                    self.kept[name] = net.features(batch["image"][i : i + 1])
        maps = zip(*(self.kept[name] for name in batch["id"]), strict=True)
        return [torch.cat(alike) for alike in maps]
