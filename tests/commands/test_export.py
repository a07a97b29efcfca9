"""toyfcn-export: each format computes what toyfcn-predict does, and the benchmark what it says."""

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from numpy.typing import NDArray

import toyfcn
from toyfcn.cli import CONF
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import VOCConfig
from toyfcn.config.inference import ExportConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.voc import find_voc, voc_source
from toyfcn.inference.export import run_command
from toyfcn.inference.export_benchmark import Candidate, benchmark
from toyfcn.inference.export_formats import Inputs, opened_onnx, opened_openvino, seen
from toyfcn.models.build import build_network
from toyfcn.runs import checkpoint


@pytest.fixture
def best(tiny_voc: Path) -> Path:
    """A checkpoint of 21 classes with random score layers, of photos of 32 pixels a side."""
    return untrained(ModelConfig(width=0.5, stride=4, short_side=32), tiny_voc)


def untrained(model: ModelConfig, tiny_voc: Path) -> Path:
    config = TrainConfig(data=VOCConfig(root=str(tiny_voc), test_split=None), model=model)
    torch.manual_seed(0)
    net = build_network(config.model, 21)
    for head in net.heads:
        torch.nn.init.normal_(head.weight)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    metadata = checkpoint.make_metadata(config, voc_source(find_voc(tiny_voc, 2007)))
    path = tiny_voc / "best.ckpt"
    torch.save({"state_dict": state, "toyfcn": metadata}, path)
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"quantize": "int8", "format": "torch"}, "quantize=int8 needs format=onnx"),
        ({"quantize": "int8", "format": ["openvino"]}, "quantize=int8 needs format=onnx"),
        ({"format": "tflite"}, "format=tflite is none of onnx, openvino, torch"),
        ({"format": []}, "names no format"),
        ({"out": "net.onnx", "format": "torch"}, "out=net.onnx: format=torch writes .pt2"),
        ({"out": "net.onnx", "format": ["onnx", "torch"]}, "writes .onnx and .pt2"),
        ({"calibration_photos": 7}, "calibration_photos= has an effect with quantize=int8 alone"),
        ({"threads": 1}, "threads= has an effect with benchmark=true alone"),
        ({"data": {"root": "x"}}, "data= has an effect with quantize=int8 or benchmark=true"),
    ],
)
def test_what_has_no_effect_is_refused(words: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        ExportConfig(ckpt="x", **words)


def test_a_missing_package_is_told(best: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'toyfcn[openvino]'")):
        run_command(ExportConfig(ckpt=str(best), format="openvino"))


def test_the_benchmark_tells_the_faster_and_the_better_one(
    tiny_voc: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    data = SegmentationData.open(VOCConfig(root=str(tiny_voc), test_split=None))
    masks = {
        data.source.image(n).numpy().tobytes(): data.source.mask(n) for n in data.split_ids("val")
    }

    def truth(given: Inputs) -> NDArray[np.uint8]:
        time.sleep(0.03)
        mask = masks[given["photo"].tobytes()].numpy()[None]
        return np.where(mask == 255, 0, mask)

    def background(given: Inputs) -> NDArray[np.float32]:
        time.sleep(0.01)
        scores = np.zeros((1, 21, 5, 5), np.float32)  # to be enlarged
        scores[:, 0] = 1
        return scores

    benchmark([Candidate("a", 2, truth), Candidate("b", 1, background)], data, False, 1)
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "." in line]
    (name, size, rate, ratio, miou), other = ([cell.strip() for cell in row] for row in rows)
    assert (name, size, ratio, miou) == ("a", "2.0", "1.00", "1.0000")
    assert 20 < float(rate) < 34
    assert other[:2] == ["b", "1.0"] and 2 < float(other[3]) < 3.5
    background_share = [
        (np.asarray(m) == 0).sum() / (np.asarray(m) < 255).sum() for m in masks.values()
    ]
    assert 0 < float(other[4]) < max(background_share)


class Plain(torch.nn.Sequential):
    """A network of one's own."""

    def __init__(self, classes: int) -> None:
        first, last = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, classes, 1)
        super().__init__(first, torch.nn.ReLU(), last)


MODELS: dict[str, list[dict[str, Any]]] = {
    "fcn_lenet": [{"stride": 2}, {"pool": "avg", "activation": "tanh", "norm": "none"}],
    "fcn_vgg16": [{"stride": stride, "width": 0.05} for stride in (32, 8)],
    "fcn_timm": [{"backbone": "test_resnet", "stride": stride} for stride in (32, 16, 8, 4)],
    "fcn_torchvision": [{"backbone": name, "stride": 8} for name in ("alexnet", "googlenet")],
    "unet": [{"stride": 1}],
    "custom": [{"stride": 1, "target": "test_export:Plain"}],
}
EACH = [(path.stem, n) for path in (CONF / "model").glob("*.yaml") for n in MODELS[path.stem]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), EACH)
def test_every_network_is_exported(
    tiny_voc: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    pytest.importorskip("onnxruntime", reason="needs toyfcn[export]")
    model = ModelConfig(name=name, short_side=64, **options)
    path, out = untrained(model, tiny_voc), str(tmp_path / "net.onnx")
    run_command(ExportConfig(str(path), out=out, output="labels", trust=["test_export"]))
    run, predictor = opened_onnx(Path(out), 1), toyfcn.load(path, trust=["test_export"])
    for size in ((100, 150), (77, 64)):
        photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        wanted = predictor.predict(photo.permute(1, 2, 0).numpy())
        assert len(np.unique(wanted)) > 1
        assert (run(seen(photo, 64, True))[0] == wanted).mean() > 0.999


@pytest.mark.slow
def test_every_format_gives_the_labels_of_predict(best: Path, command: Command) -> None:
    pytest.importorskip("onnxruntime", reason="needs toyfcn[export]")
    onnx = pytest.importorskip("onnx", reason="needs toyfcn[export]")
    names = ["onnx", "torch"]
    if importlib.util.find_spec("openvino"):  # not of the development extra
        names.append("openvino")
    words = ["output=labels", f"format=[{','.join(names)}]", "quantize=int8", "out=net"]
    answer = command("export", str(best), *words, "benchmark=true", "threads=1")
    assert answer.code == 0, answer.err
    runs = {"onnx": opened_onnx(Path("net.onnx"), 1), "torch": in_plain_torch}
    if "openvino" in names:
        runs["openvino"] = opened_openvino(Path("net.xml"), 1)
    runs["int8"] = opened_onnx(Path("net_int8.onnx"), 1)
    predictor = toyfcn.load(best)
    for size in ((100, 150), (77, 64)):
        photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        wanted = predictor.predict(photo.permute(1, 2, 0).numpy())
        for name, run in runs.items():
            got = run(seen(photo, 32, True))
            assert got.dtype == np.uint8 and got.shape == (1, *size)
            assert (got[0] == wanted).mean() > (0.9 if name == "int8" else 0.999), name
    small = onnx.load("net_int8.onnx")
    assert {w.data_type for w in small.graph.initializer} >= {onnx.TensorProto.INT8}
    assert "classes" in {fact.key for fact in small.metadata_props}
    table = [line.split("|") for line in answer.out.splitlines() if line.startswith("| ")][1:]
    rows = ["PyTorch, float32", *(f"{name}, float32" for name in names), "onnx, int8"]
    rows += ["onnx, int8, in openvino"] * ("openvino" in names)
    assert [row[1].strip() for row in table] == rows
    figures = toyfcn.evaluate(best, split="val")
    for row in table[: 1 + len(names)]:
        assert abs(float(row[5]) - figures["miou"]) < 1e-3


PLAIN = """
import json, sys, numpy, torch
facts = {"toyfcn.json": ""}
net = torch.export.load("net.pt2", extra_files=facts).module()
given = numpy.load("given.npz")
numpy.save("got.npy", net(*(torch.from_numpy(given[name]) for name in ("photo", "size"))).numpy())
assert json.loads(json.loads(facts["toyfcn.json"])["classes"])[15] == "person"
assert "toyfcn" not in sys.modules
"""


def in_plain_torch(given: Inputs) -> NDArray[np.uint8]:
    """Run net.pt2 in a process that does not know toyfcn."""
    np.savez("given.npz", **given)
    subprocess.run([sys.executable, "-I", "-c", PLAIN], check=True)
    return np.load("got.npy")
