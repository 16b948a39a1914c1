"""Deploying: only what works is switched to, whole, and a kill at any moment leaves a deployment that works."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.bundle import Level, verify
from roadwork_core.cli import main
from roadwork_core.deployment import Deployment
from roadwork_core.deployment.checks import latency
from roadwork_core.errors import RoadworkError
from roadwork_core.plugins import Plugins
from tests.bundle import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Four sound bundles that differ in their policies, with their ids."""
    found = []
    for number in range(4):
        policies = toy.standard_policies()
        policies["threshold"] = toy.policy_document("threshold", "cut", cut=0.1 * number)
        path = toy.make(tmp_path_factory.mktemp(f"bundle{number}"), policies=policies)
        found.append((path, json.loads((path / "bundle.json").read_bytes())["bundle_id"]))
    return found


@pytest.fixture(autouse=True)
def _toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, *names: toy.plugins()))


def deploy(*words: object) -> int:
    return main(["deploy", *map(str, words), "--quiet"])


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_current_is_a_whole_bundle_and_says_how_it_came(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    (bundle, name), folder = bundles[0], tmp_path / "live"
    assert deploy(bundle, "--to", folder, "--why", "first", "--who", "ann") == 0
    assert (folder / "current").readlink() == Path("versions") / name[:12]
    assert verify(folder / "current", Level.REPLAY, toy.plugins()).ok
    (entry,) = history(folder)
    assert (entry["event"], entry["bundle_id"], entry["who"], entry["why"]) == ("deploy", name, "ann", "first")


def test_the_folder_can_be_moved(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    deploy(bundles[0][0], "--to", tmp_path / "live")
    (tmp_path / "live").rename(tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere" / "current", Level.SCHEMA).ok


def test_a_rollback_goes_back_one_deployment_at_a_time(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    names = [name[:12] for _, name in bundles]
    for bundle, _ in bundles[:3]:
        deploy(bundle, "--to", tmp_path)
    served = []
    for _ in range(2):
        assert deploy("--to", tmp_path, "--rollback") == 0
        served.append(Deployment(tmp_path).current())
    assert served == [names[1], names[0]]
    assert deploy("--to", tmp_path, "--rollback") == 1
    assert deploy("--to", tmp_path, "--rollback", names[2][:6]) == 0
    assert Deployment(tmp_path).current() == names[2]
    assert deploy("--to", tmp_path, "--rollback", "zzz") == 2


def test_after_a_rollback_and_a_new_deployment_the_way_back_leaves_out_the_bad_one(
    bundles: list[tuple[Path, str]], tmp_path: Path
) -> None:
    names = [name[:12] for _, name in bundles]
    deploy(bundles[0][0], "--to", tmp_path)
    deploy(bundles[1][0], "--to", tmp_path)
    deploy("--to", tmp_path, "--rollback")
    deploy(bundles[2][0], "--to", tmp_path)
    assert Deployment(tmp_path).previous() == names[0]


def test_the_same_command_again_changes_nothing(
    bundles: list[tuple[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a kill behind the switch, when nobody knows how far the command had come."""
    folder = tmp_path / "live"
    deploy(bundles[0][0], "--to", folder)
    gate = record(tmp_path / "record.json", bundles[1][1], bundles[0][1], promoted=True)
    for event in ("deploy", "unchanged"):
        capsys.readouterr()
        assert main(["deploy", *map(str, [bundles[1][0], "--to", folder, "--champion-gate", gate, "--json"])]) == 0
        assert json.loads(capsys.readouterr().out)["event"] == event
    for _ in range(2):
        assert deploy("--to", folder, "--rollback", bundles[0][1][:12]) == 0
    assert [entry["event"] for entry in history(folder)] == ["deploy", "deploy", "rollback"]
    assert Deployment(folder).current() == bundles[0][1][:12]


def test_only_the_last_versions_are_kept_and_the_current_one_always(
    bundles: list[tuple[Path, str]], tmp_path: Path
) -> None:
    for bundle, _ in bundles:
        assert deploy(bundle, "--to", tmp_path, "--keep", 2) == 0
    assert set(Deployment(tmp_path).names()) == {bundles[2][1][:12], bundles[3][1][:12]}
    deploy("--to", tmp_path, "--rollback", "--keep", 1)
    assert Deployment(tmp_path).names() == [bundles[2][1][:12]]


def test_after_a_rollback_the_version_that_the_next_one_leads_to_is_kept(
    bundles: list[tuple[Path, str]], tmp_path: Path
) -> None:
    for bundle, _ in bundles[:3]:
        deploy(bundle, "--to", tmp_path)
    deploy("--to", tmp_path, "--rollback", "--keep", 2)
    assert set(Deployment(tmp_path).names()) == {bundles[0][1][:12], bundles[1][1][:12]}


def test_a_copy_that_is_not_what_was_verified_is_no_version(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    with deployment.locked():
        with pytest.raises(RoadworkError, match="was changed while it was copied"):
            deployment.store(bundles[1][0], bundles[0][1])
        assert deployment.names() == []


@pytest.mark.parametrize("damage", ["model/weights.safetensors", "golden/expected.json", "bundle.json"])
def test_a_damaged_bundle_is_refused_and_the_served_one_stays(
    bundles: list[tuple[Path, str]], tmp_path: Path, damage: str
) -> None:
    folder, broken = tmp_path / "live", toy.copy(bundles[1][0], tmp_path / "broken")
    deploy(bundles[0][0], "--to", folder)
    content = bytearray((broken / damage).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / damage).write_bytes(bytes(content))
    assert deploy(broken, "--to", folder) == 4
    assert Deployment(folder).current() == bundles[0][1][:12]
    assert [entry["event"] for entry in history(folder)] == ["deploy", "refused"]
    assert history(folder)[1]["reasons"]


def test_a_bundle_that_decides_otherwise_than_its_golden_pictures_say_is_refused(
    bundles: list[tuple[Path, str]], tmp_path: Path
) -> None:
    forged = toy.copy(bundles[1][0], tmp_path / "forged")
    toy.edit(forged / "policies" / "threshold.json", lambda document: document["state"].update(cut=4.0))
    toy.reseal(forged)
    assert deploy(forged, "--to", tmp_path / "live") == 4
    assert Deployment(tmp_path / "live").current() is None


def test_a_slow_bundle_is_refused_with_what_it_took(
    bundles: list[tuple[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy(bundles[0][0], "--to", tmp_path, "--max-ms", 1e-6) == 4
    assert "the budget is 1e-06 ms" in capsys.readouterr().err
    assert history(tmp_path)[0]["latency_ms"]["p95"] > 0
    assert deploy(bundles[0][0], "--to", tmp_path, "--max-ms", 60_000) == 0


@pytest.mark.parametrize("device", ["cuda:99", "meta", "nowhere"])
@pytest.mark.parametrize("command", ["deploy", "rollback", "verify"])
def test_a_device_that_cannot_be_used_is_a_wrong_argument_and_no_fault_of_the_bundle(
    bundles: list[tuple[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, device: str
) -> None:
    bundle, folder = bundles[0][0], tmp_path / "live"
    for one, _ in bundles[1:3]:
        deploy(one, "--to", folder)
    before = history(folder)
    words = {
        "deploy": ["deploy", bundle, "--to", folder],
        "rollback": ["deploy", "--to", folder, "--rollback"],
        "verify": ["bundle", "verify", bundle],
    }
    assert main([*map(str, words[command]), "--device", device]) == 2
    said = capsys.readouterr().err
    assert f"the device '{device}'" in said
    assert "cannot" in said
    assert history(folder) == before
    assert main(["bundle", "verify", str(bundle), "--device", device, "--level", "plugins", "-q"]) == 0


def test_latency_is_of_the_active_policy_on_one_picture(bundles: list[tuple[Path, str]]) -> None:
    measured = latency(verify(bundles[0][0], Level.REPLAY, toy.plugins()).runtimes["torch"])
    assert 0 < measured["p50"] <= measured["p95"]


def record(path: Path, challenger: str, champion: str, promoted: object) -> Path:
    document = {
        "schema": "roadwork.challenge/1",
        "challenger": {"bundle_id": challenger},
        "champion": {"bundle_id": champion},
        "promoted": promoted,
        "reason": "the interval holds 0",
    }
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("challenger", "champion", "promoted", "code"),
    [(1, 0, True, 0), (1, 0, False, 4), (1, 0, "no", 4), (2, 0, True, 4), (1, 2, True, 4)],
    ids=["promoted", "not promoted", "no truth value", "of another bundle", "against another champion"],
)
def test_the_gate_wants_a_record_that_promotes_this_bundle_over_the_served_one(
    bundles: list[tuple[Path, str]], tmp_path: Path, challenger: int, champion: int, promoted: object, code: int
) -> None:
    folder = tmp_path / "live"
    deploy(bundles[0][0], "--to", folder)
    gate = record(tmp_path / "record.json", bundles[challenger][1], bundles[champion][1], promoted)
    assert deploy(bundles[1][0], "--to", folder, "--champion-gate", gate) == code
    assert Deployment(folder).current() == bundles[0 if code else 1][1][:12]


def test_the_gate_knows_what_is_served_without_its_history(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    folder = tmp_path / "live"
    deploy(bundles[0][0], "--to", folder)
    (folder / "history.jsonl").unlink()
    gate = record(tmp_path / "record.json", bundles[1][1], bundles[2][1], promoted=True)
    assert deploy(bundles[1][0], "--to", folder, "--champion-gate", gate) == 4


@pytest.mark.parametrize("words", [[], ["--rollback", "--history"], ["BUNDLE", "--history"], ["BUNDLE", "--keep", "0"]])
def test_wrong_usage_changes_nothing(bundles: list[tuple[Path, str]], tmp_path: Path, words: list[str]) -> None:
    given = [str(bundles[0][0]) if word == "BUNDLE" else word for word in words]
    assert deploy(*given, "--to", tmp_path / "live") == 2
    assert not (tmp_path / "live").exists()


@pytest.mark.parametrize("words", [["--rollback"], ["--history"]])
def test_a_folder_without_a_deployment_has_no_history_and_stays_empty(tmp_path: Path, words: list[str]) -> None:
    assert deploy(*words, "--to", tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_way_back_that_is_damaged_is_refused_and_written_down(
    bundles: list[tuple[Path, str]], tmp_path: Path
) -> None:
    for bundle, _ in bundles[:2]:
        deploy(bundle, "--to", tmp_path)
    (tmp_path / "versions" / bundles[0][1][:12] / "LICENSE").write_text("mine")
    assert deploy("--to", tmp_path, "--rollback", "--why", "it errs") == 4
    assert Deployment(tmp_path).current() == bundles[1][1][:12]
    last = history(tmp_path)[-1]
    assert (last["event"], last["why"], bool(last["reasons"])) == ("refused", "it errs", True)


def test_a_folder_of_something_else_is_left_alone(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    assert deploy(bundles[0][0], "--to", tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_stranger_s_hidden_files_are_left_alone(bundles: list[tuple[Path, str]], tmp_path: Path) -> None:
    deploy(bundles[0][0], "--to", tmp_path)
    (tmp_path / ".profile").write_text("mine")
    (tmp_path / "versions" / ".keep").write_text("mine")
    deploy(bundles[1][0], "--to", tmp_path, "--keep", 1)
    assert (tmp_path / ".profile").exists()
    assert (tmp_path / "versions" / ".keep").exists()


def test_a_second_process_is_refused(
    bundles: list[tuple[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(bundles[0][0], "--to", tmp_path)
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert deploy(bundles[1][0], "--to", tmp_path) == 1
    assert "another process is deploying here" in capsys.readouterr().err


def test_a_served_version_that_was_damaged_is_replaced_beside_it(
    bundles: list[tuple[Path, str]], tmp_path: Path
) -> None:
    (bundle, name) = bundles[0]
    deploy(bundle, "--to", tmp_path)
    (tmp_path / "current" / "LICENSE").write_text("mine")
    assert deploy(bundle, "--to", tmp_path) == 0
    assert Deployment(tmp_path).current() == f"{name[:12]}-2"
    assert verify(tmp_path / "current", Level.SCHEMA).ok


def test_the_history_is_told_as_lines(
    bundles: list[tuple[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy(bundles[0][0], "--to", tmp_path, "--why", "the first")
    assert main(["deploy", "--to", str(tmp_path), "--history"]) == 0
    assert "the first" in capsys.readouterr().out
    assert main(["deploy", "--to", str(tmp_path), "--history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bundle_id"] == bundles[0][1]


@pytest.mark.parametrize("before", [0, 2], ids=["a new folder", "two versions there"])
def test_a_kill_before_any_change_of_a_file_leaves_a_deployment_that_works(
    bundles: list[tuple[Path, str]], tmp_path: Path, before: int
) -> None:
    """Every change of the file system is preceded by a kill once; then the same command is given again."""
    template = tmp_path / "template"
    template.mkdir()
    for bundle, _ in bundles[:before]:
        deploy(bundle, "--to", template)
    old = [name[:12] for _, name in bundles[:before]]
    path, name = bundles[3]
    done = subprocess.run(
        [sys.executable, "-m", "tests.deployment.fault_driver", template, tmp_path / "work", path, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *killed, end = map(json.loads, done.stdout.splitlines())
    assert end["code"] == 0
    assert len(killed) > 20
    seen = set()
    for each in killed:
        first, again = each["killed"], each["again"]
        seen.add(first["version"])
        assert first["version"] in {old[-1] if old else None, name[:12]}
        assert first["works"] == (first["version"] is not None)
        # The history agrees with the link at any moment.
        assert first["history"][-1:] == ([first["version"]] if first["version"] else [])
        assert again["version"] == name[:12]
        assert again["works"]
        assert again["left"] == [".lock"]
        assert set(again["versions"]) == {*old[-1:], name[:12]}
        assert again["history"][: len(old)] == old
    assert len(seen) == 2
    shutil.rmtree(tmp_path / "work")
