"""The coordinates against the paper's figures and the network's own gradients."""

from fractions import Fraction

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.geometry import Grid, Layer, chain, crop_offset
from toyfcn.models.summary import layers


def made(classes=21, device="meta", **options):
    with torch.device(device):
        return build_network(ModelConfig(**options), classes)


VGG = {"name": "fcn_vgg16", "norm": "none"}


@pytest.mark.parametrize(
    ("stride", "at_once", "offsets"),
    [
        (32, False, [19]),
        (16, False, [5, 27]),
        (8, False, [5, 9, 31]),
        (16, True, [5, 27]),
        (8, True, [5, 9, 31]),
    ],
)
def test_offsets_of_the_release(stride, at_once, offsets):
    """As in the crop layers of the published prototxts."""
    net = made(**VGG, stride=stride, at_once=at_once, geometry="paper", width=0.05)
    assert net.offsets == offsets
    assert net.offset == offsets[-1]


def test_offset_of_fcn_alexnet():
    """The release's voc-fcn-alexnet: padding 100, deconvolution 63/32, crop 18."""
    conv, pool = Layer("conv", 3, padding=1), Layer("pool", 3, 2)
    alexnet = [Layer("conv", 11, 4, 100), pool, Layer("conv", 5, padding=2), pool, conv, conv, conv]
    up = [*alexnet, pool, Layer("conv", 6), Layer("conv", 1), Layer("deconv", 63, 32)]
    assert crop_offset(chain(up), onto=Grid()) == 18


@pytest.mark.parametrize(
    "options",
    [{"stride": 4}, {"stride": 2}, *({**VGG, "stride": stride} for stride in (32, 16, 8))],
)
def test_every_offset_is_0_in_same_geometry(options):
    assert set(made(**options).offsets) == {0}


@pytest.mark.parametrize(("stride", "offsets"), [(4, [88]), (2, [5, 89])])
def test_offsets_of_a_padded_lenet_by_hand(stride, offsets):
    """C1 starts at 2 - 100; S2 0.5 later, at -97.5; C3 4, S4 1 and C5 8 later: F6 at -84.5.

    8/4 starts 3.5 pixels earlier, at -88. 4/2 starts 3 earlier, at -87.5, where cell 5 of S2 is;
    the second 4/2 starts 1.5 earlier again, at -89.
    """
    assert made(stride=stride, geometry="paper").offsets == offsets


def test_maps_that_no_crop_aligns():
    with pytest.raises(ValueError, match="1/2 cells apart"):
        crop_offset(Grid(), onto=Grid(start=Fraction(1, 2)))
    with pytest.raises(ValueError, match="strides 1 and 2"):
        crop_offset(Grid(), onto=Grid(stride=Fraction(2)))


@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize("feature", [0, 1])
def test_receptive_fields_equal_those_of_the_gradient(geometry, feature):
    """With averages and positive weights every pixel of the receptive field has a gradient."""
    net = made(3, "cpu", norm="none", pool="avg", activation="relu", geometry=geometry)
    for parameter in net.backbone.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    grid = net.backbone.grids()[feature]
    photo = torch.ones(1, 3, 96, 96, requires_grad=True)
    cell = round((48 - grid.start) / grid.stride)
    net.backbone(photo)[feature][0, 0, cell, cell].backward()
    seen = photo.grad[0].sum(0).nonzero()
    center = grid.stride * cell + grid.start
    assert seen.min(0).values.tolist() == [center - (grid.field - 1) / 2] * 2
    assert seen.max(0).values.tolist() == [center + (grid.field - 1) / 2] * 2


def test_receptive_fields_of_vgg():
    """Known figures: pool5 212, fc7 404."""
    rows = {row.name: row for row in layers(made(**VGG, stride=8), (375, 500))}
    fields = [rows[f"trunk.{name}"].grid.field for name in ("pool3", "pool4", "pool5", "fc7")]
    assert fields == [44, 100, 212, 404]


@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 4, "norm": "none"},
        {"stride": 2, "upsample": "dense"},
        {**VGG, "stride": 32},
        {**VGG, "stride": 8, "norm": "batch", "width": 0.25},
    ],
)
def test_the_table_counts_every_parameter_and_every_flop(options, geometry):
    net, size = made(**options, geometry=geometry), (75, 101)
    rows = layers(net, size)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in net.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert net(torch.zeros(1, 3, *size, device="meta")).shape[-2:] == size
    assert 2 * sum(row.cost for row in rows) == counter.get_total_flops()


def test_the_classic_and_the_cost_of_padding_100():
    rows = layers(made(norm="none", activation="tanh"), (375, 500))
    assert sum(row.parameters for row in rows if row.name[:3] != "ups") == 62_941
    cost = {}
    for geometry in ("same", "paper"):
        net = made(**VGG, stride=32, geometry=geometry)
        cost[geometry] = [row.cost for row in layers(net, (500, 375)) if "conv" in row.name]
    assert sum(cost["paper"]) / sum(cost["same"]) == pytest.approx(2.13, abs=0.005)
    rows = layers(net, (500, 375))
    assert sum(row.parameters for row in rows if "fc" in row.name) == 102_764_544 + 16_781_312
