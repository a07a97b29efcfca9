"""toyfcn-model: a network layer by layer, without training or even making its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toyfcn.cli.launch import launch
from toyfcn.config.commands import DescribeConfig

if TYPE_CHECKING:
    from torch import nn

    from toyfcn.models.build import Network
    from toyfcn.models.geometry import Grid


def main() -> None:
    """Start the command."""
    launch("toyfcn-model", "describe", "toyfcn.commands.model:describe")


@dataclass(frozen=True)
class Row:
    """What is known of a layer: ``shape`` (C, H, W) of its output and the ``grid`` of its cells.

    ``crop``: cells cut from the top left where its output meets another; None where nothing does.
    ``cost`` counts multiply-adds for one photo.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid
    crop: int | None
    parameters: int
    cost: int


def describe(config: DescribeConfig) -> None:
    """Print the table of a network at a size."""
    import torch
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from toyfcn.models.build import build_network
    from toyfcn.models.fcn import FCN

    with torch.device("meta"):
        net = build_network(config.model, config.classes)
    model, (height, width) = config.model, config.size
    title = f"{model.name}, stride {model.stride}, geometry {model.geometry}, {height}x{width}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("layer", "output", "stride", "field", "first at", "crop", "weights", "Gmadd"):
        justify: Any = "left" if heading == "layer" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    rows = layers(net, (height, width))
    for row in rows:
        table.add_row(
            row.name.removeprefix("trunk."),
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
    note = (
        "stride, field (receptive field) and first at (centre of the first cell) in pixels of the "
        "photo; crop: cells cut at the top left; Gmadd: 10^9 multiply-adds, forward."
    )
    if isinstance(net, FCN):
        upsampling = sum(p.numel() for p in net.ups.parameters())
        note += f"\n{parameters - upsampling:,} parameters without the deconvolutions"
    console.print(note, highlight=False)


def layers(net: Network, size: tuple[int, int]) -> list[Row]:
    """Return a row for each layer with weights or a stride, in order of use.

    Sizes come from running the network on a photo (1, 3, *size) on its own device, which may be
    ``meta``; where cells lie comes from models/geometry.py.
    """
    import torch

    from toyfcn.models.fcn import FCN, layers_of
    from toyfcn.models.geometry import Grid, chain

    names = {module: name for name, module in net.named_modules()}
    features: list[Grid] = []
    grids: dict[nn.Module, Grid] = {}
    grid = Grid()
    for stage in net.trunk.stages():
        for module in (part for whole in stage for part in whole.modules()):
            if not list(module.children()):
                grid = grids[module] = chain(layers_of([module]), grid)
        features.append(grid)
    crops: dict[nn.Module, int] = {}
    grid = features[-1]
    coarsest_first = features[::-1]
    for head, feature in zip(net.heads, coarsest_first, strict=False):
        grids[head] = feature
    if isinstance(net, FCN):
        crops[net.ups[-1]] = net.offset
        for head, cells in zip(net.heads[1:], net.offsets, strict=False):
            crops[head] = cells
        for up in net.ups:
            grid = grids[up] = chain(layers_of([up]), grid)

    rows: list[Row] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        parameters = sum(p.numel() for p in module.parameters())
        if parameters or layers_of([module]):
            cost = multiply_adds(module, inputs[0].shape, output.shape)
            row = Row(names[module], tuple(output.shape[1:]), grids[module], crops.get(module),
                      parameters, cost)  # fmt: skip
            rows.append(row)

    hooks = [module.register_forward_hook(note) for module in grids]
    device = next(net.parameters()).device
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, *size, device=device))
    for hook in hooks:
        hook.remove()
    return rows


def multiply_adds(module: nn.Module, given: Any, made: Any) -> int:
    """Count the multiply-adds of a layer that maps a shape (1, C, h, w) to another.

    A convolution applies its weights once for each cell that it makes, a deconvolution once for
    each that it is given; norms and pools, small beside them, count as nothing.
    """
    from torch import nn

    from toyfcn.models.upsampling import Deconvolution

    if isinstance(module, nn.Conv2d):
        return module.weight.numel() * int(made[-2] * made[-1])
    if isinstance(module, Deconvolution):
        border = 2 if module.replicate else 0
        return module.weight.numel() * int((given[-2] + border) * (given[-1] + border))
    if isinstance(module, nn.ConvTranspose2d):
        return module.weight.numel() * int(given[-2] * given[-1])
    return 0
