"""The schedules that the how-to shows: what each exit code leads to, and a kill between any two steps."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from attrs import define

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "retrain.md").read_text()
BLOCKS = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)

#: Stands for `roadwork`: says what it was given, makes what the real one makes, ends as the test wants.
STUB = """#!/bin/sh
echo "$*" >> said
case $1 in
  mine) code=${MINE:-0}; [ "$code" -ne 0 ] || { mkdir -p "$8"; touch "$8/hard_negatives.csv"; } ;;
  retrain) code=${RETRAIN:-0}
    [ -n "${NO_RECORD:-}" ] || echo '{"challenger": {"bundle_dir": "runs/new/bundle/street"}}' > "${10}" ;;
  deploy) code=${DEPLOY:-0}; [ "$code" -ne 0 ] || ln -sfn versions/new live/current ;;
esac
[ "${KILL_AFTER:-}" != "$1" ] || kill -9 $PPID
exit "$code"
"""


@define
class Place:
    folder: Path

    def start(self, **variables: object) -> int:
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, **{name: str(value) for name, value in variables.items()}}
        return subprocess.run(["sh", "retrain.sh"], cwd=self.folder, env=environment, check=False).returncode

    def said(self) -> list[list[str]]:
        file = self.folder / "said"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def steps(self) -> list[str]:
        return [words[0] for words in self.said()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (script,) = [block for block in BLOCKS if block.startswith("#!/bin/sh")]
    (tmp_path / "retrain.sh").write_text(script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "roadwork").write_text(STUB)
    (tmp_path / "bin" / "roadwork").chmod(0o755)
    for version in ("old", "new"):
        (tmp_path / "live" / "versions" / version).mkdir(parents=True)
    (tmp_path / "live" / "current").symlink_to("versions/old")
    return Place(tmp_path)


def test_a_promoted_challenger_is_deployed_through_the_gate(place: Place) -> None:
    assert place.start() == 0
    assert place.steps() == ["mine", "retrain", "deploy"]
    deploy = place.said()[-1]
    assert deploy[1] == "runs/new/bundle/street"
    assert deploy[deploy.index("--champion-gate") + 1].endswith("/challenge.json")


def test_one_that_is_not_promoted_is_neither_deployed_nor_an_alarm(place: Place) -> None:
    assert place.start(RETRAIN=4) == 0
    assert place.steps() == ["mine", "retrain"]
    assert place.start(RETRAIN=4) == 0
    assert place.steps() == ["mine", "retrain"]


@pytest.mark.parametrize("code", [1, 2, 3, 130])
def test_a_retraining_that_fails_is_an_alarm_and_is_tried_again(place: Place, code: int) -> None:
    assert place.start(RETRAIN=code, NO_RECORD=1) == code
    assert place.steps() == ["mine", "retrain"]
    assert place.start() == 0
    assert place.steps() == ["mine", "retrain", "retrain", "deploy"]


def test_a_damaged_bundle_is_an_alarm_though_it_has_the_exit_code_of_a_verdict(place: Place) -> None:
    """Also where an earlier attempt of the week left its record."""
    assert place.start(DEPLOY=1) == 1
    assert place.start(RETRAIN=4, NO_RECORD=1) == 4
    assert place.steps().count("deploy") == 1


def test_a_mining_that_fails_ends_it(place: Place) -> None:
    assert place.start(MINE=1) == 1
    assert place.steps() == ["mine"]


def test_a_refused_deployment_is_an_alarm(place: Place) -> None:
    assert place.start(DEPLOY=4) == 4
    assert place.start() == 0
    assert place.steps() == ["mine", "retrain", "deploy", "retrain", "deploy"]


@pytest.mark.parametrize("step", ["mine", "retrain", "deploy"])
def test_killed_behind_a_step_it_goes_on_with_the_same_champion(place: Place, step: str) -> None:
    assert place.start(KILL_AFTER=step) == -9
    assert place.start() == 0
    assert place.steps().count("mine") == 1
    champions = [Path(words[3]) for words in place.said() if words[0] == "retrain"]
    assert {(place.folder / one).resolve().name for one in champions} == {"old"}
    assert place.start() == 0
    assert place.steps()[-1] == "deploy"


def test_the_words_of_the_script_are_options_of_the_commands(place: Place) -> None:
    from roadwork_core.cli import _parse

    place.start()
    for words in place.said():
        _parse(words)


def test_cron_prints_where_the_script_fails_and_only_there(place: Place) -> None:
    (line,) = [block for block in BLOCKS if block.startswith("0 3 ")]
    command = line.split(maxsplit=5)[5].replace("/srv/roadwork", str(place.folder))
    (place.folder / "retrain.sh").chmod(0o755)
    environment = {**os.environ, "PATH": f"{place.folder / 'bin'}:{os.environ['PATH']}"}
    printed = []
    for code in ("4", "3"):
        done = subprocess.run(
            ["sh", "-c", command],
            env={**environment, "RETRAIN": code},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout)
        (place.folder / "weeks").rename(place.folder / f"weeks-{code}")
    assert printed == ["", "retrain.sh ended with 3, see retrain.log\n"]


def test_no_exit_code_but_0_is_a_success_of_the_service_or_the_workflow() -> None:
    (units,) = [block for block in BLOCKS if "[Service]" in block]
    assert "ExecStart=/srv/roadwork/retrain.sh\n" in units
    assert "SuccessExitStatus" not in units
    (workflow,) = [block for block in BLOCKS if "jobs:" in block]
    assert workflow.count("- run:") == workflow.count("- run: ./retrain.sh\n") == 1
    assert "continue-on-error" not in workflow
