"""Photos of any number of channels: read, trained on, and used as three are."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from killer import same_end
from numpy.typing import NDArray
from PIL import Image

import toyfcn
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import FolderConfig
from toyfcn.config.model import ModelConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.image_io import image_size, read_header, read_image
from toyfcn.data.scale import Scale
from toyfcn.evaluation.pictures import shown
from toyfcn.models.build import build_network
from toyfcn.models.pretrained import load_weights

tifffile = pytest.importorskip("tifffile", reason="tifffile: pip install 'toyfcn[tiff]'")
Values = NDArray[np.generic]


def noise(kind: type = np.uint8, bands: int = 5, high: int = 256) -> Values:
    shape = (bands, 12, 17)
    return np.random.default_rng(0).integers(0, high, shape).astype(kind)


@pytest.mark.parametrize(
    "form", ["planes", "pixels", "pages", "tiles", "deflate", "big", "motorola"]
)
def test_bands_are_read_however_they_are_stored(tmp_path: Path, form: str) -> None:
    values, path = noise(), tmp_path / "photo.tif"
    options = {
        "planes": {"planarconfig": "separate", "photometric": "minisblack"},
        "pages": {"photometric": "minisblack", "planarconfig": None, "metadata": None},
        "tiles": {"tile": (16, 16)},
        "deflate": {"compression": "zlib", "predictor": True},
        "big": {"bigtiff": True},
        "motorola": {"byteorder": ">"},
    }.get(form, {})
    stored = values if form in ("planes", "pages") else values.transpose(1, 2, 0)
    if form not in ("planes", "pages"):
        options |= {"planarconfig": "contig", "photometric": "minisblack"}
    tifffile.imwrite(path, stored, **options)
    assert np.array_equal(read_image(path, channels=5), values)
    assert read_header(path, 5) == (12, 17, 5, False)
    assert image_size(path, 5) == (12, 17)


def test_a_turned_tiff_comes_upright(tmp_path: Path) -> None:
    path, values = tmp_path / "photo.tif", noise()
    extra = [(274, "H", 1, 6, True)]
    tifffile.imwrite(
        path, values, photometric="minisblack", planarconfig="separate", extratags=extra
    )
    assert np.array_equal(read_image(path, channels=5), np.rot90(values, -1, (1, 2)))
    assert image_size(path, 5) == (17, 12)


@pytest.mark.parametrize(
    ("kind", "scale"),
    [(np.uint16, Scale()), (np.uint16, Scale(100, 4095)), (np.float32, Scale(-10, 900))],
)
def test_deep_bands_are_scaled(tmp_path: Path, kind: type, scale: Scale) -> None:
    values, path = noise(kind, high=4096 if scale.white == 4095 else 800), tmp_path / "photo.tif"
    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate")
    low, high = scale.black, scale.white or 65535
    expected = 255 * (values.astype(float).clip(low, high) - low) / (high - low)
    assert np.abs(read_image(path, scale, 5).numpy() - expected).max() <= 0.5
    if kind is np.float32:
        with pytest.raises(ValueError, match=r"photo\.tif.*float32.*set data\.white"):
            read_image(path, channels=5)


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("white", [None, 4095])
def test_16_bit_colors_are_scaled_like_gray(
    tmp_path: Path, white: float | None, bands: int
) -> None:
    """Of a TIFF as of a PNG: what lies behind red, green and blue is left out."""
    values, path = noise(np.uint16, bands, 4096), tmp_path / "photo.tif"
    tifffile.imwrite(path, values.transpose(1, 2, 0), photometric="rgb")
    expected = np.floor(values[:3].astype(float) * 255 / (white or 65535) + 0.5)
    assert np.array_equal(read_image(path, Scale(white=white)), expected)
    for index in range(3):
        Image.fromarray(values[index]).save(tmp_path / "gray.png")
        gray = read_image(tmp_path / "gray.png", Scale(white=white))
        assert np.array_equal(gray[0], expected[index])


@pytest.mark.parametrize(("mode", "count"), [("L", 1), ("LA", 2), ("RGBA", 4)])
def test_pngs_have_the_channels_of_their_mode(tmp_path: Path, mode: str, count: int) -> None:
    values, path = noise(bands=count), tmp_path / "photo.png"
    Image.fromarray(values.transpose(1, 2, 0).squeeze(), mode).save(path)
    assert np.array_equal(read_image(path, channels=count), values)
    assert read_image(path).shape == (3, 12, 17)  # three: RGB as ever
    assert read_header(path).channels == count
    with pytest.raises(ValueError, match=rf"photo\.png has {count} channels, but data\.channels=7"):
        read_image(path, channels=7)


def test_tiffs_without_tifffile_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(), photometric="minisblack")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ValueError, match=r"a\.tif: .*pip install 'toyfcn\[tiff\]'"):
        read_image(tmp_path / "a.tif", channels=5)


def test_damaged_tiffs_are_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(), photometric="minisblack", planarconfig="separate")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for cut in (4, 9, 200, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"^cannot read the photo .*a\.tif: .") as raised:
            read_image(path, channels=5)
        assert "\n" not in str(raised.value)
    for _ in range(200):
        changed = bytearray(whole)
        for at in rng.integers(0, 300, 3):
            changed[at] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):
            read_image(path, channels=5)


def test_pictures_show_the_chosen_bands() -> None:
    photo = torch.from_numpy(noise())
    assert np.array_equal(shown(photo, [4, 0, 2]), photo[[4, 0, 2]].permute(1, 2, 0))
    assert np.array_equal(shown(photo), photo[:3].permute(1, 2, 0))
    for few in (photo[:1], photo[:2]):
        assert np.array_equal(shown(few), photo[[0, 0, 0]].permute(1, 2, 0))


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """16 photos of 4 bands in 16 bits up to 4095, whose class is seen in the last band alone."""
    for part in ("photos", "masks"):
        (tmp_path / part).mkdir()
    for index in range(16):
        rng = np.random.default_rng(index)
        bands, labels = rng.integers(0, 4096, (4, 40, 48)), np.zeros((40, 48), np.uint8)
        top, left = rng.integers(2, 20, 2)
        labels[top : top + 16, left : left + 20] = 1
        bands[3] = 1000 + 2000 * labels.astype(int) + rng.integers(0, 400, labels.shape)
        path = tmp_path / "photos" / f"a{index:02}.tif"
        tifffile.imwrite(path, bands.astype(np.uint16), photometric="minisblack")
        Image.fromarray(labels).save(tmp_path / "masks" / f"a{index:02}.png")
    return tmp_path


DATA = [
    *("data=folder", "data.images=photos", "data.masks=masks", "data.classes=[soil,crop]"),
    *("data.channels=4", "data.white=4095"),
]
TRAIN = [
    *("data.batch_size=4", "model.stride=2", "recipe.lr=0.02", "data.show_bands=[3,1,0]"),
    *("trainer.max_steps=30", "trainer.val_every=10", "trainer.threads=1", "logger.every=5"),
    "trainer.accelerator=cpu",
]


def test_a_class_of_the_fourth_band_is_learned(
    fields: Path, train: Command, command: Command, stop_at
) -> None:
    answer = train(*DATA, *TRAIN, "data.cache=disk", "hydra.run.dir=whole")
    assert answer.code == 0, answer.err
    found = json.loads(Path("whole/metrics.json").read_text())["val"]
    assert found["iou"]["crop"] > 0.85, found
    stop_at(15)
    assert train(*DATA, *TRAIN, "data.cache=disk", "hydra.run.dir=run").code == 143
    assert train("resume=run", "data.workers=1").code == 0
    same_end(Path("run"), Path("whole"))
    best = "whole/checkpoints/best.ckpt"
    # the mean of each band is that of the training photos, and travels with the weights
    state = torch.load(best, weights_only=True)["state_dict"]
    data = SegmentationData.open(toyfcn.runs.checkpoint.load(best).data)
    photos = [data.source.image(name).float() for name in data.split_ids("train")]
    seen = torch.cat([photo.flatten(1) for photo in photos], 1)
    assert torch.allclose(state["net.normalize.mean"].flatten(), seen.mean(1), atol=1e-3)
    assert torch.allclose(state["net.normalize.std"].flatten(), seen.std(1), rtol=1e-3)
    # scored and used
    answer = command("eval", f"ckpt={best}")
    assert answer.code == 0, answer.err
    assert toyfcn.evaluate(best)["miou"] == found["miou"]
    answer = command("predict", f"ckpt={best}", "source=photos", "out=out", "device=cpu")
    assert answer.code == 0, answer.err
    predictor, path = toyfcn.load(best, "cpu"), Path("photos/a03.tif")
    labels = predictor.predict(path)
    assert np.array_equal(np.asarray(Image.open("out/a03.png")), labels)
    assert np.array_equal(
        predictor.predict(data.source.image("a03").permute(1, 2, 0).numpy()), labels
    )
    overlay = np.asarray(Image.open("out/a03_overlay.png"))[:40, :48]
    picture = shown(data.source.image("a03"), [3, 1, 0])
    assert np.array_equal(overlay[labels == 0], picture[labels == 0])
    with pytest.raises(ValueError, match=r"uint8 \(height, width, 4\), not uint8 \(9, 9, 3\)"):
        predictor.predict(np.zeros((9, 9, 3), np.uint8))


def test_mistakes_are_told(fields: Path, train: Command, command: Command) -> None:
    answer = command("data", "check", *DATA)
    assert answer.code == 0 and "photos: 4 channels 16" in answer.out, answer.out + answer.err
    Image.new("RGB", (48, 40)).save(fields / "photos" / "a05.tif")
    answer = command("data", "check", *DATA)
    assert answer.code == 1 and "a05.tif: has 3 channels, but data.channels=4" in answer.out
    answer = train(*DATA, *TRAIN)
    assert answer.code == 2 and "a05.tif has 3 channels, but data.channels=4" in answer.err
    for words, told in {
        "data.colour=0.1": "data.colour changes RGB alone",
        "data.show_bands=[0,1,4]": "data.show_bands=[0, 1, 4] are not 3 channels, or 1, of 0 to 3",
        "model=fcn_torchvision model.backbone=googlenet": "model=fcn_torchvision is for RGB",
        "model=fcn_vgg16 model.norm=none model.weights=imagenet": "is a VGG-16 for RGB",
    }.items():
        given = [word for word in TRAIN if not word.startswith("model")]
        answer = train(*DATA, *given, *words.split())
        assert answer.code == 2 and told in answer.err, answer.err
    answer = train("data.channels=4")
    assert "data.channels=4 is for data=folder and data=custom" in answer.err


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(width=0.2),
        ModelConfig(name="unet", stride=1, width=0.4),
        ModelConfig(name="fcn_vgg16", stride=32, width=0.02),
        ModelConfig(name="fcn_timm", backbone="test_resnet", stride=16),
        ModelConfig(name="custom", stride=1, target="test_bands:Own"),
    ],
    ids=lambda config: config.name,
)
def test_every_network_takes_any_channels(config: ModelConfig, channels: int) -> None:
    if config.name == "fcn_timm":
        pytest.importorskip("timm")
    net = build_network(config, 5, channels).eval()
    photo = torch.randint(0, 256, (1, channels, 40, 33), dtype=torch.uint8)
    assert net(photo).shape == (1, 5, 40, 33)
    assert net.normalize.mean.shape == (1, channels, 1, 1)


class Own(torch.nn.Conv2d):
    def __init__(self, classes: int, in_channels: int = 3) -> None:
        super().__init__(in_channels, classes, 3, padding=1)


@pytest.mark.parametrize("channels", [1, 4])
def test_timms_weights_are_adapted_as_timm_does(tmp_path: Path, channels: int) -> None:
    timm = pytest.importorskip("timm")
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    overlay = {"file": str(file)}
    expected = timm.create_model(
        "test_resnet", pretrained=True, in_chans=channels, pretrained_cfg_overlay=overlay
    )
    config = ModelConfig(name="fcn_timm", backbone="test_resnet", stride=16)
    net = build_network(config, 3, channels)
    net.normalize.use([10.0] * channels, [20.0] * channels)
    load_weights(net, str(file))
    own, theirs = net.backbone.network.state_dict(), expected.state_dict()
    assert own and all(torch.equal(own[name], theirs[name]) for name in own)
    assert net.normalize.mean.flatten().tolist() == [10] * channels


def test_exported_networks_take_the_channels(fields: Path, command: Command) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = FolderConfig(
        images="photos", masks="masks", classes=["soil", "crop"], channels=4, root=str(fields)
    )
    config = TrainConfig(data=data, model=ModelConfig(width=0.3))
    net = build_network(config.model, 2, 4)
    torch.nn.init.normal_(net.heads[0].weight)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    source = SegmentationData.open(data).source
    metadata = toyfcn.runs.checkpoint.make_metadata(config, source)
    torch.save({"state_dict": state, "toyfcn": metadata}, "best.ckpt")
    answer = command("export", "ckpt=best.ckpt", "out=net.onnx")
    assert answer.code == 0, answer.err
    session = runtime.InferenceSession("net.onnx")
    assert session.get_inputs()[0].shape[1] == 4
    photo = torch.randint(0, 256, (1, 4, 33, 40), dtype=torch.uint8)
    (scores,) = session.run(None, {"photo": photo.numpy()})
    with torch.no_grad():
        assert np.abs(scores - net.eval()(photo).numpy()).max() < 1e-4
