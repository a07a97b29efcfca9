"""Files from strangers: none runs code, hangs, or raises anything but a ValueError naming it."""

import copy
import io
import json
import os
import pickle
import random
import signal
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import VOCConfig
from toyfcn.data.source import FileSource
from toyfcn.data.tools import unpack
from toyfcn.evaluation.score_table import print_scores
from toyfcn.models.build import build_network
from toyfcn.runs import checkpoint, checkpointing, resume

SECONDS = 20  # none of them takes one; the machine may be busy
JUNK: list[Any] = [None, -1, 10**30, float("nan"), "", "x" * 999, "../../x", "\x1b[2J", b"\0"]
JUNK += [[], {}, [[]], ["a", "a"], {"_target_": "os.system"}, "${oc.env:HOME}", True, 1e308]


class Bomb:
    """Pickles into a call that leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a checkpoint of ours holds."""
    folder = tmp_path_factory.mktemp("source")
    config = TrainConfig(data=VOCConfig())
    config.model.width = 0.05
    source = FileSource(
        name="x",
        images=folder,
        masks=folder,
        lists=folder,
        classes=tuple(f"c{i}" for i in range(4)),
    )
    net = build_network(config.model, 4)
    place = {"config": resume.fingerprint(config), "ids": "x", "version": 1, "step": 3}
    return {
        "toyfcn": checkpoint.make_metadata(config, source, [1, 2]),
        "state_dict": {f"net.{name}": value for name, value in net.state_dict().items()},
        checkpointing.KEY: place | {"validated": True, "stopped": False, "score": 0.5},
    }


@pytest.fixture
def watch() -> Iterator[None]:
    """Ends a test that hangs."""

    def late(*_: Any) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def spoil(content: bytes, rng: random.Random) -> bytes:
    """Break bytes in one of the ways that disks, networks and people have."""
    at = rng.randrange(len(content))
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return rng.randbytes(rng.randrange(200))
    if kind == 2:
        return content[:at] + rng.randbytes(rng.randrange(1, 50)) + content[at:]
    if kind == 3:
        return content[at:] + content[:at]
    spoilt = bytearray(content)
    for _ in range(rng.randrange(1, 40)):  # the ends of a zip archive matter most
        spot = rng.choice([rng.randrange(len(content)), -rng.randrange(1, 400) % len(content)])
        spoilt[spot] = rng.randrange(256)
    return bytes(spoilt)


def forge(nest: Any, rng: random.Random) -> None:
    """Put junk into a random place of a nest of dicts and lists, or take something out."""
    while True:
        keys = list(nest) if isinstance(nest, dict) else list(range(len(nest)))
        key = rng.choice(keys)
        if isinstance(nest[key], dict | list) and nest[key] and rng.random() < 0.7:
            nest = nest[key]
            continue
        if rng.random() < 0.2:
            del nest[key]
        else:
            nest[key] = rng.choice(JUNK)
        return


def repacked(content: bytes, change: Callable[[str, bytes], bytes], kind: int = 0) -> bytes:
    """Write a zip archive again with other members."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def hostile_checkpoint(sound: dict[str, Any], mark: Path, rng: random.Random) -> bytes:
    content = copy.deepcopy(sound)
    kind = rng.randrange(9)
    if kind == 0:
        return pickle.dumps(Bomb(mark), protocol=rng.randrange(5))
    if kind == 1:
        rng.choice([content, content["toyfcn"], content["state_dict"]])["_x"] = Bomb(mark)
    if kind == 2:
        content |= {"_instantiator": "os.mkdir", "_target_": "os.mkdir", "_args_": [str(mark)]}
        content["toyfcn"]["model"]["_target_"] = "os.mkdir"
    if kind in (3, 4):
        forge(rng.choice([content["toyfcn"], content[checkpointing.KEY], content]), rng)
    if kind == 5:
        name = rng.choice(list(content["state_dict"]))
        shape = [rng.randrange(3) for _ in range(rng.randrange(5))]
        content["state_dict"][name] = torch.zeros(shape, dtype=rng.choice([torch.int8, torch.half]))
    out = io.BytesIO()
    torch.save(content, out)
    whole = out.getvalue()
    if kind == 6:
        bomb = pickle.dumps(Bomb(mark), protocol=2)
        return repacked(whole, lambda name, old: bomb if name.endswith("data.pkl") else old)
    if kind == 7:
        zeros = bytes(30 << 20)
        return repacked(whole, lambda name, old: zeros if "data/0" in name else old, 8)
    return spoil(whole, rng) if kind == 8 else whole


YAML = [
    "a: !!python/object/apply:os.mkdir ['{mark}']",
    "{{a: 1",
    "- 1\n- 2",
    "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c]",
    "data: " + "[" * 3000 + "]" * 3000,
    "data: {{kind: voc, _target_: os.mkdir, _args_: ['{mark}']}}",
    "data: {{kind: voc, root: '${{oc.decode:{mark}}}'}}",
    "data: {{kind: voc}}\ntrainer: {{max_steps: 1e999}}",
    "data: {{kind: voc}}\nrecipe: {{lr: {{_target_: os.mkdir}}}}",
    "data: {{kind: voc}}\nseed: '${{seed}}'",
    "data: {{kind: voc}}\nmodel: {{width: .nan}}",
    "data: {{kind: '../..'}}",
    "\x00\x01",
    "data: {{kind: voc}}\n_instantiator: os.mkdir",
]


def hostile_config(config: TrainConfig, mark: Path, rng: random.Random) -> bytes:
    from omegaconf import OmegaConf

    if rng.random() < 0.4:
        return rng.choice(YAML).format(mark=mark).encode()
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    if rng.random() < 0.5:
        forge(plain, rng)
        return json.dumps(plain, default=str).encode()
    return spoil(json.dumps(plain, indent=1).encode(), rng)


def hostile_archive(mark: Path, rng: random.Random) -> bytes:
    out = io.BytesIO()
    names = [
        "VOCdevkit/VOC2007/ImageSets/Segmentation/train.txt",
        "../../" + mark.name,
        "a/../../b",
    ]
    names += [str(mark), "C:\\x", "\\\\host\\x", "..\\" + mark.name, "a\x1b[2J", "VOCdevkit"]
    with tarfile.open(fileobj=out, mode="w") as tar:
        for _ in range(rng.randrange(1, 5)):
            member = tarfile.TarInfo(rng.choice(names))
            kinds = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]
            member.type = rng.choice([*kinds, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.REGTYPE])
            member.linkname = rng.choice(["/etc/passwd", "..", str(mark)])
            member.size = rng.choice([0, 3, 3])
            whole = member.isreg()
            tar.addfile(member, io.BytesIO(b"abc") if whole else None)
        if rng.random() < 0.3:  # a claim that nothing follows
            member = tarfile.TarInfo("big")
            member.size = rng.choice([10**12, 300 << 20, 10**6])
            out.write(member.tobuf())
    return spoil(out.getvalue(), rng) if rng.random() < 0.4 else out.getvalue()


@pytest.mark.usefixtures("watch", "one_thread")
@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_files_are_refused_by_name(
    sound: dict[str, Any], tmp_path: Path, count: int
) -> None:
    config = TrainConfig(data=VOCConfig())
    tried, refused = 0, 0
    for number in range(count):
        rng, mark = random.Random(number), tmp_path / "executed"
        home = tmp_path / str(number)
        home.mkdir()
        name = f"file{number}"
        signal.alarm(SECONDS)
        if number % 2:  # checkpoints are what people share
            path = home / f"{name}.ckpt"
            path.write_bytes(hostile_checkpoint(sound, mark, rng))
            reads: list[Callable[[], Any]] = [
                partial(checkpoint.load, path),
                partial(checkpointing.read, path, sound[checkpointing.KEY]["config"], "x", 9),
            ]
        elif number % 4:
            path = home / name / ".hydra" / "config.yaml"
            path.parent.mkdir(parents=True)
            path.write_bytes(hostile_config(config, mark, rng))
            reads = [partial(resume.stored_config, path.parents[1])]
        else:
            path = home / f"{name}.tar"
            path.write_bytes(hostile_archive(mark, rng))
            reads = [partial(unpack.unpack, path, path.parent, 2007, "train")]
        for read in reads:
            tried += 1
            said = ""
            try:
                read()
            except ValueError as error:
                said = str(error)
            refused += bool(said)
            assert not said or (name in said and "\x1b" not in said), said
        assert not mark.exists()
        outside = {p.name for p in tmp_path.iterdir()}
        assert outside <= {str(n) for n in range(number + 1)}, outside
    print(f"{refused} of {tried} readings of {count} files refused, the others harmless")
    assert refused > 0.6 * tried


def test_the_sound_checkpoint_is_one(sound: dict[str, Any], tmp_path: Path) -> None:
    """So whatever is refused below is refused for what was forged."""
    path = tmp_path / "sound.ckpt"
    torch.save(sound, path)
    loaded = checkpoint.load(path)
    assert loaded.classes == ["c0", "c1", "c2", "c3"]
    assert all(
        torch.equal(value, sound["state_dict"][f"net.{name}"])
        for name, value in loaded.net.state_dict().items()
    )
    position = sound[checkpointing.KEY]
    assert checkpointing.read(path, position["config"], "x", 9)[checkpointing.KEY] == position


FORGED: list[tuple[str, Any, str]] = [
    ("toyfcn.version", 2, "not written by this version"),
    ("toyfcn.classes", "abc", "classes is not a list"),
    ("toyfcn.classes", ["a", "a"], "two classes have one name"),
    ("toyfcn.classes", ["a", "b\x1b[2J"], "a class has a name that cannot be printed"),
    ("toyfcn.palette", [0] * 767, "palette is not a list of 256 colors"),
    ("toyfcn.palette", [-1] * 768, "palette is not a list of 256 colors"),
    ("toyfcn.void", True, "void is not a label"),
    ("toyfcn.trained_on", ["x"], "trained_on is not a list of integers"),
    ("toyfcn.model.width", -1, "model.width=-1"),
    ("toyfcn.model.width", "wide", "could not be converted to Float"),
    ("toyfcn.model.stride", 3, "model.stride=3"),
    ("toyfcn.model._target_", "os.mkdir", "_target_"),
    ("toyfcn.model.name", "${oc.env:HOME}", "an option holds an interpolation"),
    ("toyfcn.data.root", "${oc.env:HOME}", "an option holds an interpolation"),
    ("toyfcn.data.kind", "../..", "../.."),
    ("toyfcn.data.year", 3000, "data.year=3000"),
    ("state_dict.net.heads.0.weight", torch.zeros(1), "heads.0.weight"),
    ("state_dict", {}, "Missing key"),
]


@pytest.mark.parametrize(("key", "value", "words"), FORGED)
def test_what_is_forged_is_refused_for_that(
    sound: dict[str, Any], tmp_path: Path, key: str, value: Any, words: str
) -> None:
    forged = copy.deepcopy(sound)
    whole, _, last = (
        key.rpartition(".")
        if not key.startswith("state_dict.")
        else (
            "state_dict",
            "",
            key.removeprefix("state_dict."),
        )
    )
    level = forged
    for part in filter(None, whole.split(".")):
        level = level[part]
    level[last] = value
    path = tmp_path / "forged.ckpt"
    torch.save(forged, path)
    with pytest.raises(ValueError, match=r"forged\.ckpt") as told:
        checkpoint.load(path)
    assert words in str(told.value), told.value
    assert "\x1b" not in str(told.value)


def test_names_cannot_speak_to_the_terminal() -> None:
    names = ["[red]x[/]", "\x1b[2Jy", "[/nothing]", "a\nb\rc\u202e"]
    split = dict.fromkeys(("miou", "baseline_miou", "pixel_acc", "mean_acc", "fwiou"), 0.5)
    found = split | {"images": 1, "iou": dict.fromkeys(names, 0.1)}
    out = io.StringIO()
    print_scores({"val": found}, Console(file=out, width=90))
    text = out.getvalue()
    assert "[red]x[/]" in text and "[/nothing]" in text
    assert not {"\x1b", "\r", "\u202e"} & set(text)
