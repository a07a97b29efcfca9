"""Where the cells of a network's maps lie, followed through every operation it performs.

The operations are followed as they run, not the modules as they are listed: so branches and
padding at run time (TensorFlow's 'same') come out right.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from toyfcn.models.geometry import Grid, Layer

aten = torch.ops.aten
SMALL = 1_000_000  # weights


class GridTracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """While it is entered, tells the grid of each tensor that is computed from ``image``.

    Convolutions, pools, padding and slices change it, along the width (networks treat the height
    alike); all else keeps it. Where branches meet, receptive fields unite, and the cell is at the
    center of the union; what depends on the whole photo (squeeze and excitation) moves no cell.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.grids: MutableMapping[Tensor, Grid] = WeakIdKeyDictionary()
        self.grids[image] = Grid()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Never compiled, so PyTorch need not import its compiler, which takes a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and note the grid of what it returns."""
        made = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
        given = [self.grids[x] for x in tensors if x in self.grids]
        if given:
            grid = united(given)
            if layer := layer_of(func, args):
                grid = grid.through(layer)
            for output in tree_leaves(made):
                if isinstance(output, Tensor):
                    self.grids[output] = grid
        return made


def layer_of(func: Any, args: Sequence[Any]) -> Layer | None:
    """Return the geometry of an operation with its arguments; None: it moves no cells."""
    if func is aten.convolution.default:
        stride, padding, dilation, transposed = (numbers[-1] for numbers in (*args[3:6], [args[6]]))
        kernel = (args[1].shape[-1] - 1) * dilation + 1
        return Layer("deconv" if transposed else "conv", kernel, stride, padding)
    if func in (aten.max_pool2d_with_indices.default, aten.avg_pool2d.default):
        kernel = args[1][-1]
        stride = args[2][-1] if len(args) > 2 and args[2] else kernel
        return Layer("pool", kernel, stride, args[3][-1] if len(args) > 3 else 0)
    if func is aten.constant_pad_nd.default:
        return Layer("conv", 1, padding=args[1][0])
    if func is aten.slice.Tensor and args[1] in (-1, args[0].ndim - 1) and args[0].ndim == 4:
        first = (args[2] if len(args) > 2 else 0) or 0
        if first > 0:  # counted from the end, it cuts heads of an attention apart
            return Layer("conv", 1, args[4] if len(args) > 4 else 1, -first)
    return None


def united(grids: Sequence[Grid]) -> Grid:
    """Return the grid of a sum or concatenation of maps.

    Raises:
        ValueError: their strides differ.
    """
    if len({grid.stride for grid in grids}) > 1:
        raise ValueError("maps of different strides meet")
    first = min(grid.start - grid.field / 2 for grid in grids)
    last = max(grid.start + grid.field / 2 for grid in grids)
    return replace(grids[0], start=(first + last) / 2, field=last - first)


def trace(
    network: nn.Module, side: int, channels: int
) -> tuple[list[Tensor], list[Grid], dict[nn.Module, Grid]]:
    """Run a network on a normalized photo (1, channels, side, side).

    A large one runs on the meta device, without computing anything; PyTorch needs a second to
    prepare for that, more than a small one takes.

    Returns the feature maps and their grids, and the grid behind each of its
    modules that has weights or moves cells, in order of use.
    """
    weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    small = sum(weight.numel() for weight in weights.values()) <= SMALL
    on_meta = any(weight.is_meta for weight in weights.values())  # a network without values
    device = "cpu" if small and not on_meta else "meta"
    photo = torch.zeros(1, channels, side, side, device=device)
    modules: dict[nn.Module, Grid] = {}
    tracer = GridTracer(photo)

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        grid, before = (tracer.grids.get(x, Grid()) for x in (output, inputs[0]))
        if grid != before or list(module.parameters(recurse=False)):
            modules[module] = grid

    parts = [part for part in network.modules() if part is not network]
    hooks = [part.register_forward_hook(note) for part in parts if has_weights_or_is_leaf(part)]
    modes = {part: part.training for part in network.modules()}
    try:
        with torch.no_grad(), tracer:
            moved = {name: value.to(device) for name, value in weights.items()}
            features = torch.func.functional_call(network.eval(), moved, photo)
    finally:
        for part, training in modes.items():
            part.training = training
        for hook in hooks:
            hook.remove()
    return features, [tracer.grids[feature] for feature in features], modules


def has_weights_or_is_leaf(module: nn.Module) -> bool:
    """Whether a module does something itself, rather than only hold others."""
    return bool(list(module.parameters(recurse=False))) or not list(module.children())
