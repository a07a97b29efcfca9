"""Data sets and augmentations of the user's own; cross-validation."""

import json
import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from torchvision import tv_tensors
from torchvision.transforms import v2

import toyfcn
from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import CustomConfig, VOCConfig
from toyfcn.data.custom import custom_source
from toyfcn.data.custom_transform import CustomTransform
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.transforms import TrainTransform
from toyfcn.training.smallest_batch import smallest_photos

MODULE = """
import numpy as np
import random
import torch
from PIL import Image

class Squares:
    classes = ["ground", "square"]
    palette = [[0, 0, 0], [200, 100, 0]]
    void = 250

    def __init__(self, count=8, bad=None):
        self.count, self.bad = count, bad

    def ids(self, split):
        return [f"{split} {i}" for i in range({"train": self.count, "val": 2}[split])]

    def image(self, name):
        if self.bad:
            return self.bad
        pixels = np.full((40, 44, 3), 90, np.uint8)
        pixels[8:20, int(name.split()[1]):24] = 220
        return Image.fromarray(pixels) if name.endswith("1") else pixels

    def mask(self, name):
        labels = np.zeros((40, 44), np.int64)
        labels[8:20, int(name.split()[1]):24] = 1
        labels[0] = 250
        return torch.from_numpy(labels)

class Empty:
    classes = ["a", "b"]

def three_draws():
    return lambda image, mask: (
        image + random.randrange(50) + np.random.randint(50) + int(torch.randint(50, ())), mask
    )

def floats():
    return lambda image, mask: (image / 255, mask)

def fail():
    return lambda image, mask: 1 / 0
"""
WORDS = """
    data=custom data.target=mydata:Squares data.test_split=null data.batch_size=2 model.width=0.1
    trainer.max_steps=4 trainer.val_every=2 trainer.threads=1 trainer.accelerator=cpu
    logger.panels=1 hydra.run.dir=run
    """


@pytest.fixture(autouse=True)
def mydata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder, which is imported anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mydata", raising=False)
    (tmp_path / "mydata.py").write_text(MODULE)


def test_what_the_object_returns_is_a_data_set() -> None:
    source = custom_source(CustomConfig(target="mydata:Squares", args={"count": 3}))
    assert source.ids("train") == ("train 0", "train 1", "train 2")
    assert (source.classes, source.void) == (("ground", "square"), 250)
    assert source.palette[:6] == (0, 0, 0, 200, 100, 0)
    photo, mask = source.pair("train 1")
    assert photo.dtype == mask.dtype == torch.uint8 and photo.shape == (3, 40, 44)
    assert (photo[0] == 220).sum() == (mask == 1).sum() == 12 * 23
    assert source.size("train 0") == (40, 44)
    sent = pickle.loads(pickle.dumps(source))  # as to a loader worker
    assert torch.equal(sent.pair("train 1")[1], mask)
    with pytest.raises(ValueError, match="mydata:Squares has no split 'test'"):
        source.ids("test")


def test_it_trains_scores_and_predicts(train: Command, command: Command) -> None:
    answer = train(*WORDS.split(), "data.workers=2", "recipe.class_weights=sqrt")
    assert answer.code == 0, answer.err
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["val"]["images"] == 2 and set(metrics["val"]["iou"]) == {"ground", "square"}
    best = "run/checkpoints/best.ckpt"
    assert toyfcn.load(best).predict(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)
    answer = command("eval", f"ckpt={best}")
    assert answer.code == 2 and "the checkpoint wants to run code" in answer.err
    answer = command("eval", f"ckpt={best}", "trust=[mydata]", "trainer.threads=1")
    assert answer.code == 0, answer.err
    chosen = ["data=custom", "data.target=mydata:Squares"]  # named by the user
    assert command("eval", f"ckpt={best}", *chosen, "trainer.threads=1").code == 0
    answer = train("rerun=run", "trust=[mydata]", "data.workers=0")
    assert answer.code == 0 and "the same, bit for bit" in answer.out, answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.target=null", "data.target is missing: data=custom needs data.target=module:name"),
        ("data.target=mydata:Sqares", "mydata has no Sqares: did you mean Squares"),
        ("data.target=mydata:Empty", "makes a Empty without ids, image, mask: a data set has"),
        ("data.args={bad:[1,2]}", "photo 'train 0' of mydata:Squares is int64 (2,), not uint8 (H"),
        ("data.args={cont:3}", "cannot be called: got an unexpected keyword argument 'cont'"),
        ("data.args={count:0}", "mydata:Squares: ids('train') names no image"),
        ("data.cache=disk", "data.cache=disk is for files, not data=custom"),
        ("data.transform=mydata:floats", "returns torch.float32 (3, 40, 44) and torch.uint8"),
        ("data.transform=mydata:fail", "data.transform=mydata:fail fails: ZeroDivisionError: div"),
        ("data.transform_args={a:1}", "data.transform_args needs data.transform=package.module"),
        ("data.folds=9", "data.folds=9 needs as many images, and there are 8"),
        ("data.folds=4 data.fold=4", "data.fold=4 needs data.folds of at least 5"),
        ("data.folds=4 data.val_split=train", "give it another name, such as val"),
    ],
)
def test_mistakes_are_told_in_a_line(train: Command, words: str, told: str) -> None:
    answer = train(*WORDS.split(), *words.split())
    assert answer.code == 2 and told in answer.err, answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("pair[0]", r"augment:make fails: ValueError: too many values .*"),
        ("None", r"augment:make fails: TypeError: cannot unpack .*"),
        ("(_ for _ in ()).throw(ValueError('no'))", r"ValueError: no \(augment.py, line 2\)$"),
        (
            "(pair[0], pair[1] + 9)",
            "a mask with the label 9, but the classes end at 1 and void is 255",
        ),
        ("(pair[0][:, :0], pair[1][:0])", r"returns torch.uint8 \(3, 0, 8\) and .*\(0, 8\), not"),
    ],
)
def test_what_a_transform_must_not_return(
    made: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "augment", raising=False)
    Path("augment.py").write_text(f"def make():\n    return lambda *pair: {made}\n")
    own = CustomTransform(TrainTransform(flip=0), "augment:make", {}, classes=2)
    with pytest.raises(ValueError, match=told):
        own(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8), 0)


def test_faults_of_the_object_are_told_with_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["class Bad:", "    classes = ['a', 'b']", "    def ids(self, split): return None"]
    lines += ["    def image(self, id): return None", "    def mask(self, id): return [][0]"]
    monkeypatch.delitem(sys.modules, "faults", raising=False)
    Path("faults.py").write_text("\n".join([*lines, "class Twice(Bad): classes = ['a', 'a']"]))
    source = custom_source(CustomConfig(target="faults:Bad"))
    with pytest.raises(ValueError, match=r"faults:Bad: ids\('train'\) fails: TypeError"):
        source.ids("train")
    with pytest.raises(ValueError, match=r"photo 'x' of faults:Bad cannot be read: TypeError"):
        source.image("x")
    with pytest.raises(ValueError, match=r"mask 'x' of .*: IndexError: .* \(faults.py, line 5\)"):
        source.mask("x")
    with pytest.raises(ValueError, match="faults:Twice: two classes have one name"):
        custom_source(CustomConfig(target="faults:Twice"))


def test_of_a_large_data_set_only_the_first_photos_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CustomConfig(target="mydata:Squares", args={"count": 5000}, test_split=None)
    config.scale, data = [0.5, 2.0], SegmentationData(custom_source(config), config, None, 0)
    data.setup()
    made = Counter[str]()
    monkeypatch.setattr(type(data.source), "size", lambda _, name: made.update([name]) or (40, 44))
    whole = TrainConfig(data=config)
    assert smallest_photos(whole, data, look=True) and len(made) == 100


def test_check_says_that_it_reads_files(command: Command) -> None:
    answer = command("data", "check", "data=custom", "data.target=mydata:Squares")
    assert answer.code == 2 and "toyfcn-data check reads files" in answer.err


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    photo = torch.from_numpy(rng.integers(0, 256, (3, 30, 40), np.uint8))
    return photo, torch.from_numpy(rng.integers(0, 5, (30, 40), np.uint8))


def transform(target: str, **args: Any) -> CustomTransform:
    return CustomTransform(TrainTransform(flip=0), target, args, classes=5)


def test_a_transform_of_torchvision_turns_both() -> None:
    photo, mask = pair()
    found = transform("torchvision.transforms.v2:RandomHorizontalFlip", p=1.0)(photo, mask, 7)
    assert torch.equal(found[0], photo.flip(-1)) and torch.equal(found[1], mask.flip(-1))
    assert type(found[0]) is type(found[1]) is torch.Tensor
    # the seed is set as one would by hand
    torch.manual_seed(7)
    by_hand = v2.RandomCrop(16)(tv_tensors.Image(photo), tv_tensors.Mask(mask))
    found = transform("torchvision.transforms.v2:RandomCrop", size=16)(photo, mask, 7)
    assert all(torch.equal(a, b) for a, b in zip(found, by_hand, strict=True))


def test_a_transform_of_albumentations_turns_both() -> None:
    albumentations = pytest.importorskip("albumentations")
    photo, mask = pair()
    crop = transform("albumentations:RandomCrop", height=16, width=16)
    found = [crop(photo, mask, seed) for seed in (7, 8, 7)]
    assert torch.equal(found[0][0], found[2][0]) and torch.equal(found[0][1], found[2][1])
    assert not torch.equal(found[0][0], found[1][0])
    by_hand = albumentations.RandomCrop(16, 16)
    by_hand.set_random_seed(7)
    wanted = by_hand(image=photo.permute(1, 2, 0).numpy(), mask=mask.numpy())
    assert np.array_equal(found[0][0].permute(1, 2, 0).numpy(), wanted["image"])
    assert np.array_equal(found[0][1].numpy(), wanted["mask"])


@pytest.mark.parametrize("name", ["mydata:three_draws", "albumentations:RandomBrightnessContrast"])
def test_batches_are_the_same_for_any_number_of_workers(tiny_voc: Path, name: str) -> None:
    if name.startswith("albu"):
        pytest.importorskip("albumentations")
    found = []
    for workers in (0, 1, 2):
        config = VOCConfig(
            root=str(tiny_voc), batch_size=2, crop=[32, 32], workers=workers, transform=name
        )
        torch.manual_seed(workers)  # what is drawn elsewhere has no influence
        batches = list(SegmentationData.open(config).train_dataloader())
        found.append(torch.cat([batch["image"] for batch in batches]))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    plain = VOCConfig(root=str(tiny_voc), batch_size=2, crop=[32, 32])
    batches = list(SegmentationData.open(plain).train_dataloader())
    assert not torch.equal(torch.cat([batch["image"] for batch in batches]), found[0])


def test_folds_hold_out_every_image_once(tiny_voc: Path) -> None:
    root, splits = str(tiny_voc), {"train_split": "trainval", "test_split": None}
    whole = SegmentationData.open(VOCConfig(root=root)).split_ids("trainval")
    held_out = Counter[str]()
    for fold in range(4):
        data = SegmentationData.open(VOCConfig(root=root, folds=4, fold=fold, **splits))
        data.setup()
        val, train = data.split_ids("val"), data.split_ids("trainval")
        assert set(val) | set(train) == set(whole) and not set(val) & set(train)
        assert len(val) in (1, 2)
        held_out.update(val)
    assert held_out == Counter(whole)
