"""Networks of timm as backbones: where their cells lie, and what an FCN makes of them."""

import sys
from fractions import Fraction

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from toyfcn.config.model import ModelConfig
from toyfcn.models.backbone import Backbone
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.geometry import Grid
from toyfcn.models.kernels.upsampled_loss import upsampled_cross_entropy, upsampled_labels
from toyfcn.models.losses import cross_entropy_sums, last_upsampling
from toyfcn.models.summary import layers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm: pip install 'toyfcn[backbones]'")


def fcn(backbone, stride=8, classes=3, **options):
    torch.manual_seed(0)
    config = ModelConfig(name="fcn_timm", backbone=backbone, stride=stride, **options)
    net = build_network(config, classes).eval()
    for head in net.heads:
        nn.init.normal_(head.weight, std=0.1)
    return net


class Coordinates(Backbone):
    """Feature maps that hold the column of each cell's center in the photo."""

    geometry, strides, channels = "same", (8, 16, 32), (1, 1, 1)

    def __init__(self, start):
        super().__init__()
        self.starts = [start(stride) for stride in self.strides]

    def grids(self):
        return [
            Grid(Fraction(stride), start)
            for stride, start in zip(self.strides, self.starts, strict=True)
        ]

    def forward(self, x):
        batch, _, height, width = x.shape
        maps = []
        for stride, start in zip(self.strides, self.starts, strict=True):
            columns = torch.arange(-(-width // stride), dtype=torch.float64) * stride + float(start)
            maps.append(columns.expand(batch, 1, -(-height // stride), -1))
        return maps


CENTERED, SYMMETRIC, TENSORFLOW = (
    lambda s: Fraction(s - 1, 2),
    lambda s: Fraction(0),
    lambda s: Fraction(s - 1),
)


@pytest.mark.parametrize("start", [CENTERED, SYMMETRIC, TENSORFLOW])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_upsampled_scores_lie_where_the_cells_lie(start, stride):
    """What interpolates the cells' own columns must give each pixel its column."""
    net = FCN(Coordinates(start), 1, stride).double()
    for head in net.heads:
        nn.init.constant_(head.weight, 1 / len(net.heads))  # a mean of the strides
    found = net(torch.zeros(1, 3, 96, 256, dtype=torch.float64))[0, 0]
    assert found.shape == (96, 256)
    inside = slice(96, 160)  # where no border is repeated
    torch.testing.assert_close(found[48, inside], torch.arange(256.0).double()[inside])


def test_cells_too_far_off_center_are_refused():
    with pytest.raises(ValueError, match="-43/2 pixels off center cannot be upsampled by 32"):
        FCN(Coordinates(lambda s: Fraction(37)), 1, 32)


STARTS = {
    "test_resnet": 0,
    "test_efficientnet": 0,
    "tf_efficientnet_lite0": 1,
    "convnext_atto": 0.5,
}


@pytest.mark.parametrize("name", STARTS)
def test_first_cells_by_hand(timm, name):
    """Symmetric padding: 0. TensorFlow's pads at the right alone: stride - 1. Patches: centered."""
    strides = [8, 16, 32]
    expected = [STARTS[name] * (stride - 1) for stride in strides]
    grids = fcn(name).backbone.grids()
    assert [(grid.stride, grid.start) for grid in grids] == list(
        zip(strides, expected, strict=True)
    )


@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0", "resnet10t"])
@pytest.mark.parametrize("feature", [0, 1])
def test_receptive_fields_equal_those_of_the_gradient(timm, name, feature):
    """With averages and positive weights every pixel of the receptive field has a gradient."""
    backbone = fcn(name).backbone.double()
    for parameter in backbone.parameters():
        nn.init.constant_(parameter, 0.01 if parameter.ndim > 1 else 0.5)
    if hasattr(backbone.network, "maxpool"):
        backbone.network.maxpool = nn.AvgPool2d(3, 2, 1)
    grid, side = backbone.grids()[feature], 448 if feature else 192
    photo = torch.ones(1, 3, side, side, requires_grad=True, dtype=torch.float64)
    cell = round((side / 2 - grid.start) / grid.stride)
    backbone(photo)[feature][0, 0, cell, cell].backward()
    seen = photo.grad[0].sum(0).nonzero()
    center = grid.stride * cell + grid.start
    assert seen.min(0).values.tolist() == [center - (grid.field - 1) / 2] * 2
    assert seen.max(0).values.tolist() == [center + (grid.field - 1) / 2] * 2


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("stride", [32, 16, 8, 4])
def test_features_are_those_of_timm(timm, name, stride):
    net = fcn(name, stride)
    strides = [s for s in (4, 8, 16, 32) if s >= stride]
    own = timm.create_model(name, features_only=True).eval()
    weights = net.backbone.network.state_dict()
    own.load_state_dict({key: weights[key] for key in own.state_dict()})
    whole = timm.create_model(name, num_classes=0).eval()
    whole.load_state_dict(weights)
    photo = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found, last = net.backbone(photo), whole.forward_features(photo)
        expected = [f for f in own(photo) if 64 // f.shape[2] in strides]
    assert list(net.backbone.strides) == strides
    assert net.backbone.channels == [f.shape[1] for f in found]
    for got, wanted in zip(found, [*expected[:-1], last], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    without = fcn(name, stride, conv_head=False).backbone
    assert without.channels == [f.shape[1] for f in expected]


@pytest.mark.parametrize("stride", [32, 8, 4])
@pytest.mark.parametrize("name", ["test_resnet", "tf_efficientnet_lite0"])
def test_the_fused_head_equals_the_plain_formulation(timm, name, stride):
    net = fcn(name, stride).train(False)
    photo = torch.randint(0, 256, (2, 3, 45, 70), dtype=torch.uint8)
    target = torch.randint(0, 3, (2, 45, 70), dtype=torch.uint8)
    target[:, :5] = 255
    weights, results = torch.ones(3), []
    for fused in (False, True):
        net.zero_grad()
        if fused:
            upsampling = last_upsampling(net, photo, target, weights, 255)
            total, count = upsampled_cross_entropy(upsampling)
        else:
            total, count = cross_entropy_sums(net(photo), target, weights, 255)
        (total / count).backward()
        results.append([total, count, *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(results[0]) > 20
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        labels, _, _ = upsampled_labels(last_upsampling(net, photo, target, weights, 255))
        assert (labels == net(photo).argmax(1)).float().mean() > 0.999


def test_photos_of_any_size_and_every_weight_learns(timm):
    net = fcn("mobilenetv3_small_050", 4).train()  # its last convolution comes behind the pool
    assert net(torch.zeros(2, 3, 45, 70)).shape == (2, 3, 45, 70)
    net(torch.rand(2, 3, 33, 1) * 255).sum().backward()
    learned = [p for p in net.parameters() if p.requires_grad]
    assert all(parameter.grad is not None for parameter in learned)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_the_table_counts_every_parameter_and_every_flop(timm, name):
    with torch.device("meta"):
        net, size = (
            build_network(ModelConfig(name="fcn_timm", backbone=name, stride=8), 5),
            (75, 101),
        )
    rows = layers(net, size)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in net.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert net(torch.zeros(1, 3, *size, device="meta")).shape[-2:] == size
    assert 2 * sum(row.cost for row in rows) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnt18", "is not a network of timm .*did you mean resnet18"),
        ("hf-hub:someone/net", "is not a network of timm"),
        ("resnet18.foo", "Invalid pretrained tag"),
        ("inception_v3", r"features of stride 8 are \[1, 288, 29, 29\] for a photo of 256x256"),
        ("hrnet_w18_small", "maps of different strides meet"),
        ("vit_tiny_patch16_224", "not up to 32"),
    ],
)
def test_networks_that_cannot_be_used(timm, name, words):
    with pytest.raises(ValueError, match=words):
        fcn(name)


def test_without_timm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'toyfcn\[backbones\]'"):
        fcn("resnet18")
