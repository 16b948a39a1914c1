"""Which fields of a component its own code reads."""

from __future__ import annotations

from typing import Any

import attrs


def recording(component: Any) -> tuple[Any, set[str]]:
    """A copy of a component, and the set that fills with the names of its fields as they are read."""
    cls = type(component)
    names = [field.name for field in attrs.fields(cls)]
    read: set[str] = set()

    def getattribute(self: Any, name: str) -> Any:
        if name in names:
            read.add(name)
        return object.__getattribute__(self, name)

    inherited = {key: value for key, value in vars(cls).items() if key.startswith("__roadwork")}
    body = {"__slots__": (), "__getattribute__": getattribute, "__module__": cls.__module__, **inherited}
    copy: Any = object.__new__(type(cls.__name__, (cls,), body))
    for name in names:
        object.__setattr__(copy, name, getattr(component, name))
    return copy, read
