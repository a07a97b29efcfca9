"""Every command that README.md, docs/ and conf/ print composes; every make target exists."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from toyfcn import config

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(ROOT.glob("*.md")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "conf/experiment").rglob("*.yaml"),
]
COMMAND = re.compile(
    r"^[#$\s`]*(?:train on it: )?(toyfcn-(?:train|eval|predict|export|data)) +([^`\n]*)", re.M
)
CONFIGS = {name: name for name in ("train", "eval", "predict", "export", "data")}


def commands() -> list[tuple[str, str]]:
    found = [
        pair for path in TEXTS for pair in COMMAND.findall(path.read_text().replace("\\\n", " "))
    ]
    return sorted({(name.removeprefix("toyfcn-"), words.strip()) for name, words in found})


@pytest.mark.parametrize(("name", "words"), commands())
def test_printed_commands_compose(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = shlex.split(words, comments=True)
    overrides = []
    for argument in arguments:
        if "…" in argument:
            continue  # left to the reader
        if argument.startswith("-") and argument != "-m":
            pytest.skip(f"{argument} is Hydra's own")
        if argument == "-m" or "=" not in argument:  # multirun; the first word of toyfcn-data
            continue
        key, _, value = argument.partition("=")
        if drawn := re.search(r"(?:interval|choice|range)\(([^,)]+)", value):
            value = drawn[1]
        if pattern := re.fullmatch(r"glob\((.*)\)", value):
            value = min((ROOT / "conf" / key).glob(f"{pattern[1]}.yaml")).stem
        choices = value.split(",") if "-m" in arguments else [value]
        value = choices[0] if not re.search(r"[${}]", value) else f"'{value}'".replace("$", "")
        overrides.append(f"{key}={value}")
    config.register()
    OmegaConf.register_new_resolver("short_id", lambda: "0", replace=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose(CONFIGS[name], overrides)
    assert OmegaConf.to_object(composed)


def test_there_are_commands_of_each_kind() -> None:
    assert {name for name, _ in commands()} == set(CONFIGS)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    wanted = "setup train test lint format bench docs tensorboard clean help"
    assert set(wanted.split()) <= targets
    named = {t for path in TEXTS for t in re.findall(r"\bmake ([a-z-]+)`?", path.read_text())}
    printed = {t for t in named if t in targets or t.startswith("test")}
    assert {"train", "test"} <= printed <= targets
