"""Commands as a user types them, on tiny drawn worlds."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

from toyfcn.config.trainer import KEYS
from toyfcn.data.voc import voc_source
from toyfcn.runs import checkpoint

TINY = [
    "data.train_images=12 data.val_images=3 data.test_images=5 data.size=[48,56]",
    "data.batch_size=4 model.width=0.5 trainer.max_steps=6 trainer.val_every=3 logger.every=1",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished tiny run, made by the real command in a process of its own."""
    home = tmp_path_factory.mktemp("home")
    answer = subprocess.run(
        [Path(sys.executable).with_name("toyfcn-train"), *" ".join(TINY).split()],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    for words in ("mean IU", "all-background", "ring", "tensorboard --logdir"):
        assert words in answer.stdout
    lines = re.findall(r"step \d/6 .*val mean IU [\d.]+ .*images/s", answer.stdout)
    assert len(lines) == 2  # one plain line a validation where there is no terminal
    (folder,) = (home / "outputs" / "train" / "shapes-fcn_lenet").iterdir()
    return folder


def test_a_run_leaves_what_the_design_names(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    files = {"metrics.json", "predictions.png", "run.json", "history.csv", "train.log"}
    files |= {"images.csv", "images.npz"}
    assert names == files | {".hydra", "checkpoints", "tensorboard"}
    assert {p.name for p in (trained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics) == {"val", "test"}
    assert set(metrics["test"]) == set(KEYS)
    assert (metrics["val"]["images"], metrics["test"]["images"]) == (3, 5)
    assert list(metrics["test"]["iou"])[:2] == ["background", "disc"]
    run = json.loads((trained / "run.json").read_text())
    assert (run["status"], run["seed"], run["steps"]) == ("finished", 0, 6)
    assert run["command"][0] == "toyfcn-train"
    assert {"torch", "toyfcn", "python"} <= set(run["versions"])
    assert run["duration_s"] > 0 and run["images_per_s"] > 0 and run["hardware"]["cpu_cores"]
    assert run["cpu_s"] > 0 and run["peak_memory_mb"] > 50
    assert "val mean IU" in (trained / "train.log").read_text()
    assert Image.open(trained / "predictions.png").width > 500


def test_tensorboard_events(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    scalars = {"train/loss", "val/loss", "val/miou", "val/pixel_acc", "val_iou/ring", "lr"}
    assert scalars <= set(tags["scalars"]), tags["scalars"]
    assert [event.step for event in events.Scalars("val/miou")] == [3, 6]
    assert len(tags["images"]) == 3 + 2 + 3  # panels, confusion matrices, worst photos


def test_eval_repeats_the_figures_exactly(trained: Path, command: Command) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    home = trained.parents[3]
    for size, split in ((1, "test"), (8, "test"), (1, "val"), (8, "val")):
        answer = command(
            "eval",
            f"ckpt={trained}/checkpoints/best.ckpt",
            f"split={split}",
            f"data.root={home}/data/shapes",
            f"data.batch_size={size}",
        )
        assert answer.code == 0, answer.err
        found = json.loads(Path(re.findall("wrote (.*json)", answer.out)[0]).read_text())
        assert found == {split: metrics[split]}


def test_predict_writes_masks_of_the_original_size(
    trained: Path, command: Command, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
    Image.fromarray(noise).save(photos / "a.jpg")
    Image.fromarray(noise[:40, :, 0]).save(photos / "b.png")
    answer = command(
        "predict", f"ckpt={trained}/checkpoints/last.ckpt", f"source={photos}", "out=o"
    )
    assert answer.code == 0, answer.err
    for name, size in (("a", (83, 61)), ("b", (83, 40))):
        mask = Image.open(tmp_path / "o" / f"{name}.png")
        assert (mask.mode, mask.size) == ("P", size)
        assert np.asarray(mask).max() < 7
        assert mask.getpalette()[3:6] == [128, 0, 0]
        assert (tmp_path / "o" / f"{name}_overlay.png").is_file()


def test_multirun_over_lr_and_stride(command: Command, tmp_path: Path) -> None:
    arguments = [*" ".join(TINY).split(), "recipe.lr=0.01,0.001", "model.stride=4,2"]
    answer = command("train", "-m", *arguments, "trainer.max_steps=2")
    assert answer.code == 0, answer.err
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert {p.name for p in sweep.iterdir() if p.is_dir()} == {"0", "1", "2", "3", "plots"}
    for job in "0123":
        assert json.loads((sweep / job / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_same_seed_same_figures(command: Command, tmp_path: Path) -> None:
    arguments = [*" ".join(TINY).split(), "trainer.max_steps=4", "recipe.average=0.9"]
    found = []
    for extra in (["seed=0"], ["seed=0", "data.workers=2"], ["seed=1"]):
        assert command("train", *arguments, *extra, f"hydra.run.dir=run{len(found)}").code == 0
        found.append((tmp_path / f"run{len(found)}" / "metrics.json").read_text())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "options",
    [
        "recipe=paper",
        "trainer.precision=bf16-mixed model.upsample=dense",
        "model.activation=tanh model.norm=none model.pool=avg model.upsample_learned=false",
        "trainer.patience=1 recipe.average=0.5 recipe.clip=1 recipe.class_weights=median",
        "trainer=cpu trainer.threads=1 trainer.reuse_memory=true data.turn=true data.colour=0.3",
        "experiment=shapes_lenet data.cache=disk data.crop=[40,40] data.max_share=0.9",
    ],
)
def test_options_work_together(command: Command, tmp_path: Path, options: str) -> None:
    arguments = [*options.split(), *" ".join(TINY).split(), "trainer.max_steps=2"]
    answer = command("train", *arguments, "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["status"], run["steps"]) == ("finished", 2)


def test_a_finer_rung_starts_from_a_coarser_checkpoint(trained: Path, command: Command) -> None:
    world = f"data.root={trained.parents[3]}/data/shapes"
    arguments = [*" ".join(TINY).split(), world, f"ckpt={trained}/checkpoints/best.ckpt"]
    answer = command("train", *arguments, "model.stride=2", "recipe.freeze=trunk")
    assert answer.code == 0, answer.err
    assert re.search(r"weights copied; left new: heads.1.weight, heads.1.bias, ups", answer.out)
    assert "before the first step: val mean IU" in answer.out


@pytest.mark.slow
def test_pretraining_as_a_classifier_and_a_small_vgg(command: Command) -> None:
    answer = command("train", *" ".join(TINY).split(), "recipe.pretrain_steps=4", "model.stride=2")
    assert answer.code == 0, answer.err
    assert re.search(r"patches: step 4/4 .*% right", answer.out)
    assert "reshaped: f6.0.weight, heads.0.weight; left new: heads.1.weight" in answer.out
    assert "trained 2 steps" in answer.out
    small = [*" ".join(TINY).split(), "model.width=0.05", "trainer.max_steps=2"]
    answer = command("train", "experiment=ladder_vgg8", *small, "model.geometry=paper")
    assert answer.code == 0, answer.err
    answer = command("train", "model=fcn_vgg16", "model.weights=/none.pth", *small)
    assert answer.code == 2 and "model.weights=/none.pth does not exist" in answer.err


def test_without_validation_the_last_weights_count(command: Command, tmp_path: Path) -> None:
    arguments = [*" ".join(TINY).split(), "data.val_split=null", "recipe.average=0.5"]
    answer = command("train", *arguments, "optimized_metric=test.miou", "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    best, last = (tmp_path / "run" / "checkpoints" / f"{n}.ckpt" for n in ("best", "last"))
    assert best.read_bytes() == last.read_bytes()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["val"] is None and metrics["test"]["images"] == 5
    answer = command("train", *arguments)
    assert answer.code == 2 and "optimized_metric=val.miou needs a data.val_split" in answer.err


def test_mirrored_and_turned_photos_are_scored_too(trained: Path, command: Command) -> None:
    best, world = f"ckpt={trained}/checkpoints/best.ckpt", f"{trained.parents[3]}/data/shapes"
    loaded = checkpoint.load(trained / "checkpoints" / "best.ckpt")
    source = voc_source(Path(world), loaded.classes)
    # the same views made otherwise: of eight, four flips of the photo and of its transpose
    sideways: list[list[int]] = [[], [-1]]
    ways = {1: [(False, [])], 2: [(False, flip) for flip in sideways]}
    ways[8] = [(t, [*up, *side]) for t in (False, True) for up in ([], [-2]) for side in sideways]
    losses = {}
    for views, seen in ways.items():
        answer = command("eval", best, f"data.root={world}", f"trainer.test_views={views}")
        assert answer.code == 0, answer.err
        path = Path(re.findall("wrote (.*json)", answer.out)[0])
        losses[views] = json.loads(path.read_text())["val"]["loss"]
        total = count = 0.0
        for name in source.ids("val"):
            photo, mask = source.pair(name)
            mean = torch.zeros(len(loaded.classes), *mask.shape)
            for transposed, flips in seen:
                view = (photo.mT if transposed else photo).flip(flips)
                with torch.no_grad():
                    scores = loaded.net(view[None])[0].softmax(0).flip(flips)
                mean += (scores.mT if transposed else scores) / len(seen)
            known = mask != 255
            total -= mean.log()[:, known].gather(0, mask[known].long()[None]).sum().item()
            count += known.sum().item()
        assert losses[views] == pytest.approx(total / count, rel=1e-4)
    assert len(set(losses.values())) == 3


def test_training_starts_from_given_weights(trained: Path, command: Command) -> None:
    best, world = f"ckpt={trained}/checkpoints/best.ckpt", f"{trained.parents[3]}/data/shapes"
    tiny = [*" ".join(TINY).split(), f"data.root={world}", "recipe.lr=0"]
    answer = command("train", best, *tiny, "hydra.run.dir=run")
    assert answer.code == 0, answer.err
    weights = [checkpoint.load(f / "checkpoints/best.ckpt").net for f in (trained, Path("run"))]
    for before, after in zip(*(net.parameters() for net in weights), strict=True):
        assert torch.equal(before, after)
    answer = command("train", best, *tiny, "model.width=1")
    assert answer.code == 2 and "trunk.c1_s2.0.weight as [3, 3, 5, 5]" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("data=voc2007 data.root=/nowhere", "no VOC2007 found.*nowhere.*toyfcn-data download"),
        ("data=voc2007 data.root={voc} data.train_split=trian", "trian.txt.*train, trainval, val"),
        ("recipe.lrr=1", r"no option is called recipe.lrr \(did you mean recipe.lr"),
        ("+recipe.lrr=1", r"no option is called recipe.lrr \(did you mean recipe.lr"),
        ("optimized_metric=val.mio", "val.mio is no figure of metrics.json.*known: miou, bound"),
        ("optimized_metric=miou", "=miou is no figure of metrics.json: name one of val or test"),
        ("ckpt={voc}", "is a folder: name a file, such as checkpoints/best.ckpt"),
        ("recipe.lr=fast", "recipe.lr=fast.*could not be converted to Float"),
        ("model.stride=3", "model.stride=3 must be one of 4, 2"),
        ("data=vok2007", "vok2007.*voc2007"),
        ("ckpt={voc}/VOCdevkit/VOC2007/JPEGImages/000000.jpg", "000000.jpg cannot be read safely"),
        ("ckpt=/nowhere/best.ckpt", "ckpt=/nowhere/best.ckpt does not exist"),
    ],
)
def test_mistakes_get_one_clear_line(
    command: Command, tiny_voc: Path, arguments: str, words: str
) -> None:
    answer = command("train", *arguments.format(voc=tiny_voc).split(), "data.train_images=9")
    if "voc" in arguments and "data=" in arguments:  # these options are not the shapes' alone
        answer = command("train", *arguments.format(voc=tiny_voc).split())
    assert answer.code == 2
    assert re.fullmatch(f"toyfcn-train: .*{words}.*\n", answer.err), answer.err
    left = list(Path().glob("outputs/*/*/*"))
    assert all((run / "run.json").exists() for run in left), "a config's mistake leaves no folder"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda voc: (voc / "JPEGImages/000001.jpg").unlink(), "000001.*photo.*is missing"),
        (lambda voc: (voc / "JPEGImages/000001.jpg").write_bytes(b"no"), "000001.jpg"),
        (
            lambda voc: Image.fromarray(np.full((40, 32), 77, np.uint8)).save(
                voc / "SegmentationClass/000001.png"
            ),
            r"000001.png holds the values \[77\]",
        ),
    ],
)
def test_bad_data_gets_one_clear_line(
    command: Command, tiny_voc: Path, harm: Callable[[Path], None], words: str
) -> None:
    harm(tiny_voc / "VOCdevkit" / "VOC2007")
    arguments = "data=voc2007 data.test_split=null data.crop=[32,32] data.batch_size=2"
    answer = command("train", *arguments.split(), f"data.root={tiny_voc}", "trainer.max_steps=4")
    assert answer.code == 2
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1 and re.search(words, lines[0]), answer.err
