"""roadwork: a TOML spec names components, plugins supply them, one command makes a bundle that decides."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .component import API_LEVEL, component, option, section, slot
    from .hookspecs import hookimpl
    from .kinds import Kind

__version__ = "0.1.0"
__all__ = ["API_LEVEL", "Kind", "__version__", "component", "hookimpl", "option", "section", "slot"]

_HOME = {
    "API_LEVEL": "component",
    "Kind": "kinds",
    "component": "component",
    "hookimpl": "hookspecs",
    "option": "component",
    "section": "component",
    "slot": "component",
}


def __getattr__(name: str) -> Any:
    # Public names are looked up on first use, so that `roadwork --help` starts without attrs and pluggy.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps `roadwork_core.component` the decorator when the import system binds the submodule of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in _HOME:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
