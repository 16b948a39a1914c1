"""The fields of a section or component as a spec sees them: which TOML each one takes."""

from __future__ import annotations

import collections.abc
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

import attrs

from ..component import Constraint, is_component
from ..kinds import Kind

SCALARS = (bool, int, float, str)
_NO_CONSTRAINT = Constraint()


class FieldTypeError(TypeError):
    """A component or section has a field that no TOML can fill; the message names class and field."""


@attrs.frozen
class Scalar:
    """bool, int, float or str."""

    type: type


@attrs.frozen
class Choice:
    """One of a few literal values."""

    values: tuple[Any, ...]


@attrs.frozen
class Array:
    """An array of any length."""

    item: Shape


@attrs.frozen
class Fixed:
    """An array with one type per place."""

    items: tuple[Shape, ...]


@attrs.frozen
class Table:
    """A table with free keys."""

    item: Shape


@attrs.frozen
class Section:
    """A table with the keys of a section class."""

    cls: type


@attrs.frozen
class Either:
    """Any of several shapes, the first that fits."""

    options: tuple[Shape, ...]


@attrs.frozen
class Slot:
    """Another component: a table with `use`, an array of such (`many`) or a table of such (`named`)."""

    kind: Kind
    many: bool = False
    named: bool = False


Shape = Scalar | Choice | Array | Fixed | Table | Section | Either | Slot


@attrs.frozen(kw_only=True)
class Field:
    """One key: its shape, default (NOTHING when required), bounds and help. `inline` marks the slot whose
    component's keys stand in the same table."""

    name: str
    argument: str
    shape: Shape
    nullable: bool
    default: Any
    help: str
    constraint: Constraint
    inline: bool

    @property
    def required(self) -> bool:
        return self.default is attrs.NOTHING


def is_section(cls: Any) -> bool:
    return isinstance(cls, type) and attrs.has(cls) and not is_component(cls)


@functools.cache
def fields_of(cls: type) -> Mapping[str, Field]:
    """The fields of a section or component class by key, in order. Raises FieldTypeError."""
    try:
        hints = typing.get_type_hints(cls)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise FieldTypeError(f"{cls.__name__}: its annotations cannot be read: {error}") from None
    return types.MappingProxyType(
        {
            attribute.name: _field(cls, attribute, hints.get(attribute.name, Any))
            for attribute in attrs.fields(cls)
            if attribute.init
        }
    )


def split_inline(cls: type) -> tuple[Field | None, Mapping[str, Field]]:
    """The inline slot of a section, if it has one, and its other fields."""
    fields = fields_of(cls)
    inline = next((field for field in fields.values() if field.inline), None)
    return inline, {name: field for name, field in fields.items() if not field.inline}


def _field(cls: type, attribute: attrs.Attribute[Any], hint: Any) -> Field:
    metadata = attribute.metadata
    nullable = False
    if "slot" in metadata:
        shape: Shape = Slot(metadata["slot"], metadata["many"], metadata["named"])
        nullable = attribute.default is None
    else:
        try:
            shape, nullable = _shape(hint)
        except FieldTypeError as error:
            raise FieldTypeError(f"{cls.__name__}.{attribute.name}: {error}") from None
    if attribute.name == "use" or not attribute.alias:
        raise FieldTypeError(f"{cls.__name__}.{attribute.name}: a field cannot have this name")
    return Field(
        name=attribute.name,
        argument=attribute.alias,
        shape=shape,
        nullable=nullable,
        default=_default(cls, attribute),
        help=metadata.get("help", ""),
        constraint=metadata.get("constraint", _NO_CONSTRAINT),
        inline=bool(metadata.get("inline")),
    )


def _default(cls: type, attribute: attrs.Attribute[Any]) -> Any:
    default: Any = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        if default.takes_self:
            raise FieldTypeError(f"{cls.__name__}.{attribute.name}: a default cannot depend on other fields")
        return default.factory()
    return default


def _shape(hint: Any) -> tuple[Shape, bool]:
    """The shape of an annotation, and whether it allows None."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        nullable = len(options) < len(arguments)
        # float last: it would take the integers that another option is for.
        shapes = sorted(map(_plain_shape, options), key=lambda shape: shape == Scalar(float))
        return (shapes[0] if len(shapes) == 1 else Either(tuple(shapes))), nullable
    return _plain_shape(hint), False


def _plain_shape(hint: Any) -> Shape:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in SCALARS:
        return Scalar(hint)
    if origin is typing.Annotated:
        return _plain_shape(arguments[0])
    if origin is typing.Literal:
        return Choice(arguments)
    if origin is tuple and arguments:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return Array(_plain_shape(arguments[0]))
        return Fixed(tuple(map(_plain_shape, arguments)))
    if origin in (list, collections.abc.Sequence) and arguments:
        return Array(_plain_shape(arguments[0]))
    if origin in (dict, collections.abc.Mapping) and len(arguments) == 2 and arguments[0] is str:
        return Table(_plain_shape(arguments[1]))
    if origin in (typing.Union, types.UnionType):
        shape, nullable = _shape(hint)
        if not nullable:
            return shape
    if is_section(hint):
        return Section(hint)
    raise FieldTypeError(
        f"the type {getattr(hint, '__name__', hint)} is none that TOML can fill"
        " (bool, int, float, str, X | None, tuple, Mapping[str, X], Literal, a section, slot())"
    )
