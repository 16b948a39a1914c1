"""Run as a module in a fresh process: loads a plugin, checks it statically, and tells which heavy libraries came."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from typing import Any

from ..plugins import Plugins, heavy_imports
from .static import static_problems


def main(arguments: list[str]) -> None:
    """`plugin NAME` loads an installed plugin, `module NAME FILE` imports the module of a class."""
    if arguments[0] == "plugin":
        plugins = Plugins.load([arguments[1]])
    else:
        plugins = Plugins.of({"under_test": _Holder(_import(*arguments[1:]))})
    for cls in plugins.components():
        static_problems(cls, plugins)
    causes = [record.cause for record in plugins.broken()]
    print(json.dumps({"heavy": heavy_imports(), "broken": causes}))  # noqa: T201 - the answer to the parent process


def _import(name: str, file: str) -> list[type]:
    from ..component import is_component

    try:
        module = importlib.import_module(name)
    except ImportError:
        spec = importlib.util.spec_from_file_location("under_test", file)
        if spec is None or spec.loader is None:
            raise
        module = importlib.util.module_from_spec(spec)
        sys.modules["under_test"] = module
        spec.loader.exec_module(module)
    return [value for value in vars(module).values() if isinstance(value, type) and is_component(value)]


class _Holder:
    def __init__(self, components: list[type]) -> None:
        unique = {(cls.__roadwork_component__.kind, cls.__roadwork_component__.name): cls for cls in components}  # type: ignore[attr-defined]
        self._components = list(unique.values())

    def roadwork_components(self) -> list[Any]:
        return self._components


if __name__ == "__main__":
    main(sys.argv[1:])
