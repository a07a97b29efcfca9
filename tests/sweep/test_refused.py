"""What a sweep cannot heed is refused before a job runs; what a sweep alone heeds, without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer, Command
from hydra.core.override_parser.overrides_parser import OverridesParser

from toyfcn.sweep.search import distribution
from toyfcn.training import run as training


@pytest.fixture
def refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs toyfcn-train, which must not train, and returns its one line."""

    def trained(*_: Any) -> None:
        raise AssertionError("it has trained")

    monkeypatch.setattr(training, "train", trained)

    def start(*words: str) -> str:
        answer: Answer = command("train", *words)
        assert answer.code == 2 and answer.err.count("\n") == 1, answer
        return answer.err

    return start


@pytest.mark.parametrize(
    "words",
    [
        "sweep.space=['recipe.lr=0.1']",
        "sweep=optuna",
        "sweep.name=mine",
        "sweep.claim.margin=0.5",
        "hydra.sweep.dir=mine",
    ],
)
def test_a_sweeps_options_need_a_sweep(refused: Callable[..., str], words: str) -> None:
    assert "-m" in refused(*words.split())


def test_what_places_no_job(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "hydra.sweep.dir=" in refused("-m", "seed=0,1", "hydra.run.dir=x")
    assert "its number" in refused("-m", "seed=0,1", "hydra.sweep.subdir=x")
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\nhydra: {sweep: {subdir: '${seed}'}}\n"
    (tmp_path / "experiment/mine.yaml").write_text(own)
    words = ("-m", "--config-dir", str(tmp_path), "experiment=mine", "seed=0,1")
    assert "its number" in refused(*words)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("sweep: {space: ['seed=0,1']}", "sweep: {space: ['seed=2,3']}", "sweep.space"),
        ("seed: 1", "optimized_metric: val.loss", "optimized_metric"),
        ("seed: 1", "sweep: {direction: minimize}", "sweep.direction"),
    ],
)
@pytest.mark.parametrize("method", ["grid", "optuna"])
def test_jobs_that_mean_other_sweeps(
    refused: Callable[..., str], tmp_path: Path, a: str, b: str, told: str, method: str
) -> None:
    (tmp_path / "experiment").mkdir()
    for name, text in {"a": a, "b": b}.items():
        (tmp_path / f"experiment/{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    own = ("--config-dir", str(tmp_path), f"sweep={method}")
    assert f"{told} is of the whole sweep" in refused("-m", *own, "experiment=a,b")


@pytest.mark.parametrize("swept", ["launcher=basic,joblib", "sweep=grid,optuna"])
def test_a_sweep_has_one_of_these(refused: Callable[..., str], swept: str) -> None:
    assert "a sweep has one" in refused("-m", swept)


def test_tags_that_nothing_heeds(refused: Callable[..., str]) -> None:
    assert "no use for tags" in refused("-m", "recipe.lr=tag(log,choice(0.1,0.2))")
    for text in ("a=tag(log, choice(1, 2))", "a=tag(log, range(0.1, 1, 0.1))"):
        with pytest.raises(ValueError, match=r"^a=tag"):
            distribution(OverridesParser.create().parse_override(text))
    drawn = distribution(OverridesParser.create().parse_override("a=tag(log, range(1, 64))"))
    assert drawn.log and (drawn.low, drawn.high) == (1, 63)


def test_what_nothing_heeds_in_a_grid_or_without_validations(refused: Callable[..., str]) -> None:
    assert "sweep.n_trials=3 has an effect with sweep=optuna" in refused("-m", "sweep.n_trials=3")
    words = ("sweep=optuna", "recipe.lr=1,2", "data.val_split=null", "optimized_metric=test.loss")
    assert "set sweep.pruner=none" in refused("-m", *words)
