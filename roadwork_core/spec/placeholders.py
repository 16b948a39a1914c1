"""A value that a required field would take, for snippets and for checks that need an instance."""

from __future__ import annotations

from typing import Any

from ..component import Constraint
from ..errors import RoadworkError
from ..plugins import Plugins
from .fields import Array, Choice, Either, Field, FieldTypeError, Fixed, Scalar, Section, Shape, Slot, Table, fields_of

_PLAIN = {bool: False, int: 1, float: 0.5, str: "..."}


def placeholder(field: Field, plugins: Plugins) -> Any:
    """The simplest TOML value within a field's type and bounds."""
    if field.constraint.choices is not None:
        return field.constraint.choices[0]
    return _of_shape(field.shape, field.constraint, plugins)


def _of_shape(shape: Shape, constraint: Constraint, plugins: Plugins) -> Any:
    if isinstance(shape, Scalar):
        return _number(shape.type, constraint) if shape.type in (int, float) else _PLAIN[shape.type]
    if isinstance(shape, Choice):
        return shape.values[0]
    if isinstance(shape, Array):
        return [_of_shape(shape.item, constraint, plugins)] * (constraint.min_length or 1)
    if isinstance(shape, Fixed):
        return [_of_shape(item, constraint, plugins) for item in shape.items]
    if isinstance(shape, Table):
        return {"name": _of_shape(shape.item, constraint, plugins)}
    if isinstance(shape, Section):
        return {name: placeholder(field, plugins) for name, field in fields_of(shape.cls).items() if field.required}
    if isinstance(shape, Either):
        return _of_shape(shape.options[0], constraint, plugins)
    return _component(shape, plugins)


def _number(kind: type, constraint: Constraint) -> Any:
    low = constraint.minimum if constraint.minimum is not None else constraint.above
    high = constraint.maximum if constraint.maximum is not None else constraint.below
    if kind is int:
        if low is not None:
            return int(low) + (constraint.minimum is None)
        return 1 if high is None or high > 1 else int(high) - 1
    if low is not None and high is not None:
        return (low + high) / 2
    if low is not None:
        return float(low) + 0.5
    return 0.5 if high is None or high > 0.5 else float(high) - 0.5


def _stands_alone(slot: Slot, name: str, plugins: Plugins) -> bool:
    """Whether a component needs no more than its name."""
    try:
        return not any(field.required for field in fields_of(plugins.get(slot.kind, name)).values())
    except (FieldTypeError, RoadworkError):
        return False


def _component(slot: Slot, plugins: Plugins) -> Any:
    names = plugins.names(slot.kind)
    table = {"use": next((name for name in names if _stands_alone(slot, name, plugins)), names[0] if names else "...")}
    if slot.many:
        return [table]
    return {"name": table} if slot.named else table
