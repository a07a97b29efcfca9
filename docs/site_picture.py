"""A network as a picture, drawn from the model itself: layers by stride, skips, deconvolutions.

The network is built on the meta device (no weights are made), and describe.py says what its layers
return and where their cells lie. Rows are strides: the trunk goes down on the left, scores come up
on the right, and skips cross between. Colours are the page's: see assets/site.css.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.summary import Row, layers
from toyfcn.models.upsampling import Deconvolution

WIDE, HIGH = 84, 48  # of a box
LOW = 36  # high: a deconvolution's box
ACROSS, DOWN = 98, 104  # from box to box, from row to row
LEFT, TOP = 92, 40  # of the first box
SIZES = {"fcn_lenet": (96, 96), "fcn_vgg16": (375, 500)}  # of the photo


def figure(name: str, settings: Iterable[str] = ()) -> str:
    """Return the picture of a network as HTML, with settings such as ``stride=2``.

    Raises:
        ValueError: no such network or setting.
    """
    chosen = dict(setting.split("=") for setting in settings)
    stride, geometry = int(chosen.pop("stride")), chosen.pop("geometry", "same")
    if chosen:
        raise ValueError(f"picture: {', '.join(chosen)} cannot be set")
    config = ModelConfig(name=name, stride=stride, geometry=geometry)
    with torch.device("meta"):
        net = build_network(config, 21)
    if not isinstance(net, FCN):
        raise ValueError(f"picture: model={name} is no FCN, and only these are drawn")
    size = SIZES[name]
    drawing = svg(net, layers(net, size), size)
    title = f"model={name} model.stride={stride} model.geometry={geometry}"
    return (
        f'<figure class="network">\n{drawing}\n<figcaption><code>{title}</code>, 21 classes, a '
        f"photo of {size[0]}×{size[1]}. Each box: channels, and the receptive field in pixels of "
        "the photo.</figcaption>\n</figure>"
    )


def svg(net: FCN, rows: Sequence[Row], size: tuple[int, int]) -> str:
    """Draw a network whose layers return ``rows`` for a photo of ``size`` (height, width)."""
    drawn = [row for row in rows if not isinstance(net.get_submodule(row.name), nn.BatchNorm2d)]
    trunk = [row for row in drawn if row.name.startswith("trunk.")]
    heads = [row for row in drawn if row.name.startswith("heads.")]
    ups = [row for row in drawn if row.name.startswith("ups.")]
    strides = sorted({1} | {int(row.grid.stride) for row in trunk})
    line = {stride: TOP + number * DOWN for number, stride in enumerate(strides)}  # tops of rows
    beside = {s: [row for row in trunk if row.grid.stride == s] for s in strides}
    most = max(len(found) + (s == 1) for s, found in beside.items())
    scores = LEFT + most * ACROSS + 20  # left of the score layers
    rise = scores + ACROSS + WIDE // 2 + 16  # middle of the deconvolutions
    parts = []
    for stride in strides:
        cells = [row.shape for row in beside[stride]] or [(3, *size)]
        y = line[stride] + HIGH / 2
        parts += [
            text(8, y - 4, f"stride {stride}", "row"),
            text(8, y + 13, "×".join(map(str, cells[0][1:])), "small"),
        ]

    parts.append(box(LEFT, line[1], "photo", "3", "", "image"))
    place: dict[str, tuple[int, int]] = {}
    last = (LEFT, line[1])
    for row in trunk:
        stride = int(row.grid.stride)
        x = LEFT + (beside[stride].index(row) + (stride == 1)) * ACROSS
        here = place[row.name] = (x, line[stride])
        if here[1] == last[1]:
            parts.append(arrow(f"M{last[0] + WIDE} {here[1] + HIGH // 2}H{x}"))
        else:  # down to the next stride
            middle = here[1] - 20
            parts.append(
                arrow(f"M{last[0] + WIDE // 2} {last[1] + HIGH}V{middle}H{x + WIDE // 2}V{here[1]}")
            )
        kind = "pool" if isinstance(net.get_submodule(row.name), nn.MaxPool2d) else "conv"
        parts.append(box(x, here[1], title(row.name, kind), *facts(row), kind, kernel(net, row)))
        last = here

    for number, head in enumerate(heads):
        stride = int(head.grid.stride)
        y = line[stride]
        source = [row for row in trunk if row.grid.stride == stride]
        # the coarsest scores see the last layer, the others the end of a stage: a pool
        x = place[(source[-1] if number == 0 else source[0]).name][0]
        if number == 0:
            parts.append(arrow(f"M{x + WIDE} {y + HIGH // 2}H{scores}"))
            parts.append(
                arrow(
                    f"M{scores + WIDE} {y + HIGH // 2}H{rise}V{y + HIGH // 2 - 46 + LOW // 2}", "up"
                )
            )
        else:
            bend = y + HIGH + 14
            parts.append(
                arrow(f"M{x + WIDE // 2} {y + HIGH}V{bend}H{scores + WIDE // 2}V{y + HIGH}", "skip")
            )
            parts.append(arrow(f"M{scores + WIDE} {y + HIGH // 2}H{rise - 11}", "up"))
        cut = f"crop {head.crop}" if head.crop else "1×1"
        parts.append(box(scores, y, "score", f"{head.shape[0]} classes", cut, "head"))

    for number, up in enumerate(ups):
        stride = int(up.grid.stride)
        below = line[int(heads[number].grid.stride)]
        y = below + HIGH // 2 - 46 - LOW // 2
        module = net.get_submodule(up.name)
        assert isinstance(module, Deconvolution)
        goal = line[stride] + HIGH // 2
        cut = f", crop {up.crop}" if up.crop else ""
        if number:
            parts.append(arrow(f"M{rise} {below + HIGH // 2 - 11}V{y + LOW}", "up"))
        end = goal + 11 if stride > 1 else line[1] + HIGH
        parts.append(arrow(f"M{rise} {y}V{end}", "up"))
        if stride > 1:
            parts.append(
                f'<circle class="sum" cx="{rise}" cy="{goal}" r="11"/>'
                + text(rise, goal + 5, "+", "middle")
            )
        factor, side = module.stride, 2 * module.stride
        label = f"{side}×{side}{cut}"
        parts.append(box(rise - WIDE // 2, y, f"upsample ×{factor}", label, "", "up", high=LOW))
    parts.append(box(rise - WIDE // 2, line[1], "scores", "21 classes", "", "image"))

    width, height = rise + WIDE // 2 + 12, line[strides[-1]] + HIGH + 24
    name = html.escape(f"{type(net.backbone).__name__}: skips and deconvolutions")
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label='
        f'"{name}"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def title(name: str, kind: str) -> str:
    """Return a layer's name as the papers have it: conv1_1, or C1 and S2 of the block c1_s2."""
    block, _, inner = name.removeprefix("trunk.").partition(".")
    if not inner:
        return block
    return block.split("_")[-1 if kind == "pool" else 0].upper()


def facts(row: Row) -> tuple[str, str]:
    """Return a layer's channels and receptive field."""
    return f"{row.shape[0]}", f"field {float(row.grid.field):g}"


def kernel(net: FCN, row: Row) -> str:
    """Return a layer's kernel, as 5×5."""
    size = getattr(net.get_submodule(row.name), "kernel_size", 0)
    side = size[0] if isinstance(size, tuple) else size
    return f"{side}×{side}"


def box(
    x: int, y: int, head: str, second: str, third: str, kind: str, hint: str = "", high: int = HIGH
) -> str:
    """Draw a layer: its name, and one or two lines below."""
    middle = x + WIDE // 2
    second = f"{second} · {hint}" if hint else second
    lines = [
        text(middle, y + 15, head, "name middle"),
        text(middle, y + 29, second, "small middle"),
    ]
    if third:
        lines.append(text(middle, y + 42, third, "small middle"))
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{WIDE}" height="{high}" rx="6"/>'
        + "".join(lines)
    )


def text(x: float, y: float, words: str, kind: str) -> str:
    """Write a word or two."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{html.escape(words)}</text>'


def arrow(path: str, kind: str = "flow") -> str:
    """Draw a line with a tip."""
    return f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'
