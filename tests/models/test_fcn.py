"""FCN-LeNet against known figures: parameters, receptive field, sizes, the first loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network

CLASSIC = {"activation": "tanh", "norm": "none"}


def net(classes=21, **options):
    torch.manual_seed(0)
    return build_network(ModelConfig(**options), classes).eval()


def randomized(classes=5, **options):
    """A network whose score layers are not zero."""
    model = net(classes, **options)
    for head in model.heads:
        torch.nn.init.normal_(head.weight)
        torch.nn.init.normal_(head.bias)
    return model


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_classic():
    model = net(**CLASSIC)
    assert count(model) - count(model.ups) == 62_941
    layers = [count(getattr(model.backbone, name)) for name in ("c1_s2", "c3_s4", "c5", "f6")]
    assert layers == [456, 2_416, 48_120, 10_164]
    assert [count(head) for head in model.heads] == [1_785]
    assert count(model.ups) == 1_344


def test_parameters_of_the_skip():
    model = net(**CLASSIC, stride=2)
    assert [count(head) for head in model.heads] == [1_785, 147]
    assert [up.stride for up in model.ups] == [2, 2]
    assert count(model.ups) == 2 * 21 * 4 * 4


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(("upsample", "weights"), [("channel", 1_344), ("dense", 28_224)])
def test_upsampling_options_reach_the_deconvolution(upsample, weights, learned):
    model = net(upsample=upsample, upsample_learned=learned)
    assert count(model.ups) == weights
    assert all(p.requires_grad is learned for p in model.ups.parameters())
    assert all(p.requires_grad for p in model.heads.parameters())


def test_width_multiplies_channels():
    assert net(width=0.5, **CLASSIC).backbone.channels == (3, 42)
    assert net(width=2, **CLASSIC).backbone.channels == (12, 168)
    assert net(width=0.01)(torch.zeros(1, 3, 9, 9)).shape == (1, 21, 9, 9)


@pytest.mark.parametrize("cell", [(8, 8), (9, 12)])
def test_receptive_field_is_32(cell):
    """A score cell sees 32x32 pixels around its center at 4·index + 1.5, and nothing else."""
    model = randomized(pool="avg", **CLASSIC).double()  # an average depends on every pixel
    photo = torch.rand(1, 3, 80, 80, dtype=torch.float64, requires_grad=True)
    row, column = cell
    scores = model.heads[0](model.backbone(photo)[-1])
    assert scores.shape[-2:] == (20, 20)
    scores[0, 0, row, column].backward()
    seen = photo.grad[0].abs().sum(0).nonzero()
    assert len(seen) == 32 * 32
    assert seen.min(0).values.tolist() == [4 * row - 14, 4 * column - 14]
    assert seen.max(0).values.tolist() == [4 * row + 17, 4 * column + 17]


SIZES = [(1, 1), (1, 97), (97, 1), (2, 3), (5, 4), (31, 33), (64, 6), (97, 96)]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("stride", [4, 2])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_any_size_comes_out_as_it_went_in(stride, pool):
    model = randomized(stride=stride, pool=pool)
    generator = torch.Generator().manual_seed(stride)
    drawn = torch.randint(1, 98, (20, 2), generator=generator).tolist()
    with torch.no_grad():
        for height, width in [*SIZES, *map(tuple, drawn)]:
            scores = model(torch.rand(1, 3, height, width) * 255)
            assert scores.shape == (1, 5, height, width)
            assert scores.isfinite().all()


@pytest.mark.parametrize("stride", [4, 2])
@pytest.mark.parametrize("classes", [2, 21])
@pytest.mark.parametrize("mode", [True, False])
def test_first_loss_is_ln_of_the_classes(stride, classes, mode):
    model = net(classes, stride=stride).train(mode)
    target = torch.randint(0, classes, (2, 24, 20))
    loss = F.cross_entropy(model(torch.rand(2, 3, 24, 20) * 255), target)
    assert loss.item() == pytest.approx(math.log(classes), abs=1e-6)


def test_first_step_changes_the_scores_and_the_next_one_the_backbone():
    """Only the score layer starts at zero: after one step every weight has a gradient."""
    model = net(5).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    photo, target = torch.rand(2, 3, 32, 32) * 255, torch.randint(0, 5, (2, 32, 32))
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(photo), target).backward()
        optimizer.step()
    without_gradient = [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert without_gradient == []


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_stride_that_the_backbone_does_not_have(stride):
    with pytest.raises(ValueError, match=rf"model\.stride={stride}"):
        net(stride=stride)


def test_size_interpolates_the_scores():
    model, photo = randomized(), torch.rand(1, 3, 24, 32) * 255
    scores = model(photo)
    assert model(photo, (24, 32)).equal(scores)
    bigger = F.interpolate(scores, size=(50, 61), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(photo, (50, 61)), bigger)


def test_bytes_score_as_floats_do():
    model = randomized()
    photo = torch.randint(0, 256, (2, 3, 20, 20), dtype=torch.uint8)
    assert model(photo).equal(model(photo.float()))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_photo_scores_alike_alone_and_in_a_batch(norm):
    model, photos = randomized(norm=norm), torch.rand(4, 3, 20, 28) * 255
    alone = torch.cat([model(photo[None]) for photo in photos])
    torch.testing.assert_close(model(photos), alone, rtol=1e-4, atol=1e-4)


def test_maps_replace_lenets_own_channels() -> None:
    net = build_network(ModelConfig(maps=[2, 3, 4, 5], width=2, stride=2), 3)
    shapes = [tuple(p.shape[:2]) for n, p in net.named_parameters() if p.ndim == 4]
    assert shapes[:4] == [(4, 3), (6, 4), (8, 6), (10, 8)]
    assert {(3, 10), (3, 4)} <= set(shapes)  # the score layers
    with pytest.raises(ValueError, match="channels of C1, C3, C5 and F6"):
        ModelConfig(maps=[2, 3])
    with pytest.raises(ValueError, match=r"model.maps=.*not an option of model=fcn_vgg16"):
        ModelConfig(name="fcn_vgg16", stride=8, maps=[2, 3, 4, 5])


def test_max_fusion_takes_the_larger_score_at_each_cell():
    torch.manual_seed(0)
    net = build_network(ModelConfig(stride=2, fusion="max"), 3).eval()
    for head in net.heads:
        nn.init.normal_(head.weight)
    photo = torch.randint(0, 256, (1, 3, 24, 32), dtype=torch.uint8)
    with torch.no_grad():
        fine, coarse = net.features(photo)
        upsampled, skip = net.ups[0](net.heads[0](coarse)), net.heads[1](fine)
        found = net.score_map(photo)
    assert found.equal(torch.where(upsampled > skip, upsampled, skip))
    assert not found.equal(upsampled) and not found.equal(skip)
