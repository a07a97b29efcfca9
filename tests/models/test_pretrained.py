"""Weights copied into FCNs: from classifiers, coarser FCNs, torchvision's and Caffe's layers."""

import functools
import hashlib
import http.server
import logging
import threading
import zipfile
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import nn

from toyfcn.config.data import ShapesConfig
from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.lenet import LeNet, LeNetBackbone
from toyfcn.models.pretrained import convolutionalize, load_weights
from toyfcn.models.vgg import VGG16, VGGBackbone
from toyfcn.models.weights_file import read
from toyfcn.runs.checkpoint import Checkpoint
from toyfcn.training.initial_weights import transplant

CLASSES, WIDTH = 5, 0.03
VGG = {"name": "fcn_vgg16", "norm": "none", "width": WIDTH}


def randomized(net):
    """Replace all zero weights of a network, and the initial statistics of its norms."""
    torch.manual_seed(1)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point() and "normalize" not in name:
            value += 0.1 * torch.randn_like(value)
    return net.eval()


def photos(side, count=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(count, 3, side, side, generator=generator) * 255).to(dtype)


def fcn(**options):
    return build_network(ModelConfig(**options), CLASSES).eval()


LENETS = [
    {"activation": "tanh", "norm": "none", "pool": "avg"},
    {"activation": "relu", "norm": "batch", "pool": "max", "width": 0.5},
]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("options", LENETS)
def test_a_lenet_scores_alike_as_classifier_and_as_fcn(options, dtype, bound):
    classifier = randomized(LeNet(CLASSES, **options))
    net = FCN(LeNetBackbone(**options, geometry="classifier"), CLASSES, 4).eval()
    report = convolutionalize(classifier, net)
    assert report.reshaped == ["trunk.f6.0.weight", "heads.0.weight"]
    assert report.new == ["ups.0.weight"]
    classifier, net = classifier.to(dtype), net.to(dtype)
    with torch.no_grad():
        scores, dense = classifier(photos(32, dtype=dtype)), net.score_map(photos(32, dtype=dtype))
    assert dense.shape == (2, CLASSES, 1, 1)
    assert (dense[..., 0, 0] - scores).abs().max() <= bound * scores.abs().max()


@pytest.mark.parametrize("options", LENETS)
def test_lenet_in_same_geometry_scores_the_crop_around_each_interior_cell(options):
    classifier, net = randomized(LeNet(CLASSES, **options)).double(), fcn(**options).double()
    convolutionalize(classifier, net)
    photo = photos(60, 1, torch.float64)
    with torch.no_grad():
        scores = net.score_map(photo)[0]
        interior = [4 * i - 14 for i in range(15) if 0 <= 4 * i - 14 <= 60 - 32]
        assert len(interior) == 7
        for top in interior:
            crops = torch.stack([photo[0, :, top : top + 32, x : x + 32] for x in interior])
            found = scores[:, (top + 14) // 4, [(x + 14) // 4 for x in interior]].T
            torch.testing.assert_close(found, classifier(crops), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_vgg_scores_alike_as_classifier_and_as_fcn(norm, dtype, bound):
    classifier = randomized(VGG16(CLASSES, WIDTH, norm)).to(dtype)
    net = FCN(VGGBackbone(WIDTH, norm, geometry="classifier"), CLASSES, 32).eval().to(dtype)
    convolutionalize(classifier, net)
    with torch.no_grad():
        scores = classifier(photos(224, dtype=dtype))
        dense = net.score_map(photos(224, dtype=dtype))
    assert dense.shape == (2, CLASSES, 1, 1)
    assert (dense[..., 0, 0] - scores).abs().max() <= bound * scores.abs().max()


def test_an_fc_weight_becomes_a_convolution_number_by_number():
    classifier, net = randomized(VGG16(CLASSES, WIDTH)), fcn(**VGG, stride=8)
    report = convolutionalize(classifier, net)
    assert report.reshaped == ["trunk.fc6.weight", "trunk.fc7.weight", "heads.0.weight"]
    assert torch.equal(net.backbone.fc6.weight.flatten(1), classifier.fc6.weight)
    assert "left new: heads.1.weight" in str(report)


# a coarser FCN


def trained(seed=0, **options):
    config = ModelConfig(**options)
    metadata = {"classes": [str(i) for i in range(CLASSES)]}
    return Checkpoint(randomized(build_network(config, CLASSES)), config, ShapesConfig(), metadata)


@pytest.mark.parametrize(
    ("options", "coarse", "fine"),
    [
        ({}, 4, 2),
        (VGG, 32, 16),
        (VGG, 16, 8),
        ({**VGG, "geometry": "paper"}, 32, 16),
        ({**VGG, "geometry": "paper"}, 16, 8),
    ],
)
def test_a_finer_fcn_starts_with_the_coarser_scores_upsampled_once(options, coarse, fine):
    start, net = trained(**options, stride=coarse), fcn(**options, stride=fine)
    report = transplant(start, net)
    photo = photos(45, 1)
    with torch.no_grad():
        scores = start.net.score_map(photo)
        for up in net.ups[len(start.net.heads) - 1 : -1]:
            scores = up(scores)
        found = net.score_map(photo)
    assert found.equal(scores[..., : found.shape[2], : found.shape[3]])
    assert found.abs().sum() > 0
    new = [name for name in report.new if not name.startswith("ups.")]
    last = len(start.net.heads)
    assert new == [
        f"heads.{i}.{kind}" for i in range(last, len(net.heads)) for kind in ("weight", "bias")
    ]
    assert set(report.copied) | set(report.new) == set(net.state_dict())


def test_checkpoints_that_do_not_fit():
    with pytest.raises(ValueError, match=r"trunk\.conv1_1\.weight"):
        transplant(trained(**VGG, stride=32), fcn(**{**VGG, "width": 0.05}, stride=16))
    with pytest.raises(ValueError, match="ckpt= has"):
        transplant(trained(**VGG, stride=8), fcn(**VGG, stride=16))
    with pytest.raises(ValueError, match=r"model\.at_once=True"):
        transplant(trained(**VGG, stride=16, at_once=True), fcn(**VGG, stride=8))


# torchvision's weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A small VGG-16 built by torchvision and served from a local host, and a hub folder for it."""
    convolutions = [m for m in fcn(**VGG, stride=32).backbone.modules() if isinstance(m, nn.Conv2d)]
    channels = [n for b in ((2,) * 2, (4,) * 2, (8,) * 3, (15,) * 3, (15,) * 3) for n in (*b, "M")]
    features = torchvision.models.vgg.make_layers(channels)
    with torch.device("meta"):  # its own classifier, replaced below, has 120 million weights
        given = torchvision.models.VGG(features, init_weights=False)
    hidden = convolutions[-1].out_channels
    given.classifier = nn.Sequential(
        *(nn.Linear(15 * 7 * 7, hidden), nn.ReLU(True), nn.Dropout()),
        *(nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(), nn.Linear(hidden, 1000)),
    )
    served = tmp_path / "host"
    served.mkdir()
    torch.save(randomized(given).state_dict(), served / "new.pth")
    digest = hashlib.sha256((served / "new.pth").read_bytes()).hexdigest()[:8]
    file = (served / "new.pth").rename(served / f"vgg16-{digest}.pth")

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(handler.func, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1.value
    address = f"http://127.0.0.1:{server.server_port}/{file.name}"
    monkeypatch.setattr(weights, "url", address)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    yield given, file, tmp_path / "hub" / "checkpoints" / file.name
    server.shutdown()
    server.server_close()


def test_imagenet_weights_come_from_torchvisions_host_and_then_from_its_cache(hub):
    given, served, cached = hub
    net = fcn(**VGG, stride=8)
    report = load_weights(net, "imagenet")
    assert report.reshaped == ["trunk.fc6.weight", "trunk.fc7.weight"]
    assert sorted(report.unused) == ["fc8.bias", "fc8.weight"]
    assert [name for name in report.new if "heads" in name] == [
        f"heads.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")
    ]
    # the same function as torchvision's layers on torchvision's preprocessing
    photo = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    seen = torchvision.transforms.functional.normalize(
        photo.float() / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    own = FCN(VGGBackbone(WIDTH, geometry="classifier"), CLASSES, 32).eval()
    served.unlink()
    load_weights(own, "imagenet")
    with torch.no_grad():
        pool5 = given.features(seen)
        hidden = given.classifier[:6](pool5.flatten(1))
        found = own.backbone(own.normalize(photo))[-1]
    torch.testing.assert_close(found[..., 0, 0], hidden, rtol=1e-4, atol=1e-4)
    cached.write_bytes(cached.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match=rf"{cached.name} is damaged .*remove it"):
        load_weights(net, "imagenet")


def test_imagenet_weights_without_a_host_or_with_a_wrong_file(hub):
    _, served, cached = hub
    net = fcn(**VGG, stride=32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    served.write_bytes(served.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="invalid hash value"):
        load_weights(net, "imagenet")
    assert not cached.exists()
    served.unlink()
    with pytest.raises(ValueError, match=rf"put {cached.name} into .*hub/checkpoints") as caught:
        load_weights(net, "imagenet")
    assert "\n" not in str(caught.value)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())


# the Caffe release's


def release(stride=8, classes=CLASSES, at_once=False):
    """A state dict with the release's names, made with dense deconvolutions for BGR photos."""
    net = randomized(
        build_network(ModelConfig(**VGG, stride=stride, upsample="dense", at_once=at_once), classes)
    )
    heads = ("score_fr", "score_pool4", "score_pool3")
    ups = {
        32: ("upscore",),
        16: ("upscore2", "upscore16"),
        8: ("upscore2", "upscore_pool4", "upscore8"),
    }
    names = {f"heads.{i}": name for i, name in enumerate(heads)}
    names |= {f"ups.{i}": name for i, name in enumerate(ups[stride])}
    state = OrderedDict()
    for name, value in net.state_dict().items():
        layer, _, kind = name.removeprefix("trunk.").rpartition(".")
        if "normalize" not in name:
            state[f"{names.get(layer, layer)}.{kind}"] = value
    return state, net


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_caffe_weights_see_bgr_with_the_mean_subtracted(tmp_path, stride):
    state, theirs = release(stride)
    torch.save({"model_state_dict": state}, tmp_path / "fcn.pth")
    net = fcn(**VGG, stride=stride, upsample="dense")
    report = load_weights(net, str(tmp_path / "fcn.pth"))
    assert report.new == report.reshaped == report.unused == []
    photo = photos(40, 1)
    theirs.normalize = nn.Identity()
    bgr = photo.flip(1) - torch.tensor([104.00699, 116.66877, 122.67892]).view(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(net(photo), theirs(bgr), rtol=1e-4, atol=1e-3)
    # a new network gets the preprocessing from the weights alone
    again = fcn(**VGG, stride=stride, upsample="dense")
    again.load_state_dict(net.state_dict())
    assert again(photo).equal(net(photo))


def test_caffe_weights_of_other_classes_and_other_upsampling(tmp_path):
    file = tmp_path / "fcn.pth"
    state, _ = release(16, classes=21)
    torch.save(state, file)
    report = load_weights(fcn(**VGG, stride=16), str(file))
    assert [name for name in report.new if "heads" in name] == [
        f"heads.{i}.{kind}" for i in range(2) for kind in ("weight", "bias")
    ]
    state, _ = release(32)
    torch.save(state, file)
    with pytest.raises(
        ValueError, match=r"ups\.0\.weight mixes classes: set model\.upsample=dense"
    ):
        load_weights(fcn(**VGG, stride=32), str(file))
    index = torch.arange(CLASSES)
    diagonal = torch.zeros_like(state["upscore.weight"])
    diagonal[index, index] = state["upscore.weight"][index, index]
    torch.save({**state, "upscore.weight": diagonal}, file)
    net = fcn(**VGG, stride=32)
    assert "ups.0.weight" in load_weights(net, str(file)).copied
    assert net.ups[0].weight[:, 0].equal(diagonal[index, index])


def test_weights_that_do_not_fit(tmp_path):
    file = tmp_path / "fcn.pth"
    state, _ = release(32)
    cases = [
        ({k: v for k, v in state.items() if "fc6" not in k}, r"has no fc6\.weight"),
        ({k: v for k, v in state.items() if "fc7" not in k}, r"has no fc7\.weight"),
        (
            {**state, "conv3_2.weight": torch.zeros(9, 9, 3, 3)},
            r"conv3_2\.weight as \[9, 9, 3, 3\]",
        ),
        ({"a": torch.zeros(1)}, "neither torchvision's layers"),
        ({"toyfcn": {}, "state_dict": state}, "use ckpt="),
        ([1], "holds no weights by name"),
    ]
    for content, words in cases:
        torch.save(content, file)
        with pytest.raises(ValueError, match=words):
            load_weights(fcn(**VGG, stride=32), str(file))
    torch.save({"conv1_1.weight": logging.getLogger}, file)  # a pickle that would execute code
    with pytest.raises(ValueError, match="cannot be read safely"):
        load_weights(fcn(**VGG, stride=32), str(file))
    with pytest.raises(ValueError, match="does not exist"):
        load_weights(fcn(**VGG, stride=32), str(tmp_path / "none.pth"))


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(ValueError, match=r"bomb.pth cannot be read safely: it is compressed"):
        read(path)
