"""Sections and components as plain tables, the way TOML would write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from ..component import component_info, is_component
from .fields import fields_of

if TYPE_CHECKING:
    from ..plugins import Plugins


def component_options(instance: Any, plugins: Plugins | None = None) -> dict[str, Any]:
    """The options of a component instance as JSON values, without its own `use`.

    Nested components keep theirs: the bare name, or with `plugins` the shortest that is unambiguous there.
    """
    return _fields(instance, plugins)


def table_of(instance: Any, plugins: Plugins | None = None) -> dict[str, Any]:
    """A section or component instance as its table; a component's begins with `use`."""
    if not is_component(instance):
        return _fields(instance, plugins)
    use = plugins.use_name(instance) if plugins is not None else component_info(instance).name
    return {"use": use, **_fields(instance, plugins)}


def _fields(instance: Any, plugins: Plugins | None) -> dict[str, Any]:
    table: dict[str, Any] = {}
    cls: type = type(instance)
    for name, field in fields_of(cls).items():
        value = plain(getattr(instance, name), plugins)
        if field.inline:
            table.update(value)
        else:
            table[name] = value
    return table


def plain(value: Any, plugins: Plugins | None = None) -> Any:
    """A field's value as TOML would write it: sections and components as their tables."""
    if attrs.has(type(value)):
        return table_of(value, plugins)
    if isinstance(value, Mapping):
        return {key: plain(item, plugins) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item, plugins) for item in value]
    return value
