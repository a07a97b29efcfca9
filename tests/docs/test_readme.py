"""Every command that README.md, docs/, conf/ and --help print composes, and runs where it can."""

import importlib
import inspect
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

import toyfcn
from toyfcn.cli import resolvers
from toyfcn.cli.config_store import register
from toyfcn.cli.launch import only_given
from toyfcn.config.commands import COMMANDS

ROOT = Path(__file__).parents[2]
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs").glob("*.ipynb"),
        *(ROOT / "conf").rglob("*.yaml"),
    )
} | {name: inspect.getdoc(schema) or "" for name, schema in COMMANDS.items()}
WRITTEN = re.compile(
    r"\btoyfcn-(train|eval|compare|predict|demo|export|data|model|report) +([^`\n]*)"
)
COMMENT = re.compile(r"\s(#|\(all ).*|\)$")  # behind a command, or around it


def commands(text: str) -> list[tuple[str, str]]:
    """All commands of a text, as (name, words), but those that only ask for help."""
    found = [(n, COMMENT.sub("", w).strip()) for n, w in WRITTEN.findall(text.replace("\\\n", " "))]
    return [(n, w) for n, w in found if not re.search(r"--help$|^-sc |^check \| |^convert$", w)]


EXAMPLES = dict(re.findall(r"```python\n(?=# (\w+\.py)\n)(.*?)```", TEXTS["docs/extend.md"], re.S))
DATA_WORDS = ("check", "plan", "convert", "draw", "download")
ALL = sorted({pair for text in TEXTS.values() for pair in commands(text)})


@pytest.mark.parametrize(("name", "words"), [pair for pair in ALL if pair[0] != "report"])
def test_printed_commands_compose(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = shlex.split(words)
    if "--config-dir" in arguments:
        pytest.skip("with a file of one's own: run below, and in test_help.py")
    overrides = []
    for argument in arguments:
        if "…" in argument:
            continue  # left to the reader
        if argument == "-m" or (name == "data" and argument in DATA_WORDS):
            continue
        key, sign, value = argument.partition("=")
        if name == "compare" and not sign:
            continue  # what is compared
        if key == "from":
            key = "from_"
        if name == "predict" and not sign:
            key, value = "source", argument
        else:
            assert sign, argument
        if drawn := re.search(r"(?:interval|choice|range)\(([^,)]+)", value):
            value = drawn[1]
        if pattern := re.fullmatch(r"glob\((.*)\)", value):
            value = min((ROOT / "conf" / key).glob(f"{pattern[1]}.yaml")).stem
        swept = "-m" in arguments or "experiment=voc2007_ladder" in arguments
        choices = value.split(",") if swept else [value]
        value = choices[0] if "$" not in value else f"'{value}'".replace("$", "")
        overrides.append(f"{key}={value}")
    register()
    resolvers.register()
    file = "describe" if name == "model" else "convert" if "convert" in arguments else name
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose(file, overrides)
    assert OmegaConf.to_object(only_given(composed))


def test_there_are_commands_of_each_kind() -> None:
    assert {name for name, _ in ALL} == {*COMMANDS, "model", "report"} - {"describe", "convert"}
    headed = {name for name, text in TEXTS.items() if commands(text)}
    # what the claims have in common
    bare = {"paper/world.yaml", "paper/claim.yaml", "paper/real/claim.yaml"}
    for path in (ROOT / "conf/experiment").rglob("*.yaml"):
        name = str(path.relative_to(ROOT / "conf/experiment"))
        assert name in bare or str(path.relative_to(ROOT)) in headed, name


# ---- and runs ----
ELSEWHERE = {  # what a command needs, or where else it runs
    r"openvino": "OpenVINO, which ends the capture of what is printed: test_export.py",
    r"myshards": "needs shards: tests/data/test_shards.py has some",
    r"trainer=(gpu|ddp)": "GPUs, or several processes: test_gpu.py, test_ddp.py",
    r"launcher=": "a launcher: test_sweeps.py",
    r"voc20\d\d|VOC": "real photos: test_experiments.py draws some, test_predict.py too",
    r"experiment=paper/": "minutes: test_experiments.py runs every one in debug=fast",
    r"weights=|RUN32|finetune": "weights of ImageNet: test_pretrained.py, test_timm_weights.py",
    r"--config-dir|data=folder|run/": "a folder of one's own: test_the_page_on_your_own_data",
    r"^convert": "annotations: test_convert.py",
    r"^plan": "measures for a while: test_plan.py",
    r"debug=profile": "test_profile.py",
    r"logger.uri=": "a server: test_loggers.py",
}
TINY = """
    data.train_images=6 data.val_images=3 data.test_images=2 data.size=[48,56] data.root=drawn
    data.batch_size=2 data.cache=none data.workers=0 model.width=0.25 trainer.max_steps=4
    trainer.val_every=4 trainer.accelerator=cpu trainer.threads=1 logger.panels=1
    """
CONVOLUTIONALIZE = """'sweep.space=["recipe.pretrain_steps=2,0","seed=0,1"]'
    'sweep.claim.settings=["recipe.pretrain_steps=2","recipe.pretrain_steps=0"]'
    """  # of 4 steps, for 400 of 800


def call(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of ours in this process; it must end well."""
    monkeypatch.setattr(sys, "argv", [f"toyfcn-{name}", *words])
    code = None
    try:
        importlib.import_module(f"toyfcn.commands.{name}").main()
    except SystemExit as stop:
        code = stop.code
    assert not code


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, RUN, copies of it, its best.ckpt, photos and docs/extend.md's code."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("photos/a.jpg", "photos/b/c.png", "trip/d.jpg", "one.png", "one.jpg", "photo.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), "teal").save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call("train", [*TINY.split(), "hydra.run.dir=RUN"], patch)
    best = folder / "RUN/checkpoints/best.ckpt"
    for place in (".", "old", "new"):
        (folder / place).mkdir(exist_ok=True)
        shutil.copy(best, folder / place)
    for name in ("RUN_A", "RUN_B", "A", "B"):
        shutil.copytree(folder / "RUN", folder / name)
    for name, code in EXAMPLES.items():
        (folder / name).write_text(code)
    return folder


def test_examples_of_ones_own_code_are_short() -> None:
    assert {
        "mynets.py",
        "mylosses.py",
        "myaugment.py",
        "mydata.py",
        "mycallbacks.py",
        "mymetrics.py",
    } <= set(EXAMPLES)
    assert max(code.count("\n") for code in EXAMPLES.values()) <= 25


def lines_of_code(text: str) -> int:
    """Lines that are neither blank, nor comments, nor docstrings."""
    text = re.sub(r'^ *""".*?"""$', "", text, flags=re.S | re.M)
    return sum(
        line.strip() != "" and not line.lstrip().startswith("#") for line in text.split("\n")
    )


@pytest.mark.slow
def test_ones_own_network_loss_and_data_in_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """docs/extend.md's conf/experiment/mine.yaml as printed; docs/comparison.md counts lines."""
    page = TEXTS["docs/extend.md"]
    (config,) = re.findall(r"```yaml\n(.*?)```", page[page.index("## Files of configs") :], re.S)
    parts = [*(EXAMPLES[f"my{part}.py"] for part in ("nets", "losses", "data")), config]
    counts = [lines_of_code(part) for part in parts]
    (stated,) = re.findall(r"^\| toyfcn \(.*?\).*?$", TEXTS["docs/comparison.md"], re.M)
    assert [int(n) for n in re.findall(r" (\d+) ", stated)] == [*counts, sum(counts)]
    for name, code in EXAMPLES.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for example in EXAMPLES:
        monkeypatch.delitem(sys.modules, example.removesuffix(".py"), raising=False)
    call("train", shlex.split("--config-dir conf experiment=mine hydra.sweep.dir=out"), monkeypatch)
    rows = (tmp_path / "out/results.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    assert "{width:32}" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), ALL)
def test_printed_commands_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None, name: str, words: str
) -> None:
    """As printed, but for the size of what they train on and how long."""
    if name == "demo":
        pytest.skip("serves until it is ended: test_demo.py")
    for pattern, reason in ELSEWHERE.items():
        if re.search(pattern, words) or "…" in words:
            pytest.skip(reason)
    for stands, real in (
        (r"(?<=resume=)outputs/\S+|DIR$", "RUN"),
        (r"outputs/sweeps/\S+", "."),  # of toyfcn-report: a folder that holds runs
        (r"experiment=convolutionalize$", rf"\g<0> {CONVOLUTIONALIZE}"),
        (r"(glob\S+) seed=0,1,2", r"\1 seed=0"),
        (r"$", " sweep.n_trials=2" if "sweep=optuna" in words else ""),
        (r"_images=\d\d+", "_images=5"),
    ):
        words = re.sub(stands, real, words)
    monkeypatch.chdir(home)
    given = shlex.split(words)
    if name == "train" and not re.search(r"\b(resume=RUN|rerun)", words):
        printed = ["data.batch_size="] if "debug=" in words else []
        if "data.root=" in words:  # a folder drawn above, as printed
            printed += re.findall(r"\bdata\.\w+=", words)
        given += [word for word in TINY.split() if not word.startswith(tuple(printed))]
    if "data=custom" in given:
        shapes = ("data.train_images", "data.val_images", "data.test_images", "data.size")
        given = [word for word in given if not word.startswith(shapes)]
    if "model=custom" in given:
        given = [word for word in given if not word.startswith("model.width")]
    monkeypatch.setattr(sys, "path", list(sys.path))
    for example in EXAMPLES:
        monkeypatch.delitem(sys.modules, example.removesuffix(".py"), raising=False)
    if name == "export":
        pytest.importorskip("onnxruntime")
    if name in ("export", "predict") and "ckpt=" not in words:  # printed in a sentence
        given.append("ckpt=best.ckpt")
    call(name, given, monkeypatch)


def test_the_page_on_your_own_data_begins_with_horses(
    voc_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOYFCN_VOC", str(voc_root))
    (script,) = re.findall(r"```python\n(.*?)```", TEXTS["docs/your-own-data.md"], re.S)
    exec(compile(script, "horses", "exec"), {})
    masks, theirs = sorted(Path("horses/masks").iterdir()), "VOCdevkit/VOC2007/SegmentationClass"
    assert [path.stem for path in masks] == sorted(p.stem for p in Path("horses/photos").iterdir())
    assert len(masks) == 30
    for path in masks:
        label = np.asarray(Image.open(voc_root / theirs / path.name))
        found = np.asarray(Image.open(path))
        assert np.array_equal(found == 1, label == 13)
        assert np.array_equal(found == 255, label == 255)


@pytest.mark.slow
def test_the_page_on_your_own_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """docs/your-own-data.md from top to bottom: its files and its commands."""
    text = TEXTS["docs/your-own-data.md"]
    monkeypatch.chdir(tmp_path)
    for part in ("photos", "masks", "labels", "conf/data", "conf/experiment"):
        Path(part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(30, 42):
        noise = rng.integers(0, 256, (60, 72, 3), np.uint8)
        Image.fromarray(noise).save(f"photos/0000{index}.jpg")
        colours = np.zeros((60, 72, 3), np.uint8)
        colours[5:20, 5:30], colours[30:50, 20:60] = (220, 20, 60), (0, 0, 142)
        Image.fromarray(colours).save(f"masks/0000{index}.png")
        Image.fromarray(colours[..., 2] // 71).save(f"labels/0000{index}.png")
    Path("names.txt").write_text("background\nperson\nthing\n")
    for own, block in zip(
        ("data/street", "experiment/street_small"),
        re.findall(r"```yaml\n(.*?)```", text, re.S),
        strict=True,
    ):
        Path(f"conf/{own}.yaml").write_text(block)
    printed = commands(text)
    assert len(printed) >= 8
    for name, words in printed:
        given = shlex.split(words)
        if any("…" in word for word in given):
            continue
        if any("classes_file" in word for word in given):  # labels, not colours
            given = [word.replace("masks=masks", "masks=labels") for word in given]
        if name == "train":
            given += ["trainer.max_steps=2", "trainer.val_every=2", "trainer.accelerator=cpu"]
            given += ["model.width=0.25", "trainer.threads=1"]
        call(name, given, monkeypatch)
    assert Path("predicted/000032.png").is_file()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    wanted = "setup train photos test lint format bench docs tensorboard clean help"
    assert set(wanted.split()) <= targets
    named = {t for text in TEXTS.values() for t in re.findall(r"\bmake ([a-z-]+)`?", text)}
    printed = {t for t in named if t in targets or t.startswith("test")}
    assert {"train", "test"} <= printed <= targets


def lines_of(folder: Path) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in folder.rglob("*.py"))


def test_the_readme_counts_its_lines() -> None:
    """How much there is to read is said to hundreds of lines, and is true within 5 %."""
    found = re.search(r"is ([\d,]+) of ([\d,]+) lines of Python", TEXTS["README.md"])
    assert found is not None
    said_subject, said_all = (int(number.replace(",", "")) for number in found.groups())
    source = ROOT / "src/toyfcn"
    packages = ("config", "data", "models", "training", "evaluation")
    subject, everything = sum(lines_of(source / name) for name in packages), lines_of(source)
    assert abs(said_subject / subject - 1) < 0.05
    assert abs(said_all / everything - 1) < 0.05
    assert subject / everything >= 0.45


def test_the_readme_uses_public_names() -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.S))
    compile(code, "README.md", "exec")
    named = set(re.findall(r"\btoyfcn\.([A-Za-z]+)\(", code))
    assert {"train", "load", "evaluate", "VOCReader"} <= named
    assert named <= set(toyfcn.__all__)


@pytest.mark.slow
def test_the_readme_runs_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None, tiny_voc: Path
) -> None:
    """As printed, but for the size of what it trains on and how long."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), "teal").save("photo.jpg")
    images = {"train_images": 6, "val_images": 3, "test_images": 2, "size": [48, 56]}
    small = ", ".join(f"{key}={value}" for key, value in images.items())
    options = [f"data.{key}={value}".replace(" ", "") for key, value in images.items()]
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.S):
        for printed, tiny in (
            ('"trainer.max_steps=500"', ", ".join(map(repr, ["trainer.max_steps=4", *options]))),
            ("ShapesConfig()", f"ShapesConfig(root='own', batch_size=2, {small})"),
            ("=500", "=4"),
            ('VOCReader("data", 2007, "train")', f'VOCReader({str(tiny_voc)!r}, 2007, "train")'),
            ("batch_sz=10", "batch_sz=2"),
        ):
            block = block.replace(printed, tiny)
        exec(block, scope)
    labels, scores = scope["labels"], scope["scores"]
    assert isinstance(labels, np.ndarray) and labels.shape == (40, 50)
    assert isinstance(scores, dict) and 0 <= scores["miou"] <= 1
