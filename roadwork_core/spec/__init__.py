"""The spec: a TOML file read, merged, checked against the installed components and resolved."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dump import dump_toml
    from .model import SPEC_VERSION, SPLITS, Spec
    from .resolved import ResolvedSpec, component_from_settings, load_spec, resolve_component
    from .schema import spec_schema
    from .tree import format_key, walk
    from .values import component_options, table_of

__all__ = [
    "SPEC_VERSION",
    "SPLITS",
    "ResolvedSpec",
    "Spec",
    "component_from_settings",
    "component_options",
    "dump_toml",
    "format_key",
    "load_spec",
    "resolve_component",
    "spec_schema",
    "table_of",
    "walk",
]

_HOME = {
    "SPEC_VERSION": "model",
    "SPLITS": "model",
    "ResolvedSpec": "resolved",
    "Spec": "model",
    "component_from_settings": "resolved",
    "component_options": "values",
    "dump_toml": "dump",
    "format_key": "tree",
    "load_spec": "resolved",
    "resolve_component": "resolved",
    "spec_schema": "schema",
    "table_of": "values",
    "walk": "tree",
}


def __getattr__(name: str) -> Any:
    # Looked up on first use: `roadwork bundle` needs a model's tables without the reader of TOML.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
