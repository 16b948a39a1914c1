"""What the pages say of the components is what the components say of themselves."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli

from roadwork_core.component import component_info
from roadwork_core.kinds import CONTRACTS, Kind
from roadwork_core.plugins import Plugins
from roadwork_core.spec import resolve_component
from roadwork_core.spec.describe import PLACES, snippet
from roadwork_core.spec.fields import fields_of
from roadwork_core.testing.static import undocumented

ROOT = Path(__file__).parents[2]
PLUGINS = Plugins.load(sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")))
COMPONENTS = PLUGINS.components()


def label(cls: type) -> str:
    return f"{component_info(cls).kind}/{component_info(cls).name}"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_components_is_current() -> None:
    for path, text in generator().pages().items():
        assert path.read_text() == text, "run python docs/generate.py"


def test_the_page_names_no_place_of_this_machine() -> None:
    text = (ROOT / "docs" / "reference" / "components.md").read_text()
    assert str(ROOT) not in text
    assert "site-packages" not in text


@pytest.mark.parametrize("cls", COMPONENTS, ids=label)
def test_every_in_tree_field_has_help(cls: type) -> None:
    assert undocumented(cls) == []


@pytest.mark.parametrize("cls", COMPONENTS, ids=label)
def test_the_snippet_is_toml_that_gives_the_component_with_its_defaults(cls: type) -> None:
    kind = component_info(cls).kind
    table: Any = tomli.loads(snippet(cls, PLUGINS))
    for part in PLACES[kind]:
        table = table[part]
    table.pop("on", None)
    instance = resolve_component(kind, table, PLUGINS)
    assert isinstance(instance, cls)
    assert component_info(instance) is component_info(cls)
    for name, field in fields_of(cls).items():
        written = not field.required and field.default is not None and not hasattr(field.default, "keys")
        if written and not isinstance(field.default, list | tuple):
            assert getattr(instance, name) == field.default


@pytest.mark.parametrize("cls", COMPONENTS, ids=label)
def test_every_option_stands_in_the_snippet(cls: type) -> None:
    text = snippet(cls, PLUGINS)
    for name in fields_of(cls):
        assert re.search(rf"^#? ?{name} = |{name}\]|\.{name}\]|^{name} = ", text, flags=re.MULTILINE), name


def test_every_in_tree_component_is_held_to_the_contract_of_its_kind() -> None:
    named = set()
    for path in ROOT.glob("plugins/*/tests/test_conformance.py"):
        named |= set(re.findall(r'component = "([^"]+)"', path.read_text()))
    assert {PLUGINS.qualified_name(cls) for cls in COMPONENTS} - named == set()


def test_there_is_an_in_tree_component_of_every_kind() -> None:
    assert {component_info(cls).kind for cls in COMPONENTS} == set(CONTRACTS)
    assert set(PLACES) == set(CONTRACTS) <= set(Kind)


def test_the_entry_points_of_the_tree_are_its_folders() -> None:
    for path in ROOT.glob("plugins/*/pyproject.toml"):
        points = tomllib.loads(path.read_text())["project"]["entry-points"]["roadwork"]
        assert list(points) == [path.parent.name]
