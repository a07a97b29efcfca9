"""Hydra's sweep syntax as Optuna's distributions; samplers; which GPU a job gets."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from toyfcn.cli import resolvers
from toyfcn.config.sweep import SweepConfig
from toyfcn.sweep.jobs import quoted
from toyfcn.sweep.search import distribution, grid_size, make_sampler, mend, values


def parsed(text):
    return OverridesParser.create().parse_override(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=interval(0.5, 2)", FloatDistribution(0.5, 2.0)),
        ("a=tag(log, interval(0.001, 0.1))", FloatDistribution(0.001, 0.1, log=True)),
        ("a=int(interval(1, 9))", IntDistribution(1, 9)),
        ("a=tag(log, int(interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("a=range(1, 8, 2)", IntDistribution(1, 7, step=2)),
        ("a=choice(x, 'b c', [1,2])", CategoricalDistribution(["x", "b\\ c", "[1,2]"])),
        ("a=4,2", CategoricalDistribution(["4", "2"])),
    ],
)
def test_distributions(text, expected):
    assert distribution(parsed(text)) == expected


@pytest.mark.parametrize("text", ["a=tag(log, interval(0, 1))", "a=tag(fast, interval(0, 1))"])
def test_what_cannot_be_drawn_is_told(text):
    with pytest.raises(ValueError, match=r"a=tag"):
        distribution(parsed(text))


def test_the_grid_sampler_needs_values():
    space = {"a": distribution(parsed("a=range(1, 8, 2)")), "b": distribution(parsed("b=x,y"))}
    assert values(space["a"]) == [1, 3, 5, 7] and grid_size(space) == 8
    with pytest.raises(ValueError, match="choice or range"):
        values(FloatDistribution(0, 1))


@pytest.mark.parametrize("name", ["tpe", "random", "nsgaii"])
def test_a_draw_depends_on_seed_and_number_alone(name):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {"a": FloatDistribution(0, 1)}

    def draw(seed):
        study = optuna.create_study()
        found = []
        for number in range(3):
            study.sampler = make_sampler(SweepConfig(sampler=name, seed=seed), number, space)
            found.append(study.ask(space).params["a"])
        return found

    assert draw(0) == draw(0) != draw(1)
    assert len(set(draw(0))) == 3


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path):
    path = tmp_path / "study.log"
    path.write_bytes(b'{"op": 1}\n{"op"')
    mend(path)
    assert path.read_bytes() == b'{"op": 1}\n'


def test_paths_survive_hydras_grammar():
    for text in ("/a b/c", "it's", "x=1,2", "[a]", "(b)"):
        assert parsed(f"key={quoted(text)}").value() == text


def test_each_job_gets_one_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [resolvers.gpu_of_job(job) for job in range(3)] == ["2", "5", "2"]
    assert resolvers.gpu_of_job(None) == "2,5"  # outside a sweep
    assert resolvers.jobs_at_once() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resolvers.gpu_of_job(1) == "" and resolvers.jobs_at_once() >= 1
