"""A checkpoint's network in a file of its own, checked against PyTorch: toyfcn-export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toyfcn.config.extras import import_extra
from toyfcn.config.inference import SUFFIXES, ExportConfig
from toyfcn.config.option import as_list
from toyfcn.data.datamodule import SegmentationData
from toyfcn.inference import export_formats as formats
from toyfcn.inference.export_benchmark import Candidate, benchmark, size_of_file, size_of_weights
from toyfcn.inference.export_formats import OPENED, Examples, Inputs, Run, runner, seen
from toyfcn.models.backbone import channels_of
from toyfcn.models.folding import folded
from toyfcn.models.kernels.by_device import choose_kernels
from toyfcn.runs import checkpoint
from toyfcn.runs.checkpoint import Checkpoint, as_trained

SIZES = ((1, 64, 96), (2, 97, 75), (1, 33, 50))  # batch, height, width that it is checked at
TOLERANCE = 1e-4
AGREEMENT = 0.9  # share of the pixels at which labels of INT8 are to be PyTorch's
PACKAGES = {  # that a format needs, and the extra that brings them
    "onnx": ("export", ("onnx", "onnxruntime", "onnxscript")),
    "openvino": ("openvino", ("openvino",)),
}


def run_command(config: ExportConfig) -> None:
    """Write ``config.ckpt`` in each format; check that the files compute what PyTorch computes.

    Raises:
        ValueError: packages are missing, scores differ by more than ``TOLERANCE``, or the labels
            of INT8 at more pixels than ``AGREEMENT`` allows.
    """
    refuse_missing_packages(as_list(config.format))
    loaded = checkpoint.load(config.ckpt, config.trust)
    data = None
    if config.quantize or config.benchmark:
        trained = as_trained(config.data or {}, loaded.data, config.trust)
        data = SegmentationData.open(trained, loaded.model.short_side)
    net: nn.Module = folded(loaded.net)
    if config.output == "labels":
        net = (Labels if loaded.model.short_side is None else LabelsOfSize)(net).eval()
    sized = isinstance(net, LabelsOfSize)
    stem = Path(config.out or str(config.ckpt)).with_suffix("")
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = {name: stem.with_suffix(SUFFIXES[name]) for name in as_list(config.format)}
    given, facts = formats.examples(sized, loaded.data.channels), metadata(loaded, sized)
    write(net, given, config.output, facts, files)
    choose_kernels(net, torch.device("cpu"))  # from here on as toyfcn-predict runs it
    candidates = [Candidate("PyTorch, float32", size_of_weights(net), runner(net))]
    for name, path in files.items():
        run = OPENED[name](path, config.threads)
        worst = difference(run, net)
        print(f"wrote {path}: largest difference from torch {worst:.1e} at {len(SIZES)} sizes")
        if worst > TOLERANCE:
            raise ValueError(f"{path} differs from torch by {worst:.1e}, more than {TOLERANCE:.0e}")
        candidates.append(Candidate(f"{name}, float32", size_of_file(path), run))
    if config.quantize and data is not None:
        path = stem.with_name(f"{stem.name}_int8.onnx")
        photos = calibration(data, sized, config.calibration_photos)
        formats.write_int8(files["onnx"], photos, facts, path)
        run = OPENED["onnx"](path, config.threads)
        equal = agreement(run, net, photos)
        print(f"wrote {path}: labels are torch's at {equal:.1%} of {len(photos)} training photos")
        if equal < AGREEMENT:
            raise ValueError(f"{path} has other labels than torch at {1 - equal:.1%} of the pixels")
        candidates.append(Candidate("onnx, int8", size_of_file(path), run))
        if "openvino" in files:  # which reads ONNX too
            run = OPENED["openvino"](path, config.threads)
            candidates.append(Candidate("onnx, int8, in openvino", size_of_file(path), run))
    if config.benchmark and data is not None:
        benchmark(candidates, data, sized, config.threads)


def refuse_missing_packages(wanted: Sequence[str]) -> None:
    """Check that what formats need is installed.

    Raises:
        ValueError: naming the package and the extra that brings it.
    """
    for key in wanted:
        extra, names = PACKAGES.get(key, ("", ()))
        for name in names:
            import_extra(name, extra, key)


def metadata(loaded: Checkpoint, sized: bool) -> dict[str, str]:
    """Return what a file tells about its network, each value as JSON."""
    count = loaded.data.channels
    kind = " RGB" if count == 3 else ""
    facts: dict[str, Any] = {
        "classes": loaded.classes,
        "palette": loaded.metadata["palette"],
        "short_side": loaded.model.short_side,
        "input": f"uint8{kind} (batch, {count}, height, width), its short side brought to "
        "short_side",
    }
    if sized:
        facts["size"] = "int64 [height, width] of the photo before, which the labels have"
    return {key: json.dumps(value) for key, value in facts.items()}


def write(
    net: nn.Module, given: Examples, output: str, facts: dict[str, str], files: dict[str, Path]
) -> None:
    """Write a network for photos uint8 (B, C, H, W) of any size; ``output`` names the result.

    Labels of photos that were resized come at the photo's own size, which is a second input.
    """
    if "onnx" in files:
        formats.write_onnx(net, given, output, facts, files["onnx"])
    if not {"torch", "openvino"} & set(files):
        return
    program = formats.captured(net, given)
    if "torch" in files:
        formats.write_torch(program, facts, files["torch"])
        if (side := formats.smallest_side(program)) > 8:
            print(f"{files['torch']} takes photos of at least {side} pixels a side")
    if "openvino" in files:
        formats.write_openvino(program, list(given), output, facts, files["openvino"])


def difference(run: Run, net: nn.Module) -> float:
    """Return the largest difference between a file and torch; for labels, the share wrong."""
    found, reference = [], runner(net)
    for index, (batch, height, width) in enumerate(SIZES):
        rng, shape = np.random.default_rng(index), (batch, channels_of(net), height, width)
        given: Inputs = {"photo": rng.integers(0, 256, shape, np.uint8)}
        if isinstance(net, LabelsOfSize):
            given["size"] = np.array([2 * height, 2 * width])
        got, wanted = run(given), reference(given)
        assert got.shape == wanted.shape
        apart: Any = got != wanted if got.dtype == np.uint8 else np.abs(got - wanted)
        found.append(float(apart.mean() if got.dtype == np.uint8 else apart.max()))
    return max(found)


def calibration(data: SegmentationData, sized: bool, count: int) -> list[Inputs]:
    """Return training photos as the network sees them, evenly spread over the list of the split."""
    ids = data.split_ids(data.config.train_split)
    chosen = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return [seen(data.source.image(ids[index]), data.short_side, sized) for index in chosen]


def agreement(run: Run, net: nn.Module, photos: Sequence[Inputs]) -> float:
    """Return the share of pixels at which a file and torch give one label."""
    reference, equal = runner(net), []
    for given in photos:
        pair = [f(given) for f in (run, reference)]
        got, wanted = (x if x.dtype == np.uint8 else x.argmax(1) for x in pair)
        equal.append((got == wanted).mean())
    return float(np.mean(equal))


class Labels(nn.Module):
    """A network that gives the class with the highest score at each pixel: uint8 (B, H, W)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, photo: Tensor) -> Tensor:
        """Label photos (B, C, H, W)."""
        labels: Tensor = self.net(photo).max(1).indices.to(torch.uint8)
        return labels


class LabelsOfSize(nn.Module):
    """The same for photos that were resized: scores are enlarged bilinearly before the argmax."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, photo: Tensor, size: Tensor) -> Tensor:
        """Label photos (B, C, h, w) at ``size``, int64 [height, width]: uint8 (B, *size)."""
        height, width = size.tolist()
        torch._check(height > 0)
        torch._check(width > 0)
        scores = F.interpolate(self.net(photo), (height, width), mode="bilinear")
        return scores.max(1).indices.to(torch.uint8)
