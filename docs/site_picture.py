"""A network as a picture, drawn from the model itself: layers by stride, skips, deconvolutions.

The network is built on the meta device (no weights are made), and models/summary.py tells what its
layers return and where their cells lie. Rows are strides: the backbone goes down on the left,
scores come up on the right, and skips cross between. Colors are the page's: see assets/site.css.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import BatchNorm2d, MaxPool2d

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
        raise ValueError(f"picture: model={name} is not an FCN, and only these are drawn")
    size = SIZES[name]
    drawing = svg(net, layers(net, size), size)
    title = f"model={name} model.stride={stride} model.geometry={geometry}"
    return (
        f'<figure class="network">\n{drawing}\n<figcaption><code>{title}</code>, 21 classes, a '
        f"photo of {size[0]}×{size[1]}. Each box: channels, and the receptive field in pixels of "
        "the photo.</figcaption>\n</figure>"
    )


@dataclass(frozen=True)
class Layout:
    """Where things are drawn: ``tops`` of the rows by stride, and columns from left to right."""

    net: FCN
    backbone: list[Row]
    heads: list[Row]
    ups: list[Row]
    tops: dict[int, int]
    scores: int  # left of the score layers
    rise: int  # middle of the deconvolutions

    @classmethod
    def of(cls, net: FCN, rows: Sequence[Row]) -> Layout:
        """Lay out a network whose layers return ``rows``."""
        drawn = [row for row in rows if not isinstance(net.get_submodule(row.name), BatchNorm2d)]
        backbone, heads, ups = (
            [row for row in drawn if row.name.startswith(part)]
            for part in ("trunk.", "heads.", "ups.")
        )
        strides = sorted({1} | {int(row.grid.stride) for row in backbone})
        tops = {stride: TOP + number * DOWN for number, stride in enumerate(strides)}
        most = max(sum(row.grid.stride == s for row in backbone) + (s == 1) for s in strides)
        scores = LEFT + most * ACROSS + 20
        return cls(net, backbone, heads, ups, tops, scores, scores + ACROSS + WIDE // 2 + 16)

    def at(self, stride: int) -> list[Row]:
        """Return the backbone's layers whose output has a stride."""
        return [row for row in self.backbone if row.grid.stride == stride]

    def left(self, row: Row) -> int:
        """Return the left side of a layer of the backbone; at stride 1 the photo comes first."""
        stride = int(row.grid.stride)
        return LEFT + (self.at(stride).index(row) + (stride == 1)) * ACROSS


def svg(net: FCN, rows: Sequence[Row], size: tuple[int, int]) -> str:
    """Draw a network whose layers return ``rows`` for a photo of ``size`` (height, width)."""
    layout = Layout.of(net, rows)
    last = box(layout.rise - WIDE // 2, layout.tops[1], "scores", "21 classes", "", "image")
    parts = [
        *row_labels(layout, size),
        *draw_backbone(layout),
        *draw_heads(layout),
        *draw_upsampling(layout),
        last,
    ]
    width, height = layout.rise + WIDE // 2 + 12, max(layout.tops.values()) + HIGH + 24
    name = html.escape(f"{type(net.backbone).__name__}: skips and deconvolutions")
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label='
        f'"{name}"><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def row_labels(layout: Layout, size: tuple[int, int]) -> Iterator[str]:
    """Draw each row's stride, and the height and width of its maps."""
    for stride, top in layout.tops.items():
        shapes = [row.shape for row in layout.at(stride)] or [(3, *size)]
        y = top + HIGH / 2
        yield text(8, y - 4, f"stride {stride}", "row")
        yield text(8, y + 13, "×".join(map(str, shapes[0][1:])), "small")


def draw_backbone(layout: Layout) -> Iterator[str]:
    """Draw the photo and the backbone's layers, from row to row."""
    last = (LEFT, layout.tops[1])
    yield box(*last, "photo", "3", "", "image")
    for row in layout.backbone:
        x, y = layout.left(row), layout.tops[int(row.grid.stride)]
        if y == last[1]:
            yield arrow(f"M{last[0] + WIDE} {y + HIGH // 2}H{x}")
        else:  # down to the next stride
            start, middle = f"M{last[0] + WIDE // 2} {last[1] + HIGH}", y - 20
            yield arrow(f"{start}V{middle}H{x + WIDE // 2}V{y}")
        pool = isinstance(layout.net.get_submodule(row.name), MaxPool2d)
        kind = "pool" if pool else "conv"
        yield box(x, y, title(row.name, kind), *facts(row), kind, kernel(layout.net, row))
        last = (x, y)


def draw_heads(layout: Layout) -> Iterator[str]:
    """Draw the score layers, coarsest first, and the skips that lead to the finer ones."""
    scores, rise = layout.scores, layout.rise
    for number, head in enumerate(layout.heads):
        stride = int(head.grid.stride)
        y, source = layout.tops[stride], layout.at(stride)
        if number == 0:  # the coarsest scores see the last layer
            yield arrow(f"M{layout.left(source[-1]) + WIDE} {y + HIGH // 2}H{scores}")
            up = f"M{scores + WIDE} {y + HIGH // 2}H{rise}V{y + HIGH // 2 - 46 + LOW // 2}"
            yield arrow(up, "up")
        else:  # the others the end of a stage: a pool
            x, bend = layout.left(source[0]), y + HIGH + 14
            skip = f"M{x + WIDE // 2} {y + HIGH}V{bend}H{scores + WIDE // 2}V{y + HIGH}"
            yield arrow(skip, "skip")
            yield arrow(f"M{scores + WIDE} {y + HIGH // 2}H{rise - 11}", "up")
        crop = f"crop {head.crop}" if head.crop else "1×1"
        yield box(scores, y, "score", f"{head.shape[0]} classes", crop, "head")


def draw_upsampling(layout: Layout) -> Iterator[str]:
    """Draw the deconvolutions, and the sums that they lead to."""
    rise = layout.rise
    for number, (up, head) in enumerate(zip(layout.ups, layout.heads, strict=True)):
        stride, below = int(up.grid.stride), layout.tops[int(head.grid.stride)]
        y, goal = below + HIGH // 2 - 46 - LOW // 2, layout.tops[stride] + HIGH // 2
        if number:
            yield arrow(f"M{rise} {below + HIGH // 2 - 11}V{y + LOW}", "up")
        end = goal + 11 if stride > 1 else layout.tops[1] + HIGH
        yield arrow(f"M{rise} {y}V{end}", "up")
        if stride > 1:
            circle = f'<circle class="sum" cx="{rise}" cy="{goal}" r="11"/>'
            yield circle + text(rise, goal + 5, "+", "middle")
        module = layout.net.get_submodule(up.name)
        assert isinstance(module, Deconvolution)
        factor, side = module.stride, 2 * module.stride
        crop = f", crop {up.crop}" if up.crop else ""
        label = f"{side}×{side}{crop}"
        yield box(rise - WIDE // 2, y, f"upsample ×{factor}", label, "", "up", high=LOW)


def title(name: str, kind: str) -> str:
    """Return a layer's name as in its paper: conv1_1, or C1 and S2 of the block c1_s2."""
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
