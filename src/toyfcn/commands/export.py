"""toyfcn-export: a checkpoint's network as ONNX, for any photo size, checked against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toyfcn.cli.launch import launch
from toyfcn.config.commands import ExportConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZES = ((1, 64, 96), (2, 97, 75), (1, 33, 50))  # batch, height, width that it is checked at
TOLERANCE = 1e-4


def main() -> None:
    """Start the command."""
    launch("toyfcn-export", "export", export)


def export(config: ExportConfig) -> None:
    """Write ``config.ckpt`` as ONNX; see that onnxruntime computes the same.

    Raises:
        ValueError: the extra packages are missing, or scores differ by more than ``TOLERANCE``.
    """
    import importlib
    import logging
    import warnings

    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{error.name} is missing: pip install 'toyfcn[export]' brings what ONNX needs"
        ) from None
    import onnx
    import torch
    from torch.export import Dim

    from toyfcn.runs import checkpoint

    loaded = checkpoint.load(config.ckpt)
    net = loaded.net if config.output == "scores" else labelling(loaded.net)
    out = Path(config.out or Path(str(config.ckpt)).with_suffix(".onnx"))
    out.parent.mkdir(parents=True, exist_ok=True)
    photo = torch.zeros(2, 3, 96, 128, dtype=torch.uint8)
    axes = {0: Dim("batch", min=1), 2: Dim("height", min=8), 3: Dim("width", min=8)}
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # the exporter's own affairs
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (photo,),
            dynamo=True,
            input_names=["photo"],
            output_names=[config.output],
            dynamic_shapes=({0: axes[0], 2: axes[2], 3: axes[3]},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    facts = {
        "classes": loaded.classes,
        "palette": loaded.card["palette"],
        "short_side": loaded.model.short_side,
        "input": "uint8 RGB (batch, 3, height, width), its short side brought to short_side",
    }
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, str(out))
    worst = difference(out, net)
    print(f"wrote {out}: largest difference from torch {worst:.1e} at {len(SIZES)} sizes")
    if worst > TOLERANCE:
        raise ValueError(f"{out} differs from torch by {worst:.1e}, more than {TOLERANCE:.0e}")


def difference(path: Path, net: nn.Module) -> float:
    """Return the largest difference between onnxruntime and torch; for labels, the share wrong."""
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = []
    for index, (batch, height, width) in enumerate(SIZES):
        rng = np.random.default_rng(index)
        photo = rng.integers(0, 256, (batch, 3, height, width), np.uint8)
        (got,) = session.run(None, {"photo": photo})
        with torch.inference_mode():
            wanted = net(torch.from_numpy(photo)).numpy()
        assert got.shape == wanted.shape
        apart: Any = got != wanted if got.dtype == np.uint8 else np.abs(got - wanted)
        found.append(float(apart.mean() if got.dtype == np.uint8 else apart.max()))
    return max(found)


def labelling(net: nn.Module) -> nn.Module:
    """Return a network that gives the best class of each pixel: uint8 (B, H, W)."""
    import torch

    class Labelling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, photo: Tensor) -> Tensor:
            labels: Tensor = self.net(photo).max(1).indices.to(torch.uint8)
            return labels

    return Labelling().eval()
