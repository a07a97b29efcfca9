"""Tiles: seamless where the receptive field ends within the overlap, in bounded memory."""

import pytest
import torch
from torch import nn

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.ensemble import Ensemble
from toyfcn.models.labeling import blocks
from toyfcn.models.tiled import Tiled, spans

NETWORKS = {
    "lenet4": {"name": "fcn_lenet", "stride": 4},
    "lenet2": {"name": "fcn_lenet", "stride": 2, "norm": "batch"},
    "unet": {"name": "unet", "stride": 1},
    "vgg": {"name": "fcn_vgg16", "stride": 16, "width": 0.02},
    "timm": {"name": "fcn_timm", "backbone": "resnet18", "stride": 16},
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = build_network(ModelConfig(**NETWORKS[name]), 4)
    for head in net.heads:
        nn.init.normal_(head.weight, std=0.1)
    return net.eval()


def noise(*size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", ["lenet4", "lenet2", "unet"])
@pytest.mark.parametrize("size", [(301, 407), (200, 1000), (97, 130), (513, 200)])
def test_without_seams_where_the_receptive_field_ends_within_the_overlap(name, size) -> None:
    net, photo = network(name), noise(*size)
    with torch.inference_mode():
        whole, found = net(photo), Tiled(net, 256, 176)(photo)
    assert len(spans(max(size), 256, 176, 8)) > 1 or size == (97, 130)
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["lenet4", "vgg", pytest.param("timm", marks=pytest.mark.slow)])
def test_outside_the_overlap_scores_are_the_whole_photos(name: str) -> None:
    """There no other tile counts, however large the receptive field, if it ends in the overlap."""
    net, photo = network(name), noise(70, 1500)
    with torch.inference_mode():
        whole, tiles = net(photo), Tiled(net, 1024, 448)
        found = tiles(photo)
    first, second = spans(1500, 1024, 448, tiles.stride)
    for columns in (slice(0, second.start), slice(first.stop, None)):
        torch.testing.assert_close(found[..., columns], whole[..., columns], atol=1e-4, rtol=0)


def test_small_overlaps_blend_smoothly() -> None:
    """Weights add up to one, and change little from one pixel to the next."""
    for side in (100, 257, 1000, 1001, 20_000):
        total = torch.zeros(side)
        found = spans(side, 128, 64, 8)
        for start, stop, _, weight in found:
            assert start % 8 == 0 and stop - start <= 128 and (weight >= 0).all()
            assert weight.diff().abs().max() < 0.1 if stop - start == 128 else True
            total[start:stop] += weight
        torch.testing.assert_close(total, torch.ones(side))
        assert found[-1].stop == side
        shared = [one.stop - one.after for one in found[:-1]]
        assert all(pixels >= 64 for pixels in shared)
        assert max(shared, default=0) < 128 and (side < 20_000 or max(shared) <= 72)


def test_blocks_cover_each_pixel_once_and_ensembles_too() -> None:
    nets = [network("lenet4"), network("unet")]
    assert Ensemble(nets).coarsest_stride == 8
    net, photo = Tiled(Ensemble(nets), 64, 16), noise(150, 171)
    seen = torch.zeros(150, 171, dtype=torch.int64)
    with torch.inference_mode():
        whole = net(photo)
        for top, left, scores in blocks(net, photo, (150, 171)):
            height, width = scores.shape[-2:]
            seen[top : top + height, left : left + width] += 1
            part = whole[..., top : top + height, left : left + width]
            torch.testing.assert_close(scores, part)
        enlarged = torch.cat([b.scores for b in blocks(net, photo, (300, 200))], 2)
        torch.testing.assert_close(enlarged, net(photo, (300, 200)))
    assert (seen == 1).all()


def test_tiles_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tile=64 and overlap=40 leave no room .* stride of 32"):
        Tiled(network("vgg"), 64, 40)
