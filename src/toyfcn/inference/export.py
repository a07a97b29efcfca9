"""A checkpoint's network as ONNX, for any photo size, checked against torch: toyfcn-export."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from toyfcn.config.commands import ExportConfig
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint import Checkpoint

SIZES = ((1, 64, 96), (2, 97, 75), (1, 33, 50))  # batch, height, width that it is checked at
TOLERANCE = 1e-4


def run_command(config: ExportConfig) -> None:
    """Write ``config.ckpt`` as ONNX; check that onnxruntime computes the same.

    Raises:
        ValueError: the extra packages are missing, or scores differ by more than ``TOLERANCE``.
    """
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{error.name} is missing: pip install 'toyfcn[export]' brings what ONNX needs"
        ) from None
    loaded = checkpoint.load(config.ckpt, config.trust)
    net: nn.Module = loaded.net
    if config.output == "labels":
        net = (Labels if loaded.model.short_side is None else LabelsOfSize)(loaded.net).eval()
    out = Path(config.out or Path(str(config.ckpt)).with_suffix(".onnx"))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(net, loaded, config.output, out)
    worst = difference(out, net)
    print(f"wrote {out}: largest difference from torch {worst:.1e} at {len(SIZES)} sizes")
    if worst > TOLERANCE:
        raise ValueError(f"{out} differs from torch by {worst:.1e}, more than {TOLERANCE:.0e}")


def write_onnx(net: nn.Module, loaded: Checkpoint, output: str, out: Path) -> None:
    """Write a network for photos uint8 (B, 3, H, W) of any size; ``output`` names the result.

    Labels of photos that were resized come at the photo's own size, which is a second input.
    """
    import onnx  # of the extra toyfcn[export]

    axes = {0: Dim("batch", min=1), 2: Dim("height", min=8), 3: Dim("width", min=8)}
    inputs: dict[str, tuple[Tensor, Any]] = {
        "photo": (torch.zeros(2, 3, 96, 128, dtype=torch.uint8), axes)
    }
    if isinstance(net, LabelsOfSize):
        inputs["size"] = (torch.tensor([120, 160]), {})
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # the exporter's own affairs
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(free for _, free in inputs.values()),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    facts = {
        "classes": loaded.classes,
        "palette": loaded.metadata["palette"],
        "short_side": loaded.model.short_side,
        "input": "uint8 RGB (batch, 3, height, width), its short side brought to short_side",
    }
    if isinstance(net, LabelsOfSize):
        facts["size"] = "int64 [height, width] of the photo before, which the labels have"
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, str(out))


def difference(path: Path, net: nn.Module) -> float:
    """Return the largest difference between onnxruntime and torch; for labels, the share wrong."""
    import onnxruntime  # of the extra toyfcn[export]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = []
    for index, (batch, height, width) in enumerate(SIZES):
        rng = np.random.default_rng(index)
        photo = rng.integers(0, 256, (batch, 3, height, width), np.uint8)
        given = {"photo": photo}
        if isinstance(net, LabelsOfSize):
            given["size"] = np.array([2 * height, 2 * width])
        (got,) = session.run(None, given)
        with torch.inference_mode():
            wanted = net(*map(torch.from_numpy, given.values())).numpy()
        assert got.shape == wanted.shape
        apart: Any = got != wanted if got.dtype == np.uint8 else np.abs(got - wanted)
        found.append(float(apart.mean() if got.dtype == np.uint8 else apart.max()))
    return max(found)


class Labels(nn.Module):
    """A network that gives the class with the highest score at each pixel: uint8 (B, H, W)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, photo: Tensor) -> Tensor:
        """Label photos (B, 3, H, W)."""
        labels: Tensor = self.net(photo).max(1).indices.to(torch.uint8)
        return labels


class LabelsOfSize(nn.Module):
    """The same for photos that were resized: scores are enlarged bilinearly before the argmax."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, photo: Tensor, size: Tensor) -> Tensor:
        """Label photos (B, 3, h, w) at ``size``, int64 [height, width]: uint8 (B, *size)."""
        height, width = size.tolist()
        torch._check(height > 0)
        torch._check(width > 0)
        scores = F.interpolate(self.net(photo), (height, width), mode="bilinear")
        return scores.max(1).indices.to(torch.uint8)
