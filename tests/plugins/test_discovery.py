"""Every plugin loads on its own: one that fails is listed with its cause, and harms no other."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roadwork_core import component, hookimpl, option
from roadwork_core.component import API_LEVEL
from roadwork_core.discovery import hook_names
from roadwork_core.errors import RoadworkError, UnknownComponentError, UsageError
from roadwork_core.kinds import Kind
from roadwork_core.plugins import PluginRecord, Plugins, Status

from .sites import place, write_metadata, write_plugin

COMPONENT = """
from roadwork_core import component, hookimpl

@component("loss", "{name}")
class Loss:
    "A loss."
    def build(self, ctx): return None

@hookimpl
def roadwork_components(): return [Loss]
"""


@pytest.fixture(autouse=True)
def _forget_modules() -> Any:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("roadwork_"):
            del sys.modules[name]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("ROADWORK_PLUGINS", raising=False)
    return tmp_path


def record(plugins: Plugins, name: str) -> PluginRecord:
    return next(record for record in plugins.records if record.name == name)


def test_a_third_party_package_is_found_with_its_provenance(site: Path) -> None:
    place(site, "acme_losses")
    found = record(Plugins.load(), "acme")
    assert (found.distribution, found.version, found.module) == ("acme-losses", "1.2.0", "acme_losses")
    assert (found.status, found.api, found.cause) == (Status.OK, API_LEVEL, None)
    file, _, line = str(found.source).rpartition(":")
    assert Path(file) == site / "acme_losses" / "__init__.py"
    assert "def roadwork_components" in "".join(Path(file).read_text().splitlines()[int(line) - 1 :][:2])


@pytest.mark.parametrize(
    ("name", "cause", "line"),
    [
        ("broken_import", "ModuleNotFoundError: No module named 'a_library_that_is_not_installed'", 5),
        ("broken_exit", "SystemExit: 3", 5),
        ("broken_api", "FromTheFuture asks for component API 99, this roadwork speaks 1: install a newer roadwork", 10),
    ],
)
def test_a_broken_package_is_listed_with_its_cause_and_line(site: Path, name: str, cause: str, line: int) -> None:
    place(site, name, "acme_losses")
    plugins = Plugins.load()
    found = record(plugins, name)
    assert (found.status, found.cause) == (Status.BROKEN, cause)
    assert found.source == f"{site / name / '__init__.py'}:{line}"
    assert record(plugins, "acme").status is Status.OK
    assert found in plugins.broken()


def test_the_api_level_of_a_broken_plugin_is_the_one_it_asks_for(site: Path) -> None:
    place(site, "broken_api")
    assert record(Plugins.load(), "broken_api").api == 99


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("def (:", "SyntaxError"),
        ("raise RuntimeError('first line\\nsecond')", "RuntimeError: first line"),
        ("def roadwork_components(): return [int]", "which is not made by @component"),
        ("def roadwork_components(): return None", "TypeError: 'NoneType' object is not iterable"),
        ("def roadwork_components(): 1 / 0", "ZeroDivisionError"),
        (
            "from roadwork_core import hookimpl\n@hookimpl\ndef roadwork_component(): return []",
            'implements the hook roadwork_component, which does not exist (did you mean "roadwork_components"?)',
        ),
        (
            "from roadwork_core import hookimpl\n@hookimpl\ndef roadwork_run_started(ruin): pass",
            "PluginValidationError",
        ),
        (
            "from roadwork_core import component\n@component('colour', 'x')\nclass X:\n  def build(self, c): ...",
            "X: unknown kind 'colour'",
        ),
        ("from roadwork_core import component\n@component('loss', 'x')\nclass X: pass", "X has no build(self, ctx)"),
        (
            "from roadwork_core import component\n@component('loss', 'Bad-Name')\nclass X:\n  def build(self, c): ...",
            "'Bad-Name' is not snake_case",
        ),
        (
            COMPONENT.format(name="twin")
            + "\nFirst = Loss\n@component('loss', 'twin')\nclass Second:\n  def build(self, c): ...\n"
            "@hookimpl\ndef roadwork_components(): return [First, Second]",
            "Loss and Second are both the loss 'twin'",
        ),
    ],
)
def test_whatever_a_plugin_does_at_load_its_cause_is_kept(site: Path, body: str, cause: str) -> None:
    write_plugin(site, "odd_plugin", body)
    write_plugin(site, "sound_plugin", COMPONENT.format(name="sound_loss"))
    plugins = Plugins.load()
    found = record(plugins, "odd_plugin")
    assert found.status is Status.BROKEN
    assert cause in str(found.cause)
    assert "\n" not in str(found.cause)
    assert str(site / "odd_plugin.py") in str(found.source)
    assert plugins.get(Kind.LOSS, "sound_loss")


def test_a_broken_plugin_leaves_no_hook_behind(site: Path) -> None:
    body = "from roadwork_core import hookimpl\n@hookimpl\ndef roadwork_run_started(run): run.append(1)\n"
    write_plugin(site, "half", body + "def roadwork_components(): return [int]")
    told: list[int] = []
    Plugins.load().hook.roadwork_run_started(run=told)
    assert told == []


def test_damaged_metadata_of_a_plugin_is_listed(site: Path) -> None:
    info = write_metadata(site, "damaged", "1.0", {"roadwork": {"damaged": "damaged"}})
    (info / "entry_points.txt").write_text("[roadwork]\nthis line has no value\n")
    found = record(Plugins.load(), "damaged")
    assert found.status is Status.BROKEN
    assert "entry_points.txt cannot be read" in str(found.cause)


def test_the_first_of_two_copies_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name, version in (("late", "twice_there", "1.0"), ("early", "Twice.There", "2.0")):
        write_plugin(tmp_path / folder, "twice_there", COMPONENT.format(name="twice"))
        (info,) = (tmp_path / folder).glob("*.dist-info")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path / folder)
    versions = [record.version for record in Plugins.load().records if record.name == "twice_there"]
    assert versions == ["2.0"]


def test_a_restriction_loads_only_what_it_names(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(site, "acme_losses", "broken_exit")
    monkeypatch.setenv("ROADWORK_PLUGINS", " acme , heads,")
    assert [record.name for record in Plugins.load().records] == ["acme", "heads"]
    monkeypatch.setenv("ROADWORK_PLUGINS", "")
    assert Plugins.load().records == ()


def test_a_restriction_to_what_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADWORK_PLUGINS", "loses")
    with pytest.raises(UsageError, match=r"ROADWORK_PLUGINS names 'loses', which is not installed .*\"losses\"\?"):
        Plugins.load()


def test_an_ambiguous_bare_name_lists_both_and_each_qualified_name_works(site: Path) -> None:
    place(site, "acme_losses", "rival_losses")
    plugins = Plugins.load(["acme", "rival"])
    with pytest.raises(UnknownComponentError) as caught:
        plugins.get(Kind.LOSS, "focal")
    assert str(caught.value) == 'loss "focal" is ambiguous (write "acme/focal" or "rival/focal")'
    assert plugins.names(Kind.LOSS) == ["acme/focal", "rival/focal"]
    for name in ("acme/focal", "rival/focal"):
        cls = plugins.get(Kind.LOSS, name)
        assert plugins.use_name(cls) == plugins.qualified_name(cls) == name


def test_two_distributions_may_use_one_entry_point_name(site: Path) -> None:
    write_plugin(site, "one_module", COMPONENT.format(name="shared"), entry="same", distribution="one-dist")
    write_plugin(site, "two_module", COMPONENT.format(name="shared"), entry="same", distribution="two-dist")
    plugins = Plugins.load(["same"])
    assert [record.status for record in plugins.records] == [Status.OK, Status.OK]
    with pytest.raises(UnknownComponentError, match='write "one-dist/shared" or "two-dist/shared"'):
        plugins.get(Kind.LOSS, "same/shared")
    for name in ("one-dist/shared", "two-dist/shared"):
        assert plugins.qualified_name(plugins.get(Kind.LOSS, name)) == name


def test_an_unknown_name_is_answered_with_the_nearest_and_the_broken() -> None:
    @component("loss", "cross_entropy")
    class Loss:
        def build(self, ctx: Any) -> None: ...

    def fails() -> list[type]:
        raise RuntimeError("no such device")

    plugins = Plugins.of(
        {"good": SimpleNamespace(roadwork_components=lambda: [Loss]), "bad": SimpleNamespace(roadwork_components=fails)}
    )
    with pytest.raises(UnknownComponentError, match=r'did you mean "cross_entropy".*bad .RuntimeError: no such device'):
        plugins.get(Kind.LOSS, "cross_entrpy")
    with pytest.raises(UnknownComponentError, match="the plugin bad is broken: RuntimeError: no such device"):
        plugins.get(Kind.LOSS, "bad/anything")
    with pytest.raises(UnknownComponentError, match="no plugin supplies any head"):
        plugins.get(Kind.HEAD, "linear")


def test_extended_plugins_call_the_hooks_of_both() -> None:
    class Ear:
        @hookimpl
        def roadwork_run_started(self, run: list[str]) -> None:
            run.append("heard")

    both = Plugins.of({"one": Ear()}).extended({"two": Ear()})
    told: list[str] = []
    both.hook.roadwork_run_started(run=told)
    assert told == ["heard", "heard"]
    assert [record.name for record in both.records] == ["one", "two"]


def test_a_second_plugin_of_one_name_leaves_the_first_its_hooks() -> None:
    class Ear:
        @hookimpl
        def roadwork_run_started(self, run: list[str]) -> None:
            run.append("heard")

    both = Plugins.of({"one": Ear()}).extended({"one": Ear()})
    told: list[str] = []
    both.hook.roadwork_run_started(run=told)
    assert told == ["heard"]
    assert [record.status for record in both.records] == [Status.OK, Status.BROKEN]


def test_a_component_handed_over_twice_is_one() -> None:
    @component("loss", "alone")
    class Alone:
        """A loss."""

        def build(self, ctx: Any) -> None: ...

    plugins = Plugins.of({"twice": SimpleNamespace(roadwork_components=lambda: [Alone, Alone])})
    assert plugins.get(Kind.LOSS, "alone") is Alone
    assert plugins.names(Kind.LOSS) == ["alone"]


def test_a_plugin_that_fails_in_a_hook_is_named_with_its_line(site: Path) -> None:
    body = "from roadwork_core import hookimpl\n@hookimpl\ndef roadwork_run_started(run):\n    raise KeyError('lost')\n"
    write_plugin(site, "clumsy", body)
    with pytest.raises(RoadworkError) as caught:
        Plugins.load().hook.roadwork_run_started(run=None)
    assert str(caught.value).startswith(
        f"{site / 'clumsy.py'}:4: the plugin clumsy failed in roadwork_run_started: KeyError"
    )


def test_there_is_no_other_hook() -> None:
    assert len(hook_names()) == 7
    with pytest.raises(AttributeError):
        _ = Plugins.of({}).hook.roadwork_batch_finished


def test_a_renamed_option_must_lead_to_a_field() -> None:
    from roadwork_core.testing import static_problems

    @component("loss", "renamed", renamed={"old": "nowhere", "new": "new"})
    class Renamed:
        """A loss."""

        new: float = option(default=1.0, help="a number")

        def build(self, ctx: Any) -> None: ...

    plugins = Plugins.of({"p": SimpleNamespace(roadwork_components=lambda: [Renamed])})
    said = " ".join(str(problem) for problem in static_problems(Renamed, plugins))
    assert "old leads to nowhere" in said
    assert "new is both a field and an earlier name" in said
