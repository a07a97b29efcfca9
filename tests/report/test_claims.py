"""Verdicts on claims, against hand-computed intervals."""

import json
import math
from pathlib import Path

import pytest
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from toyfcn.config.sweep import ClaimConfig
from toyfcn.report.claims import Judgement, compare, judge, lines
from toyfcn.report.results import collect

BETTER = ClaimConfig(text="a beats b", settings=["k=a", "k=b"])
SAME = ClaimConfig(text="no difference", settings=["k=a", "k=b"], kind="same", margin=0.02)


def verdict(differences: list[float], claim: ClaimConfig) -> str:
    ours = {str(seed): 0.5 + d for seed, d in enumerate(differences)}
    theirs = {str(seed): 0.5 for seed in range(len(differences))}
    return compare("k=a", "k=b", ours, theirs, claim).verdict


def test_the_interval_is_students() -> None:
    found = compare("a", "b", {"0": 1.0, "1": 2.0, "2": 3.0}, dict.fromkeys("012", 0.0), BETTER)
    # std of 1, 2, 3 is 1; t(95 %, 2 degrees of freedom) = 2.920
    assert found.mean == 2 and math.isclose(found.bound, 2.920 / math.sqrt(3))


@pytest.mark.parametrize(
    ("differences", "claim", "said"),
    [
        ([0.1, 0.12, 0.11], BETTER, "holds"),
        ([-0.1, -0.12, -0.11], BETTER, "does not hold"),
        ([0.1, -0.1, 0.05], BETTER, "undecided"),
        ([0.1], BETTER, "undecided"),
        ([0.001, -0.002, 0.0], SAME, "holds"),
        ([0.1, 0.11, 0.12], SAME, "does not hold"),
        ([0.1, -0.1, 0.0], SAME, "undecided"),
    ],
)
def test_verdicts(differences: list[float], claim: ClaimConfig, said: str) -> None:
    assert verdict(differences, claim) == said


def test_only_equal_seeds_are_compared() -> None:
    found = compare("a", "b", {"0": 0.5, "1": 0.9}, {"1": 0.4, "2": 0.1}, BETTER)
    assert found.differences == (0.5,)
    (said,) = lines(Judgement("a beats b", {}, (found,)))
    assert said == "a against b: fewer than two seeds in common: undecided"


def test_a_sweeps_folder_is_judged(tmp_path: Path) -> None:
    jobs = []
    for number, (kind, seed, score) in enumerate(
        [("a", 0, 0.6), ("a", 1, 0.62), ("b", 0, 0.5), ("b", 1, 0.51), ("b", 2, 0.9)]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "run.json").write_text(json.dumps({"status": "finished"}))
        (place / "metrics.json").write_text(json.dumps({"val": {"miou": score}, "test": None}))
        jobs.append({"name": str(number), "parameters": {"k": kind, "seed": str(seed)}})
    claim = {"text": "a beats b", "settings": ["k=a", "k=b"]}
    plan = {"metric": "val.miou", "parameters": {"k": "a,b", "seed": "0,1,2"}, "claim": claim}
    (tmp_path / "sweep.json").write_text(json.dumps(plan | {"jobs": jobs}))
    judgement = judge(collect(tmp_path))
    assert judgement is not None and judgement.verdict == "holds"
    assert judgement.scores == {
        "k=a": {"0": 0.6, "1": 0.62},
        "k=b": {"0": 0.5, "1": 0.51, "2": 0.9},
    }


CLAIMS = [
    path
    for path in sorted((Path(__file__).parents[2] / "conf" / "experiment").rglob("*.yaml"))
    if "claim" in (yaml.safe_load(path.read_text()).get("sweep") or {})
]


@pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
def test_every_claims_settings_are_those_of_its_sweep(path: Path, tmp_path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())["sweep"]
    parsed = OverridesParser.create().parse_overrides(sweep["space"])
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    jobs = []
    for number, words in enumerate(combinations):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "run.json").write_text(json.dumps({"status": "finished"}))
        (place / "metrics.json").write_text(json.dumps({"val": {"miou": 0.5}, "test": None}))
        parameters = dict(word.split("=", 1) for word in words)
        jobs.append({"name": str(number), "parameters": parameters})
    names = {override.get_key_element(): "" for override in parsed}
    plan = {"metric": "val.miou", "parameters": names, "claim": sweep["claim"], "jobs": jobs}
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    judgement = judge(collect(tmp_path))
    assert judgement is not None
    seeds = {job["parameters"]["seed"] for job in jobs}
    assert len(seeds) >= 3
    assert {setting: set(found) for setting, found in judgement.scores.items()} == dict.fromkeys(
        sweep["claim"]["settings"], seeds
    )


def test_a_claim_needs_settings() -> None:
    with pytest.raises(ValueError, match=r"sweep.claim.text needs two or more"):
        ClaimConfig(text="this")


def test_a_lower_loss_is_better() -> None:
    ours, theirs = {"0": 1.0, "1": 1.1, "2": 1.05}, {"0": 1.5, "1": 1.62, "2": 1.54}
    assert compare("a", "b", ours, theirs, BETTER, lower=True).verdict == "holds"
    assert compare("b", "a", theirs, ours, BETTER, lower=True).verdict == "does not hold"
