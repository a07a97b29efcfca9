"""How a network becomes a file of each format, and how that file is run on a CPU."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes
from torch.fx.experimental import _config as symbolic_config

from toyfcn.data.resizing import resize_image, working_size

Inputs = dict[str, NDArray[Any]]  # photo, uint8 (B, C, H, W); size, int64 [height, width]
Run = Callable[[Inputs], NDArray[Any]]
# Without the activations, they would be computed in float between two conversions.
QUANTIZED = ("Conv", "Add", "Clip", "Relu", "MaxPool")
Examples = dict[str, tuple[Tensor, dict[int, Any]]]  # of each input, and its free axes


def examples(sized: bool, channels: int) -> Examples:
    """Return inputs to trace with; ``sized`` networks take the size of their labels too.

    Photos have so many ``channels``.
    """
    axes = {0: Dim("batch", min=1), 2: Dim("height", min=8), 3: Dim("width", min=8)}
    found: Examples = {"photo": (torch.zeros(2, channels, 96, 128, dtype=torch.uint8), axes)}
    if sized:
        found["size"] = (torch.tensor([120, 160]), {})
    return found


def seen(photo: Tensor, short_side: int | None, sized: bool) -> Inputs:
    """Return the inputs of an exported network for a photo, uint8 (C, H, W)."""
    size = (photo.shape[1], photo.shape[2])
    given: Inputs = {"photo": resize_image(photo, working_size(size, short_side))[None].numpy()}
    if sized:
        given["size"] = np.array(size)
    return given


def write_onnx(
    net: nn.Module, given: Examples, output: str, facts: dict[str, str], out: Path
) -> None:
    """Write a network as ONNX with ``facts`` as its metadata; ``output`` names the result."""
    import onnx  # of the extra toyfcn[export]

    for name in ("onnxscript", "onnx_ir", "torch.onnx"):  # the exporter's own affairs
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            tuple(example for example, _ in given.values()),
            dynamo=True,
            input_names=list(given),
            output_names=[output],
            dynamic_shapes=tuple(free for _, free in given.values()),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto  # made anew each time
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(out))


def captured(net: nn.Module, given: Examples) -> ExportedProgram:
    """Trace a network with torch.export, for photos of any size that torch can promise."""
    inputs = tuple(example for example, _ in given.values())
    shapes: Any = tuple(free for _, free in given.values())

    def trace() -> ExportedProgram:
        return torch.export.export(
            net,
            inputs,
            dynamic_shapes=shapes,
            prefer_deferred_runtime_asserts_over_guards=True,  # strides may be of any layout
        )

    patched = symbolic_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with warnings.catch_warnings(), patched:  # which does not take a batch of 1 for a special case
        warnings.simplefilter("ignore")
        try:
            return trace()
        except torch._dynamo.exc.UserError as error:  # a map of one cell, of which torch warns
            shapes = refine_dynamic_shapes_from_suggested_fixes(error.msg, shapes)
            return trace()


def smallest_side(program: ExportedProgram) -> int:
    """Return the least height and width, in pixels, of photos that a traced network takes."""
    photo = next(
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.meta["val"].dtype == torch.uint8
    )
    return max(int(program.range_constraints[side.node.expr].lower) for side in photo.shape[2:])


def write_torch(program: ExportedProgram, facts: dict[str, str], out: Path) -> None:
    """Write a traced network as .pt2, with ``facts`` as the further file toyfcn.json in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, out, extra_files={"toyfcn.json": json.dumps(facts)})


def write_openvino(
    program: ExportedProgram, names: Sequence[str], output: str, facts: dict[str, str], out: Path
) -> None:
    """Write a traced network as .xml and .bin, float32; ``facts`` are rt_info under toyfcn."""
    import openvino  # of the extra toyfcn[openvino]

    model = openvino.convert_model(program)
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    model.output(0).get_tensor().set_names({output})
    for key, value in facts.items():
        model.set_rt_info(value, ["toyfcn", key])
    openvino.save_model(model, out, compress_to_fp16=False)


def write_int8(path: Path, calibration: Sequence[Inputs], facts: dict[str, str], out: Path) -> None:
    """Quantize an ONNX file after training: weights by channel, activations by what occurs.

    Ranges are the least and the highest values on the photos of ``calibration``. Upsampling, argmax
    and all that moves pixels stays in float.
    """
    import onnx  # of the extra toyfcn[export]
    from onnxruntime import quantization

    class Photos(quantization.CalibrationDataReader):
        photos = iter(calibration)

        def get_next(self) -> Inputs | None:
            return next(self.photos, None)

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice to fold batch norms first, which the exporter did
    try:
        quantization.quantize_static(
            path,
            out,
            Photos(),
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    finally:
        logging.disable(before)
    model = onnx.load(str(out))
    onnx.helper.set_model_props(model, facts)  # which were lost
    onnx.save(model, str(out))


def opened_onnx(path: Path, threads: int) -> Run:
    """Return what runs an ONNX file in onnxruntime."""
    import onnxruntime  # of the extra toyfcn[export]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda given: np.asarray(session.run(None, given)[0])


def opened_openvino(path: Path, threads: int) -> Run:
    """Return what runs an OpenVINO file, floats as float32: some CPUs would take bfloat16."""
    import openvino

    config = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,  # pinned, they wait for a core that others may hold
    }
    model = openvino.Core().compile_model(path, "CPU", config)
    return lambda given: np.asarray(model(given)[0])


def opened_torch(path: Path, threads: int) -> Run:
    """Return what runs a .pt2 file in PyTorch, whose threads are those of the process."""
    return runner(torch.export.load(path).module())


def runner(net: nn.Module) -> Run:
    """Return what runs a network in PyTorch."""

    @torch.inference_mode()
    def run(given: Inputs) -> NDArray[Any]:
        found: Tensor = net(*map(torch.from_numpy, given.values()))
        return found.numpy()

    return run


OPENED: dict[str, Callable[[Path, int], Run]] = {
    "onnx": opened_onnx,
    "openvino": opened_openvino,
    "torch": opened_torch,
}
