"""The sample packages where they are really installed, from wheels: the environments of tox.ini. Skipped elsewhere."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import pytest

from roadwork_core.errors import UnknownComponentError
from roadwork_core.kinds import Kind
from roadwork_core.plugins import Plugins

from .sites import roadwork


def needs(*distributions: str) -> pytest.MarkDecorator:
    installed = {dist.name for dist in importlib.metadata.distributions()}
    missing = sorted(set(distributions) - installed)
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (tox.ini installs them)")


def listed(name: str) -> dict[str, Any]:
    plugins = json.loads(roadwork("plugins", "list", "--json").stdout)["plugins"]
    found: dict[str, Any] = next(plugin for plugin in plugins if plugin["name"] == name)
    return found


@needs("acme-losses")
def test_third_party_package_is_listed_with_its_provenance() -> None:
    plugin = listed("acme")
    assert (plugin["distribution"], plugin["version"], plugin["api"], plugin["status"]) == (
        "acme-losses",
        "1.2.0",
        1,
        "ok",
    )
    assert "acme_losses/__init__.py:" in plugin["source"]


@needs("acme-losses", "roadwork-losses")
def test_third_party_package_and_an_in_tree_one_may_supply_one_name() -> None:
    plugins = Plugins.load()
    with pytest.raises(UnknownComponentError, match='write "acme/focal" or "losses/focal"'):
        plugins.get(Kind.LOSS, "focal")
    assert plugins.get(Kind.LOSS, "acme/focal") is not plugins.get(Kind.LOSS, "losses/focal")


@needs("acme-commands")
def test_third_party_command_runs_and_is_announced() -> None:
    assert roadwork("greet", "world").stdout == "hello, world\n"
    assert "greet" in roadwork("--help").stdout


@needs("broken-import", "broken-api", "broken-exit")
def test_broken_packages_are_listed_with_their_cause() -> None:
    causes = {name: str(listed(name)["cause"]) for name in ("broken_import", "broken_api", "broken_exit")}
    assert "a_library_that_is_not_installed" in causes["broken_import"]
    assert "component API 99" in causes["broken_api"]
    assert causes["broken_exit"] == "SystemExit: 3"


@needs("broken-import", "broken-api", "broken-exit")
def test_broken_packages_fail_the_check_and_harm_no_other() -> None:
    done = roadwork("plugins", "check")
    assert done.returncode == 4
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 3
    assert Plugins.load().get(Kind.LOSS, "focal")


@needs("acme-losses", "rival-losses")
def test_conflict_is_refused_by_bare_name_and_settled_by_each_qualified_one() -> None:
    done = roadwork("plugins", "show", "loss/focal")
    assert done.returncode == 2
    assert 'loss "focal" is ambiguous' in done.stderr
    for name in ("acme/focal", "rival/focal", "losses/focal"):
        assert roadwork("plugins", "show", f"loss/{name}").returncode == 0
