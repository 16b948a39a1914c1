"""What must hold with any set of in-tree plugins installed: the test of each environment of the matrix."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import jsonschema

from roadwork_core.kinds import CONTRACTS
from roadwork_core.plugins import Plugins, Status

from .sites import roadwork

PLUGINS = Path(__file__).parents[2] / "plugins"
IN_TREE = sorted(path.parent.name for path in PLUGINS.glob("*/pyproject.toml"))


def expected() -> list[str]:
    """The plugins that EXPECTED_PLUGINS names (`core`, `losses`, `pair-heads-tta`; default: all of the tree)."""
    name = os.environ.get("EXPECTED_PLUGINS")
    if name is None or name == "lowest":
        return IN_TREE
    return sorted(part for part in name.split("-") if part not in ("core", "pair"))


def test_exactly_these_plugins_load() -> None:
    records = Plugins.load().records
    assert {record.name: record.status for record in records} == dict.fromkeys(expected(), Status.OK)


def test_every_plugin_is_a_distribution_of_the_entry_point_name() -> None:
    for name in IN_TREE:
        project = tomllib.loads((Path(__file__).parents[2] / "plugins" / name / "pyproject.toml").read_text())[
            "project"
        ]
        assert project["entry-points"]["roadwork"] == {name: f"roadwork_{name}"}
        assert project["name"] == f"roadwork-{name}"


def test_what_is_installed_conforms_and_is_listed() -> None:
    done = roadwork("plugins", "check", "--json")
    assert (done.returncode, json.loads(done.stdout)["failures"]) == (0, [])
    listed = json.loads(roadwork("plugins", "list", "--json").stdout)
    assert [plugin["name"] for plugin in listed["plugins"]] == expected()


def test_the_schema_of_a_spec_is_valid_for_this_set() -> None:
    done = roadwork("spec", "schema")
    assert done.returncode == 0, done.stderr
    jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


def test_a_missing_plugin_is_one_clear_line() -> None:
    listed = json.loads(roadwork("plugins", "list", "--json").stdout)["plugins"]
    supplied = {component["kind"] for plugin in listed for component in plugin["components"]}
    kinds = {str(kind) for kind in CONTRACTS}
    for kind in sorted(kinds - supplied)[:1]:
        done = roadwork("plugins", "show", f"{kind}/anything")
        assert done.returncode == 2
        assert done.stderr.strip().splitlines() == [
            f'error: unknown {kind} "anything" (no plugin supplies any {kind}; is one installed?)'
        ]
