"""toyfcn-predict and toyfcn-export on checkpoints that were never trained: what they write."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import toyfcn
from toyfcn.config.inference import PredictConfig
from toyfcn.data.resizing import resize_image, working_size
from toyfcn.files import atomic_write
from toyfcn.inference.predict import run_command
from toyfcn.inference.sources import Photo, find_photos, refuse_collisions
from toyfcn.runs import checkpoint

SLOW = pytest.mark.slow  # the exporter takes its time; .ci/run runs it


def test_several_sources_upright_with_scores(best: Path, command: Command) -> None:
    photos = best.parent / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by a quarter
    Image.fromarray(noise).save(photos / "turned.jpg", exif=turned)
    Image.fromarray(noise).convert("CMYK").save(photos / "print.tif")
    Image.fromarray(noise).convert("LA").save(photos / "grey.png")
    source = "source=[photos/turned.jpg,photos,'photos/*.png']"
    words = [f"ckpt={best}", source, "out=masks", "scores=true"]
    assert command("predict", *words).code == 0
    for name, size in (("turned", (40, 60)), ("print", (60, 40)), ("grey", (60, 40))):
        mask = Image.open(best.parent / "masks" / f"{name}.png")
        scores = np.load(best.parent / "masks" / f"{name}_scores.npz")["scores"]
        assert (mask.mode, mask.size) == ("P", size)
        assert scores.dtype == np.float16
        assert scores.shape == (21, size[1], size[0])
        assert (scores.argmax(0) == np.asarray(mask)).mean() > 0.98  # but for ties in half


def test_a_submission_for_pascals_server(best: Path, command: Command) -> None:
    year = best.parent / "VOCdevkit" / "VOC2007"
    ids = ["000001", "000004"]
    (year / "ImageSets/Segmentation/test.txt").write_text("\n".join(ids))
    for name in ids:
        (year / "SegmentationClass" / f"{name}.png").unlink()  # the test's masks are secret
    words = [f"ckpt={best}", "format=voc_server", "split=test", "out=sent"]
    assert command("predict", *words).code == 0
    folder = best.parent / "sent/results/VOC2007/Segmentation/comp6_test_cls"
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png" for name in ids]
    for name in ids:
        mask, photo = Image.open(folder / f"{name}.png"), year / "JPEGImages" / f"{name}.jpg"
        assert mask.mode == "P"
        assert mask.size == Image.open(photo).size
        assert np.asarray(mask).dtype == np.uint8
        assert np.asarray(mask).max() <= 20
        assert mask.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    assert command("predict", *words, "source=x").code == 2


@pytest.mark.parametrize(
    ("best", "output"),  # at stride 2 there is a skip
    [pytest.param(2, "scores", marks=SLOW), pytest.param(4, "labels", marks=SLOW)],
    indirect=["best"],
)
def test_onnx_equals_torch_at_other_sizes(best: Path, command: Command, output: str) -> None:
    ort = pytest.importorskip("onnxruntime", reason="needs toyfcn[export]")
    words = [f"ckpt={best}", "out=net.onnx", f"output={output}"]
    answer = command("export", *words)
    assert answer.code == 0 and "largest difference" in answer.out, answer.err
    session = ort.InferenceSession("net.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"])[15] == "person"
    assert json.loads(facts["palette"])[3:6] == [128, 0, 0]
    net = checkpoint.load(best).net
    for batch, height, width in ((1, 8, 8), (3, 47, 90), (1, 130, 31)):
        photo = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
        (got,) = session.run(None, {"photo": photo.numpy()})
        with torch.inference_mode():
            wanted = net(photo)
        if output == "labels":
            assert got.dtype == np.uint8
            assert (got == wanted.max(1).indices.numpy()).mean() > 0.999
        else:
            np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)


@pytest.mark.slow
def test_onnx_labels_of_a_resized_photo_are_those_of_predict(best: Path, command: Command) -> None:
    """Enlarged before the argmax, as toyfcn-predict does; the photo itself is not resized there."""
    ort = pytest.importorskip("onnxruntime", reason="needs toyfcn[export]")
    content = torch.load(best, weights_only=True)
    content["toyfcn"]["model"]["short_side"] = 32
    torch.save(content, best)
    answer = command("export", str(best), "out=net.onnx", "output=labels")
    assert answer.code == 0, answer.err
    session, predictor = ort.InferenceSession("net.onnx"), toyfcn.load(best)
    for size in ((100, 150), (77, 64), (32, 40)):
        photo = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        seen = resize_image(photo, working_size(size, 32))
        given = {"photo": seen[None].numpy(), "size": np.array(size)}
        (got,) = session.run(None, given)
        wanted = predictor.predict(photo.permute(1, 2, 0).numpy())
        assert got.dtype == np.uint8 and got.shape == (1, *size)
        assert (got[0] == wanted).mean() > 0.999


def test_a_missing_package_is_told(
    best: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    answer = command("export", f"ckpt={best}")
    assert answer.code == 2 and "pip install 'toyfcn[export]'" in answer.err


def test_photos_are_never_written_over(best: Path, command: Command) -> None:
    photos = best.parent / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 30), "teal").save(photos / "a.png")
    before = (photos / "a.png").read_bytes()
    answer = command("predict", f"ckpt={best}", f"source={photos}", f"out={photos}")
    assert answer.code == 2 and f"would write over {photos}/a.png" in answer.err
    assert (photos / "a.png").read_bytes() == before
    assert [path.name for path in photos.iterdir()] == ["a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_where_nothing_can_be_written_is_told(best: Path, command: Command) -> None:
    photos_called(best.parent / "photos", "a.png")
    answer = command("predict", f"ckpt={best}", "source=photos", "out=/proc/none")
    assert answer.code == 2 and answer.err.count("\n") == 1
    assert "cannot write into out=/proc/none: No such file" in answer.err


def test_a_folder_that_cannot_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iterdir(folder: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(ValueError, match=f"cannot read the folder {tmp_path}: Permission denied"):
        find_photos(str(tmp_path), tmp_path / "masks")


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as told, atomic_write(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert told.value.filename == str(tmp_path / "a")


def photos_called(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        form = "JPEG" if name.endswith("jfif") else None
        Image.new("RGB", (40, 30), "teal").save(folder / name, form)
    return folder


@pytest.mark.parametrize(
    ("names", "words", "lost"),
    [
        (("a.jpg", "a_overlay.jpg"), (), "a_overlay.png"),
        (("a.jpg", "a.bmp"), (), "a.png"),
        (("a_overlay_overlay.png", "a_overlay.png", "a.png"), (), "a_overlay.png"),
    ],
)
def test_no_result_is_written_twice(best: Path, command: Command, names, words, lost) -> None:
    photos_called(best.parent / "photos", *names)
    answer = command("predict", f"ckpt={best}", "source=photos", "out=masks", *words)
    assert answer.code == 2
    assert "would both be written to" in answer.err and f"masks/{lost}" in answer.err
    assert not Path("masks").exists()


def test_a_submission_has_no_overlays_that_could_collide(tmp_path: Path) -> None:
    photos = [Photo(tmp_path / f"{name}.jpg", name) for name in ("a", "a_overlay")]
    refuse_collisions(photos, tmp_path / "out", PredictConfig(ckpt="x", format="voc_server"))


def test_white_of_16_bits_is_the_checkpoints(best: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo = best.parent / "deep.png"
    Image.new("I;16", (48, 48)).save(photo)
    run_command(PredictConfig(ckpt=str(best), source=str(photo), out=str(best.parent / "masks")))
    assert "data.white=65535 is white: so the checkpoint was trained" in caplog.text


def test_what_is_left_out_is_told(best: Path, command: Command) -> None:
    photos = photos_called(best.parent / "photos", "a.jpg", "b.jfif", "c.ppm", "d.avif")
    for name in ("e.raw", "f.RAW", "notes.txt", "plain", ".hidden.jpg"):
        (photos / name).write_bytes(b"x")
    (photos / "more").mkdir()
    (photos / "linked.jpg").symlink_to("more")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    answer = command("predict", f"ckpt={best}", "source=photos", "out=masks")
    assert answer.code == 0 and "wrote masks and overlays of 4 photos" in answer.out
    told = "2 .raw, 1 .txt, 1 dangling link gone.jpg, 1 file without suffix, 1 folder linked.jpg"
    assert f"left out of photos: {told}" in answer.out
    assert len(list(Path("masks").glob("*.png"))) == 8


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere", "source=nowhere does not exist"),
        ("photos/gone.jpg", "source=photos/gone.jpg, a link to lost.jpg, does not exist"),
        ("'photos/*.xyz'", "source=photos/*.xyz does not exist"),
        ("empty", "source=empty names no photo: it is empty"),
        ("other", "source=other names no photo: it holds 1 .raw"),
    ],
)
def test_a_source_without_photos_says_why(best: Path, command: Command, source, told) -> None:
    for name in ("photos", "empty", "other"):
        (best.parent / name).mkdir()
    (best.parent / "photos/gone.jpg").symlink_to("lost.jpg")
    (best.parent / "other/a.raw").write_bytes(b"")
    answer = command("predict", f"ckpt={best}", f"source={source}", "out=masks")
    assert answer.code == 2 and told in answer.err


def test_many_names_are_compared_quickly(tmp_path: Path) -> None:
    photos = [Photo(tmp_path / f"{i:06}.jpg", f"{i:06}") for i in range(20_000)]
    start = time.perf_counter()
    refuse_collisions(photos, tmp_path / "out", PredictConfig(ckpt="x", source="photos"))
    assert time.perf_counter() - start < 3  # 20 s and more when each is compared with all


def test_several_checkpoints_average_their_probabilities(best: Path, command: Command) -> None:
    other = best.with_name("other.ckpt")
    content = torch.load(best, weights_only=True)
    state = content["state_dict"]
    heads = [name for name in state if name.startswith("net.heads.")]
    content["state_dict"] = state | {name: -0.5 * state[name].flip(0) for name in heads}
    torch.save(content, other)
    photo = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
    alone = [toyfcn.load(path).scores(photo).softmax(0) for path in (best, other)]
    found = toyfcn.load([best, other]).scores(photo)
    torch.testing.assert_close(found.exp(), (alone[0] + alone[1]) / 2)
    assert torch.equal(toyfcn.load([best]).scores(photo).softmax(0), alone[0])
    Image.fromarray(photo).save("photo.png")
    answer = command("predict", f"ckpt=[{best},{other}]", "source=photo.png", "out=masks")
    assert answer.code == 0, answer.err
    labels = np.array(Image.open("masks/photo.png"))
    assert (labels == found.argmax(0).numpy()).all()
    answer = command("eval", f"ckpt=[{best},{other}]", "hydra.run.dir=both", "trainer.threads=1")
    assert answer.code == 0, answer.err
    scored = json.loads(Path("both/metrics.json").read_text())["val"]
    assert scored["miou"] == toyfcn.evaluate([best, other])["miou"] != toyfcn.evaluate(best)["miou"]
    content["toyfcn"]["classes"][3] = "bat"
    torch.save(content, other)
    answer = command("eval", f"ckpt=[{best},{other}]")
    assert answer.code == 2 and "differ in their classes" in answer.err
