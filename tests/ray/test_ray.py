"""On a Ray of this machine: trials and predictions are what one process gives, also where workers are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from roadwork_core import extras
from roadwork_core.bundle import Prediction, load
from roadwork_core.bundle.images import Source, find_images
from roadwork_core.bundle.ray_predictor import BATCHES, RayPredictor
from roadwork_core.cli import main
from roadwork_core.errors import RoadworkError, UsageError
from roadwork_core.ray_cluster import connected, needs_of, room_for
from roadwork_core.runs import Run
from roadwork_core.sweeps.ray_tasks import RayProcess, RayStarter
from tests.bundle import toy
from tests.e2e.tiny import tiny_spec

from .scorers import DyingAlways, DyingOnce
from .toy_scorer import ToyScorer

# Not imported here: what `connected` says to Ray must stand before.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
BATCH = 2


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Ray for the module; commands that want one find it."""
    root = Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        # The workers find the actors of these tests.
        patch.setenv("PYTHONPATH", str(root))
        patch.delenv("RAY_ADDRESS", raising=False)
        with connected() as started:
            yield started


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(RoadworkError, match=r"uv pip install '\.\[ray\]'"), connected():
        pass


def test_without_ray_a_sweep_begins_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    spec = tiny_spec(tmp_path, extra="[sweep.parameters]\n'optimizer.lr' = { values = [0.1, 0.2] }\n")
    assert main(["sweep", str(spec), "--engine", "ray", "--runs-dir", str(tmp_path / "runs")]) == 1
    assert "--engine ray needs what is not installed: ray (" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_options_of_the_engine_are_refused_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tiny_spec(tmp_path, extra="[sweep.parameters]\n'train.epochs' = { values = [1, 2] }\n")
    assert main(["sweep", str(spec), "--trial-gpus", "1"]) == 2
    assert "is for --engine ray" in capsys.readouterr().err
    assert main(["predict", str(tmp_path), "x.png", "--actors", "2"]) == 2


def test_a_cluster_without_room_is_said(ray: Any) -> None:
    with pytest.raises(UsageError, match="has no room for one worker with 1 CPU, 1000 GPU"):
        room_for(ray, {"CPU": 1.0, "GPU": 1000.0})
    with pytest.raises(UsageError, match="must take something"):
        room_for(ray, {"CPU": 0.0, "GPU": 0.0})


def started(ray: Any, folder: Path, program: str, *arguments: Path) -> RayProcess:
    starter = RayStarter(ray, needs_of(ray, None, None))
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return starter(
        command, run=Run(name="toy", path=folder / "run"), out=folder / "out", err=folder / "err", environment={}
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.exists()


def test_a_task_gives_the_exit_code_and_the_output_of_its_command(ray: Any, tmp_path: Path) -> None:
    process = started(ray, tmp_path, "import sys; print('said'); sys.exit(3)")
    assert process.wait(60) == 3
    assert process.poll() == 3
    assert (tmp_path / "out").read_text() == "said\n"


def test_a_cancelled_task_ends_its_command_cleanly(ray: Any, tmp_path: Path) -> None:
    program = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[2]).touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""
    process = started(ray, tmp_path, program, tmp_path / "begun", tmp_path / "stopped")
    wait_for(tmp_path / "begun")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.terminate()
    assert process.wait(60) == 130
    wait_for(tmp_path / "stopped")


def test_a_task_whose_machine_is_lost_is_begun_again(ray: Any, tmp_path: Path) -> None:
    program = """
import os, pathlib, sys, time
first, again = map(pathlib.Path, sys.argv[1:])
if first.exists():
    again.touch()
    sys.exit(0)
first.with_suffix(".part").write_text(str(os.getppid()))
first.with_suffix(".part").rename(first)
time.sleep(20)
"""
    process = started(ray, tmp_path, program, tmp_path / "first", tmp_path / "again")
    wait_for(tmp_path / "first")
    os.kill(int((tmp_path / "first").read_text()), signal.SIGKILL)
    assert process.wait(60) == 0
    assert (tmp_path / "again").exists()


def test_a_machine_that_does_not_see_the_files_says_so(ray: Any, tmp_path: Path) -> None:
    starter = RayStarter(ray, needs_of(ray, None, None))
    process = starter(
        [sys.executable, "-c", ""],
        run=Run(name="toy", path=tmp_path / "run"),
        out=tmp_path / "elsewhere" / "out",
        err=tmp_path / "err",
        environment={},
    )
    assert process.wait(60) == 1
    assert "the runs directory must be one that all share" in (tmp_path / "err").read_text()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("toy"))


def draw(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        Image.fromarray(toy.picture(index % 17 / 2 - 4)).save(folder / f"{index:02}.png")
    return folder


def by_ray(ray: Any, bundle: Path, sources: Iterator[Source], scorer: type = ToyScorer) -> Iterator[Prediction]:
    predictor = RayPredictor(
        ray=ray,
        bundle=load(bundle, plugins=toy.plugins()).bundle,
        actors=2,
        needs={"CPU": 1.0, "GPU": 0.0},
        computing={"device": "cpu", "workers": 1},
        scorer=scorer,
    )
    return predictor.stream(sources, batch_size=BATCH)


def here(bundle: Path, folder: Path) -> list[Prediction]:
    predictor = load(bundle, plugins=toy.plugins(), device="cpu")
    return list(predictor.stream(find_images([str(folder)]), batch_size=BATCH))


def test_predictions_are_those_of_one_process_in_its_order_with_few_pictures_held(
    ray: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "pictures", 45)
    (tmp_path / "pictures" / "07.png").write_bytes(b"broken")
    # Paths as they were asked for, also where workers have another working directory.
    monkeypatch.chdir(tmp_path)
    folder = Path("pictures")
    ahead, taken = 0, 0

    def counted() -> Iterator[Source]:
        nonlocal taken
        for source in find_images([str(folder)]):
            taken += 1
            yield source

    found = []
    for prediction in by_ray(ray, bundle, counted()):
        found.append(prediction)
        ahead = max(ahead, taken - len(found))
    expected = here(bundle, folder)
    assert [json.dumps(one.to_json()) for one in found] == [json.dumps(one.to_json()) for one in expected]
    assert sum(one.error is not None for one in found) == 1
    assert ahead < 2 * 3 * BATCHES * BATCH < 45 + 4


def test_a_dead_actor_costs_nothing_and_a_deadly_picture_one_line(ray: Any, bundle: Path, tmp_path: Path) -> None:
    folder = draw(tmp_path / "pictures", 20)
    (folder / "05.png").rename(folder / "05-dies-once.png")
    names = sorted(path.name for path in folder.iterdir())
    once = list(by_ray(ray, bundle, find_images([str(folder)]), DyingOnce))
    assert [one.label for one in once] == names
    assert (folder / "died").exists()

    (folder / "11.png").rename(folder / "11-deadly.png")
    always = list(by_ray(ray, bundle, find_images([str(folder)]), DyingAlways))
    assert [Path(str(one.path)).name for one in always] == sorted(path.name for path in folder.glob("*.png"))
    assert [one.error for one in always if one.error] == ["the process that looked at it died 2 times"]
    assert [one.label for one in always if not one.error] == [name for name in names if name != "11.png"]


def test_another_bundle_on_the_other_machine_ends_it(ray: Any, bundle: Path, tmp_path: Path) -> None:
    from roadwork_core.bundle.ray_predictor import Scorer

    folder = draw(tmp_path / "pictures", 2)
    with pytest.raises(RoadworkError, match="mean_colour"):
        # This actor has no plugin that knows the toy bundle.
        list(by_ray(ray, bundle, find_images([str(folder)]), Scorer))


SWEEP = """
select_by = "auroc"
[evaluate]
bootstrap = 100
[sweep.parameters]
"optimizer.lr" = { values = [0.003, 1e30] }
"""


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_a_sweep_and_its_best_bundle_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, runs = tiny_spec(tmp_path, n=160, epochs=1, extra=SWEEP), tmp_path / "runs"
    assert main(["sweep", str(spec), "--runs-dir", str(runs), "--engine", "ray", "--json"]) == 1
    said = capsys.readouterr()
    good, bad = json.loads(said.out)["trials"]
    assert [good["status"], bad["status"], bad["exit_code"]] == ["finished", "failed", 3]
    assert "the loss is nan" in bad["error"]

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, source in enumerate(sorted((runs / ".cache").rglob("*.png"))[:12]):
        (pictures / f"{number}.png").write_bytes(source.read_bytes())
    (pictures / "x.png").write_bytes(b"broken")
    command = ["predict", str(runs / "tiny-0" / "bundle" / "tiny-0"), str(pictures), "--device", "cpu", "--json"]
    lines = {}
    for engine in ("local", "ray"):
        assert main([*command, "--engine", engine]) == 1
        lines[engine] = capsys.readouterr().out
    assert lines["ray"] == lines["local"]
    assert len(lines["ray"].splitlines()) == 13
