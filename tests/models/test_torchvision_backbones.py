"""AlexNet and GoogLeNet as backbones, held against torchvision's own networks."""

import hashlib
import shutil

import pytest
import torch
import torchvision
from torch import nn

from toyfcn.config.model import ModelConfig
from toyfcn.models import torchvision_weights
from toyfcn.models.build import build_network
from toyfcn.models.pretrained import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")
STARTS = {"alexnet": (7, 15, 15), "googlenet": (6, 14, 22)}  # worked out layer by layer


def fcn(backbone, stride=8, **options):
    config = ModelConfig(name="fcn_torchvision", backbone=backbone, stride=stride, **options)
    return build_network(config, 3).eval()


def photo(height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator)


def normalized(image):
    return torchvision.transforms.functional.normalize(
        image.float() / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )


@pytest.mark.parametrize("name", STARTS)
def test_maps_cover_photos_of_any_size_and_cells_lie_where_they_are_said_to(name):
    net = fcn(name)
    assert [grid.start for grid in net.backbone.grids()] == list(STARTS[name])
    for height, width in ((1, 1), (33, 64), (100, 70)):
        maps = net.features(photo(height, width))
        cells = [(-(-height // 32), -(-width // 32))]
        assert [tuple(m.shape[2:]) for m in maps] == [
            (rows * scale, columns * scale) for rows, columns in cells for scale in (4, 2, 1)
        ]
        assert net(photo(height, width)).shape == (1, 3, height, width)
    assert [m.shape[1] for m in maps] == list(net.backbone.channels)


def test_alexnet_is_torchvisions(monkeypatch):
    given = torchvision.models.alexnet().eval()
    monkeypatch.setattr(torchvision_weights, "read", lambda path: given.state_dict())
    net = fcn("alexnet")
    report = load_weights(net, "some.pth")
    assert report.reshaped == ["trunk.fc6.weight", "trunk.fc7.weight"]
    assert sorted(report.unused) == ["trunk.classifier.6.bias", "trunk.classifier.6.weight"]
    image = photo(256, 288)
    with torch.no_grad():
        pool1, pool2, fc7 = net.features(image)
        own = given.features[:3](normalized(image))
        torch.testing.assert_close(pool1[..., : own.shape[2], : own.shape[3]], own)
        own = given.features[:6](normalized(image))
        inside = slice(0, own.shape[2] - 2)  # further right torchvision's next layer sees a border
        torch.testing.assert_close(pool2[..., inside, inside], own[..., inside, inside])
        pool5 = net.backbone.features[6:](pool2)
        hidden = given.classifier[:6](pool5[..., 1:7, 2:8].flatten(1))
    torch.testing.assert_close(fc7[..., 4, 5], hidden, rtol=1e-4, atol=1e-5)


@pytest.fixture
def googlenet(tmp_path, monkeypatch):
    """A GoogLeNet of torchvision, with its auxiliary classifiers, in the cache of downloads."""
    given = torchvision.models.GoogLeNet(transform_input=True, init_weights=False).eval()
    for module in given.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(given.state_dict(), tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()[:8]
    path = folder / f"googlenet-{digest}.pth"
    shutil.move(tmp_path / "weights", path)
    weights = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(weights, "url", f"http://127.0.0.1:9/{path.name}")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return given, path


def test_googlenet_is_torchvisions(googlenet):
    given, path = googlenet
    net = fcn("googlenet")
    report = load_weights(net, "imagenet")
    assert {name.split(".")[1] for name in report.unused} == {"aux1", "aux2", "fc"}
    expected = []
    for name in ("inception3b", "inception4e", "inception5b"):
        layer = getattr(given, name)
        layer.register_forward_hook(lambda module, inputs, output: expected.append(output))
    image = photo(96, 128)
    with torch.no_grad():
        given(normalized(image))
        found = net.features(image)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
    path.unlink()
    with pytest.raises(ValueError, match=rf"put {path.name} into .*checkpoints, it comes from"):
        load_weights(net, "imagenet")


def test_other_classifiers_are_told_where_they_are():
    with pytest.raises(ValueError, match=r"model\.backbone=vgg16 must be alexnet or googlenet"):
        fcn("vgg16")
