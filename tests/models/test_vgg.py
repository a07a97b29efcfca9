"""FCN-VGG16 against a plain dense implementation in the Caffe release's manner, written here."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from toyfcn.config.model import STRIDES, ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.kernels.upsampled_loss import Upsampling, upsampled_cross_entropy

VARIANTS = [(32, False), (16, False), (8, False), (16, True), (8, True)]


def net(classes=5, width=0.03, **options):
    torch.manual_seed(0)
    options = {"name": "fcn_vgg16", "norm": "none", **options}
    return build_network(ModelConfig(width=width, **options), classes).eval()


def randomized(classes=5, **options):
    """A network without zero weights, whose deconvolutions are not bilinear."""
    model = net(classes, **options)
    for name, parameter in model.named_parameters():
        if "heads" in name or "bias" in name:
            torch.nn.init.normal_(parameter)
        if "ups" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def reference(model, photo, stride, at_once):
    """FCN-32s/16s/8s as in the prototxts: padding 100, ceil pools, dense and uncropped
    deconvolutions, crops by the published numbers.
    """
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    mean, std = weights["normalize.mean"], weights["normalize.std"]

    def conv(x, name, padding):
        return F.conv2d(x, weights[name + ".weight"], weights[name + ".bias"], padding=padding)

    def dense(name):
        given = weights[name + ".weight"]
        if given.shape[1] != 1:
            return given
        kernel = torch.zeros(len(given), *given.shape[:1], *given.shape[2:], dtype=given.dtype)
        for channel in range(len(given)):
            kernel[channel, channel] = given[channel, 0]
        return kernel

    def cut(x, like, offset):
        return x[..., offset : offset + like.shape[2], offset : offset + like.shape[3]]

    x, pools, padding = (photo - mean) / std, {}, 100
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for layer in range(1, count + 1):
            x, padding = F.relu(conv(x, f"trunk.conv{block}_{layer}", padding)), 1
        x = pools[block] = F.max_pool2d(x, 2, 2, ceil_mode=True)
    x = F.relu(conv(F.relu(conv(x, "trunk.fc6", 0)), "trunk.fc7", 0))
    score = conv(x, "heads.0", 0)
    if stride == 32:
        return cut(F.conv_transpose2d(score, dense("ups.0"), stride=32), photo, 19)
    up = F.conv_transpose2d(score, dense("ups.0"), stride=2)
    score = up + cut(conv(pools[4] * (0.01 if at_once else 1), "heads.1", 0), up, 5)
    if stride == 16:
        return cut(F.conv_transpose2d(score, dense("ups.1"), stride=16), photo, 27)
    up = F.conv_transpose2d(score, dense("ups.1"), stride=2)
    score = up + cut(conv(pools[3] * (0.0001 if at_once else 1), "heads.2", 0), up, 9)
    return cut(F.conv_transpose2d(score, dense("ups.2"), stride=8), photo, 31)


def distance(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("upsample", ["channel", "dense"])
@pytest.mark.parametrize(("stride", "at_once"), VARIANTS)
def test_paper_geometry_equals_the_dense_reference(stride, at_once, upsample):
    model = randomized(stride=stride, at_once=at_once, geometry="paper", upsample=upsample)
    with torch.no_grad():
        for height, width in ((1, 1), (37, 83), (97, 61)):
            photo = torch.rand(1, 3, height, width) * 255
            expected = reference(model, photo, stride, at_once)
            assert expected.shape == (1, 5, height, width)
            assert distance(model(photo), expected) < 1e-4
        model, photo = model.double(), photo.double()
        assert distance(model(photo), reference(model, photo, stride, at_once)) < 1e-9


@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize(("stride", "at_once"), VARIANTS)
def test_the_loss_in_one_pass_equals_that_of_the_full_scores(stride, at_once, geometry):
    model = randomized(stride=stride, at_once=at_once, geometry=geometry).double()
    photo, target = torch.rand(1, 3, 37, 51).double() * 255, torch.randint(0, 5, (1, 37, 51))
    weights = torch.ones(5).double()
    total, _ = upsampled_cross_entropy(
        Upsampling(model.score_map(photo), model.ups[-1], target.byte(), weights, 255, model.offset)
    )
    plain = F.cross_entropy(model(photo), target, reduction="sum")
    torch.testing.assert_close(total, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize("options", [{"norm": "batch"}, {"norm": "none"}])
@pytest.mark.parametrize(("stride", "at_once"), VARIANTS)
def test_first_loss_is_ln_of_the_classes(stride, at_once, options, geometry):
    model = net(21, stride=stride, at_once=at_once, geometry=geometry, **options).train()
    target = torch.randint(0, 21, (2, 40, 56))
    loss = F.cross_entropy(model(torch.rand(2, 3, 40, 56) * 255), target)
    assert loss.item() == pytest.approx(math.log(21), abs=1e-6)


ALL = [
    {"name": "fcn_lenet", "stride": 4},
    {"name": "fcn_lenet", "stride": 2},
    *({"name": "fcn_vgg16", "norm": "none", "stride": stride} for stride in (32, 16, 8)),
]


@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize("options", ALL)
def test_sizes_on_meta_tensors(options, geometry):
    with torch.device("meta"), torch.no_grad():
        model = build_network(ModelConfig(**options, geometry=geometry), 3).eval()
        for height in range(1, 98, 4):
            width = 1 + 37 * height % 97
            assert model(torch.empty(1, 3, height, width)).shape == (1, 3, height, width)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize("name", ["fcn_lenet", "fcn_vgg16"])
def test_all_sizes_to_97_squared_on_meta_tensors(name, geometry):
    with torch.device("meta"), torch.no_grad():
        models = [
            build_network(ModelConfig(name, stride, norm="none", geometry=geometry), 3).eval()
            for stride in STRIDES[name]
        ]
        backbone = models[0].backbone
        for height, width in itertools.product(range(1, 98), repeat=2):
            photo = torch.empty(1, 3, height, width)
            features = backbone(photo)  # once for all strides
            for model in models:
                model.backbone.forward = lambda _, found=features: found
                assert model(photo).shape == (1, 3, height, width)
            del backbone.forward


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize("options", ALL)
def test_real_sizes_come_out_as_they_went_in(options, geometry):
    torch.manual_seed(0)
    model = build_network(ModelConfig(**options, width=0.03, geometry=geometry), 3).eval()
    for head in model.heads:
        nn.init.normal_(head.weight)
    sizes = [(1, 1), (1, 97), (97, 1), (33, 32), *torch.randint(1, 98, (16, 2)).tolist()]
    with torch.no_grad():
        for height, width in sizes:
            scores = model(torch.rand(1, 3, height, width) * 255)
            assert scores.shape == (1, 3, height, width)
            assert scores.isfinite().all()


def test_fixed_and_learned_deconvolutions():
    def learns(**options):
        return [up.weight.requires_grad for up in net(stride=8, **options).ups]

    assert learns() == [True, True, True]
    assert learns(last_learned=False) == [True, True, False]  # the paper
    assert learns(upsample_learned=False) == [False, False, False]  # the release


def test_dropout_is_elementwise_and_only_after_fc6_and_fc7():
    drops = {name: m for name, m in net(stride=8).named_modules() if "dropout" in name}
    assert list(drops) == ["trunk.fc6_dropout", "trunk.fc7_dropout"]
    assert {(type(module), module.p) for module in drops.values()} == {(nn.Dropout, 0.5)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "fcn_vgg16", "stride": 4}, "model.stride=4 must be one of 32, 16, 8"),
        ({"stride": 8}, "model.stride=8 must be one of 4, 2"),
        ({"name": "fcn_vgg16", "stride": 8, "pool": "avg"}, "model.pool=avg is not an option of"),
        ({"at_once": True}, "model.at_once=True is not an option of model=fcn_lenet"),
        ({"name": "fcn_vgg16", "stride": 32, "at_once": True}, "needs skips"),
        ({"last_learned": True, "upsample_learned": False}, "contradicts"),
        ({"name": "fcn_vgg16", "stride": 32, "weights": "imagenet"}, "needs model.norm=none"),
    ],
)
def test_options_that_do_not_go_together(options, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig(**options)
