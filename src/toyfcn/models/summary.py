"""A network layer by layer as a table: what `toyfcn-model` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from toyfcn.config.inference import DescribeConfig
from toyfcn.models.backbone import PROBE, channels_of
from toyfcn.models.build import Network, build_network
from toyfcn.models.custom import CustomNetwork
from toyfcn.models.fcn import FCN
from toyfcn.models.geometry import Grid
from toyfcn.models.grid_tracer import trace
from toyfcn.models.step_memory import step_memory
from toyfcn.models.upsampling import Deconvolution

HEADINGS = ("layer", "output", "stride", "field", "first at", "crop", "weights", "Gmadd")
NOTE = (
    "stride, field (receptive field) and first at (center of the first cell) in pixels of the "
    "photo; crop: cells cropped at the top left; Gmadd: 10^9 multiply-adds, forward."
)


@dataclass(frozen=True)
class Row:
    """A layer: ``shape`` (C, H, W) of its output and the ``grid`` of its cells.

    ``crop``: cells cropped from the top left before its output is added to another; None where
    nothing is added. ``cost``: multiply-adds for one photo.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid
    crop: int | None
    parameters: int
    cost: int


def describe(config: DescribeConfig) -> None:
    """Print the table of a network for photos of a size. No weights are made."""
    if config.model.name == "custom":
        raise ValueError("model=custom: toyfcn-model lists the layers of toyfcn's own networks")
    with torch.device("meta"):
        net = build_network(config.model, config.classes, config.channels)
    model, (height, width) = config.model, config.size
    name = f"{model.name} of {model.backbone}" if model.backbone else model.name
    title = f"{name}, stride {model.stride}, geometry {model.geometry}, {height}x{width}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        justify: Any = "left" if heading == "layer" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    rows = layers(net, (height, width))
    for row in rows:
        table.add_row(
            row.name.removeprefix("trunk.").removeprefix("network."),
            "x".join(map(str, row.shape)),
            f"{float(row.grid.stride):g}",
            f"{float(row.grid.field):g}",
            f"{float(row.grid.start):g}",
            "" if row.crop is None else str(row.crop),
            f"{row.parameters:,}",
            f"{row.cost / 1e9:,.2f}",
        )
    table.add_section()
    parameters, cost = sum(row.parameters for row in rows), sum(row.cost for row in rows)
    table.add_row("all", "", "", "", "", "", f"{parameters:,}", f"{cost / 1e9:,.2f}", style="bold")
    console = Console()
    console.print(table)
    note = NOTE
    if isinstance(net, FCN):
        upsampling = sum(p.numel() for p in net.ups.parameters())
        note += f"\n{parameters - upsampling:,} parameters without the deconvolutions"
    found = step_memory(net, config.classes, config.batch, (height, width))
    note += (
        f"\na training step of {config.batch} photos: about {megabytes(found.peak)} of memory at "
        f"its peak, {megabytes(found.weights)} of it weights and {megabytes(found.optimizer)} "
        f"AdamW's averages; {3 * config.batch * cost / 1e9:,.1f} Gmadd (backward: twice forward). "
        f"Float32 on a CPU, all weights learned; not counted: what libraries take for a layer."
    )
    console.print(note, highlight=False)


def megabytes(size: int) -> str:
    """Write a number of bytes."""
    return f"{size / 1e6:,.0f} MB"


def layers(net: Network, size: tuple[int, int]) -> list[Row]:
    """Return a row for each layer that has weights or moves cells, in order of use.

    Shapes come from running the network on a photo (1, C, *size) on its own device, which may be
    ``meta``; grids come from models/geometry.py.
    """
    names = {module: name for name, module in net.named_modules()}
    grids, crops = positions(net)
    rows: list[Row] = []

    def add_row(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        shape, cost = tuple(output.shape[1:]), multiply_adds(module, inputs[0], output)
        row = Row(names[module], shape, grids[module], crops.get(module), parameters, cost)
        rows.append(row)

    hooks = [module.register_forward_hook(add_row) for module in grids]
    device = next(net.parameters()).device
    with torch.no_grad():
        net.eval()(torch.zeros(1, channels_of(net), *size, device=device))
    for hook in hooks:
        hook.remove()
    return rows


def positions(net: Network) -> tuple[dict[nn.Module, Grid], dict[nn.Module, int]]:
    """Return the grid of each layer's output, and the crop of those that are added to another."""
    assert not isinstance(net, CustomNetwork)
    _, features, grids = trace(net.backbone, PROBE * max(net.backbone.strides), net.backbone.inputs)
    grids |= dict(zip(net.heads, features[::-1], strict=False))  # the coarsest head first
    crops: dict[nn.Module, int] = {}
    if isinstance(net, FCN):
        crops = dict(zip([*net.heads[1:], net.ups[-1]], net.offsets, strict=True))
        grid = features[-1]
        for up in net.ups:
            assert isinstance(up, Deconvolution)
            grid = grids[up] = grid.through(up.layer)
    return grids, crops


def multiply_adds(module: nn.Module, given: Any, made: Any) -> int:
    """Count the multiply-adds of a layer that maps a tensor (1, C, h, w) to another.

    A convolution applies its weights once for each output cell, a deconvolution once for each input
    cell; norms and pools, small beside them, are not counted.
    """
    if isinstance(module, nn.Conv2d):
        return module.weight.numel() * int(made.shape[-2] * made.shape[-1])
    if isinstance(module, Deconvolution):
        border = 2 if module.replicate else 0
        return module.weight.numel() * int((given.shape[-2] + border) * (given.shape[-1] + border))
    if isinstance(module, nn.ConvTranspose2d):
        return module.weight.numel() * int(given.shape[-2] * given.shape[-1])
    if isinstance(module, nn.Linear):
        return int(given.numel()) * module.out_features
    return 0
