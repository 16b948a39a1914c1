"""The table [leaderboard]: checked like any other, known to the JSON Schema, and no part of what a run makes."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import tomli

from roadwork_core.errors import SpecError
from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec, spec_schema
from roadwork_core.stages import STAGES

SPEC = """\
name = "watched"
[data]
use = "synthetic_roadwork"
[backbone]
use = "small_cnn"
[leaderboard]
use = "metagraph"
netuid = 72
entry = "5F"
alert_drop = 3
webhook_env = "HOOK"
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


def test_it_is_a_table_with_a_component_and_its_own_keys(plugins: Plugins) -> None:
    resolved = load_spec(SPEC, plugins)
    watched = resolved.spec.leaderboard
    assert watched is not None
    assert (watched.component.netuid, watched.entry, watched.alert_rank) == (72, "5F", None)
    assert resolved.counts()["leaderboard"] == 1
    jsonschema.Draft202012Validator(spec_schema(plugins)).validate(tomli.loads(SPEC))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('entree = "5F"', 'x.toml:12 leaderboard.entree: unknown key "entree".*did you mean "entry"'),
        ("alert_rank = 1.5", "x.toml:12 leaderboard.alert_rank: expected an integer"),
        ('history = ""', "x.toml:12 leaderboard.history: must not be empty"),
        ('token_env = "a b"', "x.toml:12 leaderboard.token_env: must match"),
        ('url = "http://example.org/"', "x.toml:12 leaderboard.url: url is not https"),
    ],
)
def test_what_is_wrong_is_said_at_its_line(line: str, said: str, plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(f"{SPEC}{line}\n")
    with pytest.raises(SpecError, match=said):
        load_spec(tmp_path / "x.toml", plugins)
    values = tomli.loads(f"{SPEC}{line}\n")
    if not line.startswith("url"):
        assert not jsonschema.Draft202012Validator(spec_schema(plugins)).is_valid(values)


def test_it_is_no_part_of_what_a_run_makes_or_a_bundle_carries(plugins: Plugins) -> None:
    with_table, without = (load_spec(text, plugins) for text in (SPEC, SPEC.partition("[leaderboard]")[0]))
    assert with_table.experiment == without.experiment
    assert "leaderboard" not in with_table.experiment
    assert "leaderboard" in with_table.values
    assert not any(key.startswith(("leaderboard", "sweep")) for stage in STAGES for key in stage.spec_keys)
