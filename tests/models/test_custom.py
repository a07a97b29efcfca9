"""A network of the user's own, named on the command line; code that a file names is not run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command

import toyfcn
from toyfcn.config import target
from toyfcn.config.commands import TrainConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.target import find
from toyfcn.config.trainer import TrainerConfig
from toyfcn.models.build import build_network
from toyfcn.models.losses import can_be_fused
from toyfcn.runs.resume import stored_config
from toyfcn.training.task import SegmentationTask

MODULE = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, classes, width=4, stride=4, out=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )
        self.out = out

    def forward(self, x):
        assert x.shape[-1] % 32 == 0 and x.is_floating_point()
        return {"out": self.layers(x)} if self.out else self.layers(x)

class Deaf(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight

def fewer(classes):
    return Small(classes - 1)

def text(classes):
    return "no network"

number = 3
"""
WORDS = """
    model=custom model.target=mynets:Small data.train_images=6 data.val_images=2 data.test_images=2
    data.size=[48,48] data.batch_size=2 trainer.max_steps=4 trainer.val_every=2 trainer.threads=1
    trainer.accelerator=cpu logger.panels=1 hydra.run.dir=run
    """
RUN = [*WORDS.split(), "model.args={width: 6, out: true}"]


@pytest.fixture
def mynets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the current folder, which is imported anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    path = tmp_path / "mynets.py"
    path.write_text(MODULE)
    return path


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_scores_of_any_stride_are_enlarged_to_the_photo(mynets: Path, stride: int) -> None:
    config = ModelConfig(
        name="custom", stride=1, target="mynets:Small", args={"stride": stride}, pad=32
    )
    net = build_network(config, 5).eval()
    photo = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    scores = net(photo)
    assert scores.shape == (2, 5, 64, 96)
    plain = net.backbone((photo - net.normalize.mean) / net.normalize.std)  # type: ignore[operator]
    wanted = torch.nn.functional.interpolate(plain, (64, 96), mode="bilinear")
    torch.testing.assert_close(scores, wanted)
    assert net(photo[..., :50, :61]).shape == (2, 5, 50, 61)
    assert net(photo[..., :1, :1], (7, 9)).shape == (2, 5, 7, 9)


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_the_loss_is_fused_where_the_scores_have_a_stride(mynets: Path, stride: int) -> None:
    config = ModelConfig(
        name="custom", stride=1, target="mynets:Small", args={"stride": stride}, pad=32
    )
    net = build_network(config, 5).double().eval()
    assert can_be_fused(net) == (stride > 1)
    generator = torch.Generator().manual_seed(0)
    photo = torch.randint(0, 256, (2, 3, 50, 61), generator=generator).double()
    target = torch.randint(0, 5, (2, 50, 61), generator=generator, dtype=torch.uint8)
    target[0, :9] = 255
    found = []
    for fused in (True, False):
        net.zero_grad()
        task = SegmentationTask(net, "abcde", class_weights=torch.arange(1.0, 6), fused=fused)
        task.class_weights = task.class_weights.double()
        total, weight = task.loss_sums_of({"image": photo, "mask": target, "id": ["a", "b"]})
        torch.autograd.backward(total)
        found.append([total.detach(), weight, *(p.grad for p in net.backbone.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_of_torchvision_works_as_it_is() -> None:
    made = "torchvision.models.segmentation:lraspp_mobilenet_v3_large"
    config = ModelConfig(name="custom", stride=1, target=made, args={"weights_backbone": None})
    photo = torch.zeros(1, 3, 50, 61, dtype=torch.uint8)
    assert build_network(config, 5).eval()(photo).shape == (1, 5, 50, 61)


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        ("self.net(x).half()", "returns torch.float16 .*, not scores float32"),
        ("[self.net(x)]", "returns <class 'list'>, not scores float32"),
        ("{'logits': self.net(x)}", "returns <class 'dict'>, not scores .* a dict that holds them"),
        ("self.net(x).mean(1)", r"returns torch.float32 \[1, 64, 128\], not scores"),
        ("self.nut(x)", r"AttributeError: 'N' object has no attribute 'nut' \(odd.py, line 7\)"),
    ],
)
def test_what_is_no_map_of_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forward: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    lines = ["from torch import nn", "class N(nn.Module):", "    def __init__(self, classes):"]
    lines += ["        super().__init__()", "        self.net = nn.Conv2d(3, classes, 1)"]
    lines += ["    def forward(self, x):", f"        return {forward}"]
    Path("odd.py").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=told):
        build_network(ModelConfig(name="custom", stride=1, target="odd:N"), 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise OSError('no\\nway')", r"cannot be imported: OSError: no \(broken.py, line 1\)$"),
        ("def f(:", r"cannot be imported: SyntaxError: invalid syntax \(broken.py, line 1\)"),
        ("exit(4)", r"cannot be imported: SystemExit: 4 \(broken.py, line 1\)$"),
    ],
)
def test_modules_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("broken.py").write_text(text)
    with pytest.raises(ValueError, match=told):
        find("model.target=broken:N", "broken:N")
    with pytest.raises(ValueError, match=r"is not package.module:name"):
        find("model.target=..broken:N", "..broken:N")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("model.target=mynets", "is not package.module:name"),
        ("model.target=mynots:Small", "there is no module mynots, neither in"),
        ("model.target=mynets:Smal", "mynets has no Smal: did you mean Small"),
        ("model.target=mynets:Smal debug=fast", "mynets has no Smal: did you mean Small"),
        ("model.target=mynets:number", "is a int, which cannot be called"),
        ("model.args={wide:3}", "unexpected keyword argument 'wide' (it takes classes, width,"),
        ("model.target=mynets:text", "returns a str, not an nn.Module"),
        ("model.target=torch.nn:Identity", "has no weights that learn"),
        (
            "model.target=mynets:Deaf",
            "mynets:Deaf returns torch.float32 [1], not scores float32 (B,",
        ),
        ("model.target=mynets:fewer", "returns scores of 6 classes, but is called with classes=7"),
        ("model.target=null", "model=custom needs model.target=package.module:name"),
        ("model.dropout=0.1", "not an option of model=custom"),
        ("recipe.freeze=backbone", "recipe.freeze=backbone leaves nothing to learn"),
        ("recipe.freeze=backbone recipe.freeze_steps=2", "leaves nothing to learn"),
    ],
)
def test_mistakes_are_told_in_a_line(mynets: Path, train: Command, words: str, told: str) -> None:
    answer = train(*WORDS.split(), *words.split())
    assert answer.code == 2 and told in answer.err, answer.err
    assert answer.err.count("\n") == 1


def test_it_trains_and_its_checkpoint_is_used_where_it_is_trusted(
    mynets: Path, train: Command, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(*RUN).code == 0
    best, metrics = "run/checkpoints/best.ckpt", json.loads(Path("run/metrics.json").read_text())
    answer = command("eval", f"ckpt={best}")
    assert answer.code == 2 and "if you trust it, add trust=[mynets]" in answer.err
    answer = command("eval", f"ckpt={best}", "trust=[mynets]", "trainer.threads=1")
    assert answer.code == 0, answer.err
    assert toyfcn.evaluate(best, trust=["mynets"])["miou"] == metrics["val"]["miou"]
    monkeypatch.setenv("TOYFCN_TRUST", "others,mynets")
    photo = np.zeros((33, 47, 3), np.uint8)
    assert toyfcn.load(best).predict(photo).shape == (33, 47)
    monkeypatch.delenv("TOYFCN_TRUST")
    answer = command("compare", f"of=[{best},{best}]", "split=val", "photos=0", "resamples=100")
    assert answer.code == 2 and "if you trust it, add trust=[mynets]" in answer.err
    words = ["split=val", "photos=1", "resamples=100", "trust=[mynets]"]
    assert command("compare", f"of=[{best},{best}]", *words).code == 0
    answer = train("rerun=run")
    assert answer.code == 2 and "rerun=run wants to run code of yours or of others" in answer.err
    answer = train("rerun=run", "trust=[mynets]")
    assert answer.code == 0 and "the same, bit for bit" in answer.out, answer.err


@pytest.mark.slow
def test_code_that_a_file_names_is_not_imported(
    mynets: Path, train: Command, command: Command
) -> None:
    """200 forged checkpoints, and stored configs, that name code which leaves a trace."""
    assert train(*RUN).code == 0
    Path("evil.py").write_text("from pathlib import Path\nPath('trace').touch()\ndef net(): pass\n")
    names = [
        "evil:net",
        "evil",
        "evil:",
        "evil.net:x",
        "os:system",
        "builtins:eval",
        ":",
        "evil:a.b",
    ]
    content = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    stored = Path("run/.hydra/config.yaml").read_text()
    for number in range(200):
        content["toyfcn"]["model"]["target"] = name = names[number % len(names)] + "_" * (
            number // 8
        )
        content["toyfcn"]["model"]["args"] = {"trust": ["evil"]}
        torch.save(content, "forged.ckpt")
        with pytest.raises(ValueError, match="wants to run code"):
            toyfcn.load("forged.ckpt", trust=["mynets", "evi", "evil2"])
        if number < 8:
            text = stored.replace("target: mynets:Small", f"target: '{name}'")
            Path("run/.hydra/config.yaml").write_text(text.replace("trust: []", "trust: [evil]"))
            assert train("rerun=run", "trust=[mynets]").code == 2
    assert not Path("trace").exists() and "evil" not in sys.modules


@pytest.mark.slow
def test_callbacks_and_metrics_that_a_stored_config_names_are_not_imported(
    mynets: Path, train: Command
) -> None:
    """200 forged configs, each entry in another form; trust of other packages does not help."""
    assert train(*RUN).code == 0
    Path("evil.py").write_text("from pathlib import Path\nPath('trace').touch()\ndef net(): pass\n")
    path = Path("run/.hydra/config.yaml")
    stored = path.read_text()
    forms: list[Callable[[str], Any]] = [
        lambda name: name,
        lambda name: {"target": name},
        lambda name: {"target": name, "args": {"trust": ["evil"]}},
        lambda name: {"target": name, "trust": ["evil"]},
        lambda name: [name],
        lambda name: {"_target_": name},
        lambda name: {"target": [name]},
        lambda name: 0,
    ]
    names = ["evil:net", "evil", "evil.net:x", "os:system", "builtins:eval", ""]
    for number, option in enumerate(["callbacks", "metrics"] * 100):
        turn = number // 2
        entry = forms[turn % len(forms)](names[turn % len(names)] + "_" * (turn // 8 % 5))
        listed = ["mynets:Small", entry] if turn % 3 else [entry]
        text = stored.replace(f"{option}: []", f"{option}: {json.dumps(listed)}")
        assert text != stored
        path.write_text(text.replace("trust: []", "trust: [evil]"))
        with pytest.raises(ValueError, match=r"wants to run code|is not a config of"):
            stored_config(Path("run"), trust=["mynets", "evi", "evil2"])
        if turn < len(forms):
            assert train("rerun=run", "trust=[mynets]").code == 2
            assert train("resume=run", "trust=[mynets]").code == 2
    assert not Path("trace").exists() and "evil" not in sys.modules


def test_a_hostile_name_cannot_speak_to_the_terminal() -> None:
    config = ModelConfig(name="custom", stride=1, target="\x1b[2J:net")
    with pytest.raises(ValueError, match="wants to run code") as caught:
        target.refuse_untrusted(config, [], "ckpt=x")
    assert "\x1b" not in str(caught.value)


def test_all_packages_are_named_at_once() -> None:
    net = ModelConfig(name="custom", stride=1, target="a.b:C")
    config = TrainConfig(model=net, trainer=TrainerConfig(callbacks=["c:D", "a:E", "f:G"]))
    told = r"a.b:C, c:D, a:E: .* add trust=\[a,c\], or set TOYFCN_TRUST=a,c$"
    with pytest.raises(ValueError, match=told):
        target.refuse_untrusted(config, ["f"], "resume=x")


def test_the_package_of_a_target() -> None:
    assert target.package_of("a.b.c:D.e") == "a"
    target.refuse_untrusted(ModelConfig(), [], "ckpt=x")
    with pytest.raises(ValueError, match=r"add trust=\[a\]"):
        target.refuse_untrusted(
            ModelConfig(name="custom", stride=1, target="a.b:C"), ["b"], "ckpt=x"
        )
