"""The search that learns: its trials follow from seed, number and figures, also after a kill; hopeless ones end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roadwork_core.cli import main
from roadwork_core.errors import Problem, SpecError, UsageError
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Run
from roadwork_core.runs.engine import mark_pruned
from roadwork_core.spec.model import SweepParameter
from roadwork_core.sweeps import Result, Trial
from roadwork_core.sweeps.engine import Ending, Engine
from roadwork_core.sweeps.importance import importance_by_forest
from roadwork_core.sweeps.results import Interval
from roadwork_core.sweeps.study import State, Study
from roadwork_core.sweeps.tpe import TpeSearch, distributions_of
from roadwork_core.training.checkpoint import HEADER
from roadwork_core.training.snapshot import CHECKPOINT
from tests.e2e.pictures import draw
from tests.e2e.tiny import tiny_spec

from .tpe_driver import PARAMETERS, carry_out, make_search, objective


def values(search: Any) -> list[dict[str, Any]]:
    return [dict(record.parameters) for record in search.records()]


@pytest.fixture(scope="module")
def whole() -> list[dict[str, Any]]:
    """The trials of a sweep that nothing disturbs."""
    search = make_search(None)
    carry_out(search)
    return values(search)


def test_trials_are_within_their_ranges_and_all_different(whole: list[dict[str, Any]]) -> None:
    assert len(whole) == 14
    assert len({repr(trial) for trial in whole}) == 14
    for trial in whole:
        assert 1e-5 <= trial["lr"] <= 1e-1
        assert type(trial["layers"]) is int
        assert 1 <= trial["layers"] <= 9
        assert trial["smoothing"] in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
        assert trial["loss"] in ("a", "b", "c")


def test_figures_steer_the_draws() -> None:
    search = make_search(None, trials=40)
    carry_out(search)
    figures = [objective(trial) for trial in values(search)]
    assert np.median(figures[-15:]) > np.median(figures[:5]) + 0.5


def test_another_seed_draws_others_and_more_trials_keep_the_first_ones(whole: list[dict[str, Any]]) -> None:
    other, more = make_search(None, seed=4, trials=2), make_search(None, trials=16)
    carry_out(other)
    carry_out(more)
    assert values(other)[0] != whole[0]
    assert values(more)[:14] == whole


# 1 is after the first trial was written down, 2 after its figure, and so on; the random draws end at 10.
@pytest.mark.parametrize("event", [1, 14])
def test_a_killed_sweep_draws_what_it_would_have_drawn(tmp_path: Path, whole: list[dict[str, Any]], event: int) -> None:
    command = [sys.executable, "-m", "tests.sweeps.tpe_driver", str(tmp_path), str(event)]
    killed = subprocess.run(command, env=os.environ, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    search = make_search(tmp_path)
    assert len(search.records()) == (event + 1) // 2
    carry_out(search)
    assert values(search) == whole
    assert all(record.state is State.FINISHED for record in search.records())
    assert carry_out(make_search(tmp_path)) == []


def test_a_study_is_one_that_optuna_opens(tmp_path: Path) -> None:
    import optuna

    folder = tmp_path / "a folder?with #odd%20 name"
    carry_out(make_search(folder, trials=3))
    assert sorted(path.name for path in folder.iterdir()) == ["study.sqlite3"]
    import sqlalchemy

    url = sqlalchemy.URL.create("sqlite", database=str(folder / "study.sqlite3")).render_as_string()
    loaded = optuna.load_study(study_name="toy-sweep", storage=url)
    assert loaded.best_value == max(objective(trial.params) for trial in loaded.trials)


def test_a_study_of_another_spec_is_refused(tmp_path: Path) -> None:
    Study(tmp_path, name="toy-sweep", maximise=True, made_for={"metric": "mcc", "seed": 1})
    with pytest.raises(UsageError, match="seed changed since"):
        Study(tmp_path, name="toy-sweep", maximise=True, made_for={"metric": "mcc", "seed": 2})


def test_a_small_space_is_drawn_whole_and_no_further() -> None:
    parameters = {"layers": SweepParameter(low=1, high=3), "loss": SweepParameter(values=("a", "b"))}
    search = make_search(None, trials=9, value=lambda p: float(p["layers"]), parameters=parameters)
    carry_out(search)
    assert sorted((trial["layers"], trial["loss"]) for trial in values(search)) == [
        (layers, loss) for layers in (1, 2, 3) for loss in ("a", "b")
    ]
    assert search.undrawn() == 3


def test_a_failed_trial_is_tried_again_and_what_became_of_it_last_counts(tmp_path: Path) -> None:
    search = make_search(tmp_path, trials=1)
    [trial] = search.trials()
    search.ended(Ending(trial=trial, code=1, error="the disk is full"))
    [result] = search.results(str)
    assert (result.code, result.error, result.status) == (1, "the disk is full", "failed")
    again = make_search(tmp_path, trials=1)
    assert [found.parameters for found in carry_out(again)] == [trial.parameters]
    assert [record.state for record in again.records()] == [State.FINISHED]


def test_values_that_do_not_go_together_fail_their_trial_and_no_later_command(tmp_path: Path) -> None:
    said: list[str] = []

    def searching(trials: int) -> TpeSearch:
        search = make_search(tmp_path, trials=trials)
        make = search.make

        def refusing(number: int, parameters: Mapping[str, Any]) -> Trial:
            if number == 1:
                raise SpecError([Problem("low must be below high")])
            return make(number, parameters)

        search.make, search.warn = refusing, said.append
        return search

    assert [trial.number for trial in carry_out(searching(3))] == [0, 2]
    again = searching(4)
    assert [(known.name, known.status) for known in again.known()] == [
        ("toy-0", "finished"),
        ("toy-1", "failed"),
        ("toy-2", "finished"),
    ]
    assert [trial.number for trial in carry_out(again)] == [3]
    assert all("low must be below high" in line for line in said)


def test_a_finished_trial_whose_run_is_gone_is_carried_out_again(tmp_path: Path) -> None:
    carry_out(make_search(tmp_path, trials=2))
    assert len(carry_out(make_search(tmp_path, trials=2, done=False))) == 2


def write_epochs(run: Run, figures: list[float]) -> None:
    """A checkpoint that tells of these epochs."""
    from safetensors.numpy import save_file

    history = [{"epoch": number, "mcc": figure} for number, figure in enumerate(figures, 1)]
    folder = run.scratch("train")
    folder.mkdir(parents=True, exist_ok=True)
    state = {"position": {"history": history}}
    save_file({"x": np.zeros(1)}, folder / CHECKPOINT, metadata={HEADER: json.dumps(state)})


@pytest.mark.parametrize("prune", ["median", "hyperband"])
def test_a_trial_that_falls_behind_is_ended_and_one_that_leads_is_not(tmp_path: Path, prune: str) -> None:
    search = make_search(tmp_path, trials=9, startup_trials=4, prune=prune)
    trials = search.trials()
    for rank in range(4):
        trial = next(trials)
        for epochs in range(1, 6):
            write_epochs(search.run_of(trial.name), [0.1 * rank + 0.1 * epoch for epoch in range(epochs)])
            assert search.hopeless(trial) is None, "nothing is pruned before startup_trials have finished"
        search.ended(Ending(trial=trial, code=0, error=None))
    ended = []
    for level in (-0.5, 0.9, -0.6, -0.7):
        trial = next(trials)
        write_epochs(search.run_of(trial.name), [level] * 5)
        stop = search.hopeless(trial)
        if stop is not None:
            assert (stop.value, stop.epoch < 5) == (level, True)
            ended.append(level)
        search.ended(Ending(trial=trial, code=0 if stop is None else 130, error=None, stop=stop))
    assert 0.9 not in ended
    assert ended if prune == "hyperband" else ended == [-0.5, -0.6, -0.7]
    states = [record.state for record in search.records()]
    assert states.count(State.PRUNED) == len(ended)
    # Pruned ones stay so: the same command leaves them alone.
    again = make_search(tmp_path, trials=8, startup_trials=4, prune=prune)
    assert [trial.name for trial in again.trials()] == []


def finish(search: TpeSearch, trial: Trial, level: float) -> None:
    """One that comes to its end, as far as `hopeless` lets it."""
    write_epochs(search.run_of(trial.name), [level] * 5)
    stop = search.hopeless(trial)
    search.ended(Ending(trial=trial, code=0 if stop is None else 130, error=None, stop=stop))


def test_what_is_known_of_other_data_counts_for_nothing(tmp_path: Path) -> None:
    """Figures that the data of today do not reach: they prune no trial, draw none, and are in no report."""
    options: dict[str, Any] = {"trials": 6, "startup_trials": 2, "prune": "median", "value": lambda _: 0.9}
    before = make_search(tmp_path, **options)
    for trial, level in zip(before.trials(), (0.9, 0.9, 0.9, 0.9, 0.9, 0.1), strict=True):
        finish(before, trial, level)
    assert [str(record.state) for record in before.records()] == [*["finished"] * 5, "pruned"]
    drawn = values(before)

    today: set[str] = set()
    search = make_search(tmp_path, **options | {"trials": 8, "value": lambda _: -0.5})
    search.is_done = search.has_these_data = lambda trial: trial.name in today
    assert {known.status for known in search.known()} == {"pending"}
    trials = search.trials()
    for number in range(8):
        trial = next(trials)
        figures = [record.figure for record in search.study.records() if record.state is State.FINISHED]
        assert figures == [-0.5] * number
        today.add(trial.name)
        finish(search, trial, -0.5)
    assert next(trials, None) is None
    assert [str(record.state) for record in search.records()] == ["finished"] * 8
    assert values(search)[:6] == drawn
    assert [result.pruned for result in search.results(str)] == [None] * 8

    again = make_search(tmp_path, **options | {"trials": 8})
    assert list(again.trials()) == []
    assert {record.figure for record in again.records()} == {-0.5}


def test_epochs_of_other_data_go_with_a_trial_that_was_cut_off(tmp_path: Path) -> None:
    before = make_search(tmp_path, trials=1, prune="median")
    trial = next(before.trials())
    write_epochs(before.run_of(trial.name), [0.9] * 3)
    before.hopeless(trial)
    assert [len(record.epochs) for record in before.records()] == [3]
    assert next(make_search(tmp_path, trials=1, prune="median").trials()) == trial, "the same data: it goes on"
    other = make_search(tmp_path, trials=1, prune="median", done=False)
    assert next(other.trials()) == trial
    assert [(record.state, dict(record.epochs)) for record in other.records()] == [(State.RUNNING, {})]


def test_a_study_that_is_killed_while_it_is_renewed_is_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(make_search(tmp_path, trials=4))
    search = make_search(tmp_path, trials=4)
    before, storage = search.study.records(), search.study._storage
    create, left = storage.create_new_trial, iter(range(2))

    def killed(*arguments: Any, **named: Any) -> Any:
        next(left)
        return create(*arguments, **named)

    monkeypatch.setattr(storage, "create_new_trial", killed)
    with pytest.raises(StopIteration):
        search.study.renew([1])
    opened = make_search(tmp_path, trials=4).study
    assert opened.records() == before
    opened.renew([1])
    states = [record.state for record in make_search(tmp_path, trials=4).records()]
    assert states == [State.FINISHED, State.RUNNING, State.FINISHED, State.FINISHED]


@pytest.mark.slow
def test_pictures_that_changed_are_other_data(tmp_path: Path) -> None:
    from roadwork_core.cli.sweep import _has_these_data

    pictures = draw(tmp_path / "pictures", sequences=20, frames=3)
    path = tiny_spec(tmp_path, pictures=pictures, epochs=1)
    assert main(["run", str(path), "--runs-dir", str(tmp_path), "-q"]) == 0
    engine = Engine(folder=tmp_path / "sweep", runs_dir=tmp_path, jobs=1, tell=lambda text: None)
    trial = Trial(name="tiny", number=0, parameters={}, text=path.read_text())
    plugins = Plugins.load()
    assert _has_these_data(trial, engine, plugins)
    changed = next(pictures.rglob("*.png"), None) or next(pictures.rglob("*.jpg"))
    Image.open(changed).convert("L").save(changed)
    assert not _has_these_data(trial, engine, plugins)


def test_without_pruning_nothing_is_ended(tmp_path: Path) -> None:
    search = make_search(tmp_path, trials=2, startup_trials=1)
    trials = search.trials()
    search.ended(Ending(trial=next(trials), code=0, error=None))
    trial = next(trials)
    write_epochs(search.run_of(trial.name), [-9.0] * 5)
    assert search.hopeless(trial) is None


def test_a_pruned_run_says_so_and_keeps_no_checkpoint(tmp_path: Path) -> None:
    run = Run(name="toy-0", path=tmp_path / "toy-0")
    write_epochs(run, [0.1])
    (run.path / "run.json").write_text(json.dumps({"name": "toy-0", "result": {"status": "interrupted"}}))
    mark_pruned(run, epoch=1, metric="mcc", value=0.1)
    result = json.loads((run.path / "run.json").read_bytes())["result"]
    assert result["status"] == "pruned"
    assert result["pruned"] == {"epoch": 1, "metric": "mcc", "value": 0.1}
    assert not run.scratch("train").exists()


def planted(count: int, noise: float) -> list[Result]:
    """Trials drawn evenly, whose figure has 0.9 of its variance from lr (in the logarithm), 0.1 from layers."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        place, layers = rng.random(), int(rng.integers(1, 10))
        figure = 3 * place + (layers - 5) / 8.94 + noise * rng.normal()
        parameters = {"lr": float(10 ** (4 * place - 5)), "layers": layers}
        interval = Interval(value=figure, low=figure, high=figure)
        found.append(Result(name=str(number), run_dir="", parameters=parameters, figure=interval))
    return found


def test_importance_finds_planted_shares_also_on_a_logarithmic_range() -> None:
    search = make_search(None, parameters={key: PARAMETERS[key] for key in ("lr", "layers")})
    found, note = importance_by_forest(
        planted(80, 0.0), distributions_of(search.sweep, search.integers), gathered=True, resamples=2
    )
    assert found is not None
    shares = {entry["key"]: entry["share"] for entry in found}
    assert shares["lr"] == pytest.approx(0.9, abs=0.06)
    assert "settled early" in note


def test_importance_is_not_made_up_of_noise_or_of_few_trials() -> None:
    search = make_search(None, parameters={key: PARAMETERS[key] for key in ("lr", "layers")})
    distributions = distributions_of(search.sweep, search.integers)
    found, note = importance_by_forest(planted(60, 9.0), distributions, gathered=False)
    assert found is None
    assert "would be chance" in note
    assert importance_by_forest(planted(20, 0.0), distributions, gathered=False)[0] is None


TPE = """
select_by = "nll"
[evaluate]
bootstrap = 100
[sweep]
method = "tpe"
trials = 2
seed = 2
startup_trials = 1
prune = "median"
[sweep.parameters]
"optimizer.lr" = { values = [0.003, 1e-9] }
"""


@pytest.mark.slow
def test_a_search_with_pruning_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, runs = tiny_spec(tmp_path, n=160, epochs=6, extra=TPE), tmp_path / "runs"
    command = ["sweep", str(spec), "--runs-dir", str(runs)]
    assert main([*command, "--json", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["undrawn"] == 2
    assert not (runs / "tiny-sweep").exists()

    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    good, bad = found["trials"]
    assert [good["parameters"]["optimizer.lr"], good["status"]] == [0.003, "finished"]
    assert [bad["parameters"]["optimizer.lr"], bad["status"]] == [1e-9, "pruned"]
    assert bad["pruned"]["epoch"] < 6
    assert found["best"]["name"] == "tiny-0"
    page = Path(found["report"]).read_text()
    assert "1 of 2 trials finished, 1 pruned" in page

    assert main(["runs", "list", "--runs-dir", str(runs), "--json"]) == 0
    assert [run["status"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["ok", "pruned"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "2 trials, 2 finished before" in said.err
    assert "started" not in said.err
