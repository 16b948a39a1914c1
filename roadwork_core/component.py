"""What a component is: a frozen attrs class whose fields are its TOML keys."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, dataclass_transform

import attrs

from .kinds import Kind

#: The component contract that this core speaks. A plugin built for another level is listed as broken.
API_LEVEL = 1

_MARK = "__roadwork_component__"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_C = TypeVar("_C", bound=type)


class ComponentDefinitionError(TypeError):
    """A class that cannot be a component: the cause is shown by `roadwork plugins list`."""


@attrs.frozen
class ComponentInfo:
    """What the core knows of a component class without building it."""

    kind: Kind
    name: str
    api: int
    renamed: Mapping[str, str]
    file: str
    line: int

    @property
    def source(self) -> str:
        return f"{self.file}:{self.line}"


@attrs.frozen
class Constraint:
    """What a value must satisfy beyond its type; the same record makes the check, the JSON Schema and the docs."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] | None = None
    min_length: int | None = None
    pattern: str | None = None

    def violation(self, value: Any) -> str | None:
        """Says why `value` (already of the right type, not None) is refused, or returns None.

        Bounds apply to a number, or to each number of an array.
        """
        if self.min_length is not None and len(value) < self.min_length:
            if self.min_length == 1 and isinstance(value, str):
                return "must not be empty"
            unit = "character" if isinstance(value, str) else "item"
            return f"needs at least {self.min_length} {unit}{'s' if self.min_length > 1 else ''}, got {len(value)}"
        for item in value if isinstance(value, tuple | list) else (value,):
            if reason := self._item_violation(item):
                return reason
        return None

    def _item_violation(self, item: Any) -> str | None:
        if self.choices is not None and item not in self.choices:
            return f"must be one of {', '.join(map(repr, self.choices))}, got {item!r}"
        if self.pattern is not None and isinstance(item, str) and not re.fullmatch(self.pattern, item):
            return f"must match {self.pattern}, got {item!r}"
        if not isinstance(item, int | float) or isinstance(item, bool):
            return None
        if item != item:
            return "must be a number, got nan"
        if self.minimum is not None and item < self.minimum:
            return f"must be at least {self.minimum:g}, got {item!r}"
        if self.maximum is not None and item > self.maximum:
            return f"must be at most {self.maximum:g}, got {item!r}"
        if self.above is not None and item <= self.above:
            return f"must be above {self.above:g}, got {item!r}"
        if self.below is not None and item >= self.below:
            return f"must be below {self.below:g}, got {item!r}"
        return None


def _validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (reason := attribute.metadata["constraint"].violation(value)):
        raise ValueError(f"{attribute.name} {reason}")


def option(
    *,
    default: Any = attrs.NOTHING,
    help: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] | None = None,
    min_length: int | None = None,
    pattern: str | None = None,
) -> Any:
    """A field of a component with bounds and one line of help; without `default` it is required.

    `minimum` and `maximum` include the bound, `above` and `below` exclude it. A field written plainly
    (`gamma: float = 2.0`) is a field as well, only without bounds.
    """
    constraint = Constraint(minimum, maximum, above, below, choices, min_length, pattern)
    return attrs.field(
        default=default, validator=_validate, metadata={"help": help, "constraint": constraint}, kw_only=True
    )


def slot(
    kind: Kind | str,
    *,
    default: Any = attrs.NOTHING,
    help: str = "",
    many: bool = False,
    named: bool = False,
    inline: bool = False,
) -> Any:
    """A field that holds another component, written in TOML as a table with `use`.

    `many` takes an array of tables (the field holds a tuple), `named` a table of tables (the field holds a mapping).
    `inline` takes the component's keys from the very table that the field's owner is read from; only the core's
    sections use it. A default is written as TOML would be: `{"use": "linear"}`.
    """
    metadata = {"help": help, "slot": Kind(kind), "many": many, "named": named, "inline": inline}
    return attrs.field(default=default, metadata=metadata, kw_only=True)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, slot, attrs.field))
def component(
    kind: Kind | str, name: str, *, renamed: Mapping[str, str] | None = None, api: int = API_LEVEL
) -> Callable[[_C], _C]:
    """Makes a class a component: frozen, keyword-only attrs, known to a spec as `use = "<name>"`.

    `renamed` maps option names of earlier releases to today's; a spec that uses one gets a deprecation line.
    Raises ComponentDefinitionError for an unknown kind, a name that is not snake_case, or a missing `build`.
    """

    def decorate(cls: _C) -> _C:
        try:
            known = Kind(kind)
        except ValueError:
            kinds = ", ".join(Kind)
            raise ComponentDefinitionError(f"{cls.__name__}: unknown kind {kind!r} (kinds: {kinds})") from None
        if not _NAME.fullmatch(name):
            raise ComponentDefinitionError(f"{cls.__name__}: the name {name!r} is not snake_case")
        if not callable(getattr(cls, "build", None)):
            raise ComponentDefinitionError(f"{cls.__name__} has no build(self, ctx)")
        file, line = _where(cls)
        made = attrs.define(cls, frozen=True, kw_only=True)
        info = ComponentInfo(known, name, api, MappingProxyType(dict(renamed or {})), file, line)
        setattr(made, _MARK, info)
        return made

    return decorate


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, slot, attrs.field))
def section(cls: _C) -> _C:
    """Makes a class a table of the spec that belongs to the core or to a component: frozen, keyword-only attrs."""
    return attrs.define(cls, frozen=True, kw_only=True)


def component_info(obj: Any) -> ComponentInfo:
    """The info of a component class or instance. Raises TypeError for anything else."""
    cls = obj if isinstance(obj, type) else type(obj)
    info = cls.__dict__.get(_MARK)
    if not isinstance(info, ComponentInfo):
        raise TypeError(f"{cls.__name__} is not a component (decorate it with @component)")
    return info


def is_component(obj: Any) -> bool:
    """Whether this class or instance was made by `@component` itself (a subclass of one is not)."""
    cls = obj if isinstance(obj, type) else type(obj)
    return isinstance(cls.__dict__.get(_MARK), ComponentInfo)


def _where(cls: type) -> tuple[str, int]:
    code = getattr(getattr(cls, "build", None), "__code__", None)
    line = getattr(cls, "__firstlineno__", None) or (code.co_firstlineno if code else 0)
    module = inspect.getmodule(cls)
    file = getattr(module, "__file__", None) or (code.co_filename if code else "<unknown>")
    return file, line
