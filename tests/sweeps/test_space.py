"""The trials of a `[sweep]`: which there are, that they stay the same, and what `spec check` says of the table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from roadwork_core.errors import SpecError, UsageError
from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec
from roadwork_core.spec.model import SweepParameter
from roadwork_core.spec.sweeping import range_values
from roadwork_core.sweeps import Trial, trials_of
from roadwork_core.sweeps.space import _draw, _generator

HEAD = """\
spec_version = 1
name = "toy"
[data]
use = "synthetic_roadwork"
[backbone]
use = "small_cnn"
[optimizer]
use = "adamw"
lr = 1e-3
"""
FIRST = HEAD.count("\n") + 1


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


def trials(tmp_path: Path, plugins: Plugins, table: str, overrides: tuple[str, ...] = ()) -> list[Trial]:
    path = tmp_path / "toy.toml"
    path.write_text(HEAD + table)
    return trials_of(path, load_spec(path, plugins, overrides=overrides), plugins, overrides=overrides)


def test_a_grid_is_every_combination_in_the_order_of_the_keys(tmp_path: Path, plugins: Plugins) -> None:
    table = '[sweep.parameters]\n"optimizer.lr" = { values = [1e-3, 1e-2] }\n"train.epochs" = { low = 2, high = 4 }\n'
    found = trials(tmp_path, plugins, table)
    assert [trial.name for trial in found] == [f"toy-{number}" for number in range(6)]
    assert [tuple(trial.parameters.values()) for trial in found] == [
        (lr, epochs) for lr in (1e-3, 1e-2) for epochs in (2, 3, 4)
    ]


def test_each_trial_is_a_whole_spec_that_differs_in_what_is_swept_and_in_its_name(
    tmp_path: Path, plugins: Plugins
) -> None:
    found = trials(tmp_path, plugins, '[sweep.parameters]\n"loss.use" = { values = ["cross_entropy", "focal"] }\n')
    base = load_spec(HEAD, plugins).values
    for trial, loss in zip(found, ("cross_entropy", "focal"), strict=True):
        made = load_spec(trial.text, plugins).values
        assert made["sweep"] is None
        assert (made["name"], made["loss"]["use"]) == (trial.name, loss)
        assert {k: v for k, v in made.items() if k not in ("name", "loss")} == {
            k: v for k, v in base.items() if k not in ("name", "loss")
        }


def test_a_key_that_another_one_refers_to_takes_it_along(tmp_path: Path, plugins: Plugins) -> None:
    table = """\
weight_decay = "${train.clip_norm}"
[train]
clip_norm = 0.5
[sweep.parameters]
"train.clip_norm" = { values = [0.25, 0.75] }
"""
    found = [load_spec(trial.text, plugins) for trial in trials(tmp_path, plugins, table)]
    assert [spec.values["optimizer"]["weight_decay"] for spec in found] == [0.25, 0.75]


RANDOM = """\
[sweep]
method = "random"
trials = {trials}
seed = {seed}
[sweep.parameters]
{parameters}
"""
TWO = ('"optimizer.lr" = { low = 1e-5, high = 1e-1, log = true }', '"train.epochs" = { low = 1, high = 50 }')


def drawn(
    tmp_path: Path, plugins: Plugins, parameters: tuple[str, ...] = TWO, *, count: int = 6, seed: int = 1
) -> list[dict[str, Any]]:
    text = RANDOM.format(trials=count, seed=seed, parameters="\n".join(parameters))
    return [dict(trial.parameters) for trial in trials(tmp_path, plugins, text)]


def test_more_trials_keep_the_first_ones_and_the_order_of_the_keys_does_not_matter(
    tmp_path: Path, plugins: Plugins
) -> None:
    few = drawn(tmp_path, plugins)
    assert drawn(tmp_path, plugins, count=9)[:6] == few
    assert drawn(tmp_path, plugins, TWO[::-1]) == few
    assert drawn(tmp_path, plugins, seed=2) != few


def test_a_random_search_repeats_no_trial_and_stops_where_there_are_no_more(tmp_path: Path, plugins: Plugins) -> None:
    found = drawn(tmp_path, plugins, ('"train.epochs" = { low = 1, high = 4 }',), count=30)
    assert sorted(trial["train.epochs"] for trial in found) == [1, 2, 3, 4]


def test_the_type_of_the_key_decides_whether_a_range_is_of_integers(tmp_path: Path, plugins: Plugins) -> None:
    found = drawn(tmp_path, plugins, ('"optimizer.weight_decay" = { low = 0, high = 1 }',))
    assert all(0 < trial["optimizer.weight_decay"] < 1 for trial in found)


@pytest.mark.parametrize("log", [False, True])
def test_draws_are_even_on_their_scale(log: bool) -> None:
    parameter = SweepParameter(low=1e-4, high=1e-1, log=log)
    values = [float(_draw(parameter, False, _generator(0, number, 0, "k"))) for number in range(2000)]
    scale = math.log if log else float
    low, high = scale(1e-4), scale(1e-1)
    assert stats.kstest([(scale(value) - low) / (high - low) for value in values], "uniform").pvalue > 1e-3


@given(st.integers(1, 1000), st.integers(1, 1000), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_an_integer_stays_within_its_range(low: int, width: int, log: bool, seed: int) -> None:
    value = _draw(SweepParameter(low=low, high=low + width, log=log), True, _generator(seed, 0, 0, "k"))
    assert isinstance(value, int)
    assert low <= value <= low + width


def test_steps_are_exact() -> None:
    assert range_values(SweepParameter(low=0.1, high=0.5, step=0.1), integers=False) == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert range_values(SweepParameter(low=1, high=6, step=2), integers=True) == (1, 3, 5)
    assert range_values(SweepParameter(low=0.1, high=0.5), integers=False) is None


def test_a_spec_without_a_sweep_is_wrong_usage(tmp_path: Path, plugins: Plugins) -> None:
    with pytest.raises(UsageError, match=r"has no \[sweep\]"):
        trials(tmp_path, plugins, "")


def test_values_that_do_not_go_together_are_said_before_anything_runs(tmp_path: Path, plugins: Plugins) -> None:
    table = """\
[sweep.parameters]
"train.feature_cache" = { values = ["auto", "off"] }
"train.feature_views" = { values = [2, 3] }
[[augment]]
use = "horizontal_flip"
"""
    with pytest.raises(SpecError) as caught:
        trials(tmp_path, plugins, table)
    assert [str(p).split("; ")[-1] for p in caught.value.problems()] == ["in the trial toy-2)", "in the trial toy-3)"]


@pytest.mark.parametrize(
    ("table", "line", "said"),
    [
        ("[sweep]\n[sweep.parameters]\n", 2, "sweep.parameters: names no key to vary"),
        (
            "[sweep]\nmethod = 'random'\n[sweep.parameters]\n'train.epochs' = {low=1,high=2}\n",
            1,
            "sweep.trials: a random",
        ),
        (
            "[sweep]\ntrials = 3\n[sweep.parameters]\n'train.epochs' = {low=1,high=2}\n",
            2,
            "sweep.trials: a grid carries",
        ),
        ("[sweep]\nmethod = 'tpe'\n[sweep.parameters]\n'train.epochs' = {low=1,high=2}\n", 1, "sweep.trials: a tpe"),
        ("[sweep]\nprune = 'median'\n[sweep.parameters]\n'train.epochs' = {low=1,high=2}\n", 2, "another method"),
        (
            "[sweep]\nmethod = 'tpe'\ntrials = 2\nprune_after = 2\n"
            "[sweep.parameters]\n'loss.use' = {values=['focal']}\n",
            4,
            "sweep.prune_after: says when to prune",
        ),
        (
            "[sweep]\nmethod = 'tpe'\ntrials = 2\nprune = 'median'\n"
            "[sweep.parameters]\n'train.epochs' = {low=1,high=2}\n",
            4,
            "sweep.prune: trials of different lengths",
        ),
        ("[sweep.parameters]\n'optimizer.lr' = {values=[1e-3, 'a']}\n", 2, "optimizer.lr: expected a number"),
        ("[sweep.parameters]\n'optimizer.lr' = {low=-1.0, high=1.0, step=0.5}\n", 2, "optimizer.lr: must be above 0"),
        ("[sweep.parameters]\n'train.epoch' = {low=1, high=2}\n", 2, 'train.epoch: unknown key "epoch" of [train]'),
        ("[sweep.parameters]\n'loss.use' = {values=['focl']}\n", 2, 'loss.use: unknown loss "focl"'),
        ("[sweep.parameters]\n'trian.epochs' = {low=1, high=2}\n", 2, 'unknown key "trian" of the spec'),
        ("[sweep.parameters]\n'data.n' = {values=[8]}\n", 2, "cannot be swept: a sweep varies"),
        ("[sweep.parameters]\n'train.select_by' = {values=['f1']}\n", 2, "cannot be swept: trials are compared by it"),
        ("[sweep.parameters]\n'optimizer.lr' = {low=0.1}\n", 2, "needs values, or both low and high"),
        ("[sweep.parameters]\n'optimizer.lr' = {step=0.2, values=[1.0]}\n", 2, "belongs to a range"),
        ("[sweep.parameters]\n'optimizer.lr' = {low=0.3, high=0.2}\n", 2, "low must be below high"),
        ("[sweep.parameters]\n'optimizer.lr' = {low=0.1, high=0.2}\n", 2, "a grid needs values"),
        ("[sweep.parameters]\n'optimizer.lr' = {values=[0.1, 0.1]}\n", 2, "names a value twice"),
        ("[sweep.parameters]\n'optimizer.lr' = {low=0, high=1, log=true}\n", 2, "must be above 0 for a logarithm"),
        (
            "[sweep.parameters]\n'train.epochs' = {low=1, high=9000}\n'loss.use' = {values=['focal', 'poly']}\n",
            1,
            "18,000",
        ),
        ("[sweep.parameters]\n'optimizer.lr' = {value=[1]}\n", 2, 'unknown key "value"'),
    ],
)
def test_what_is_wrong_is_said_at_its_line(plugins: Plugins, table: str, line: int, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(HEAD + table, plugins)
    [problem] = caught.value.problems()
    assert said in str(problem)
    assert problem.origin is not None
    assert problem.origin.line == FIRST + line - 1
