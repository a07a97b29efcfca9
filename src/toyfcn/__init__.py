"""toyfcn: an experiment framework for semantic segmentation, from FCN-LeNet to FCN-8s.

The names below are what other programs may use; each is imported when it is asked for, so that
``import toyfcn`` takes no time. Everything else may change from one version to the next.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toyfcn.api import train as train
    from toyfcn.data.datamodule import SegmentationData as SegmentationData
    from toyfcn.data.voc import VOCReader as VOCReader
    from toyfcn.inference.evaluate import evaluate as evaluate
    from toyfcn.inference.predictor import Predictor as Predictor
    from toyfcn.inference.predictor import load as load
    from toyfcn.models.fcn import FCN as FCN
    from toyfcn.models.upsampling import bilinear_kernel as bilinear_kernel
    from toyfcn.training.task import SegmentationTask as SegmentationTask

__version__ = "0.1.0"
_MODULES = {
    "train": "api",
    "evaluate": "inference.evaluate",
    "load": "inference.predictor",
    "Predictor": "inference.predictor",
    "VOCReader": "data.voc",
    "SegmentationData": "data.datamodule",
    "SegmentationTask": "training.task",
    "FCN": "models.fcn",
    "bilinear_kernel": "models.upsampling",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'toyfcn' has no attribute {name!r}")
    return getattr(importlib.import_module(f"toyfcn.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
