"""A component described for people: its fields with types, defaults and bounds, and TOML to begin with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..component import Constraint, component_info
from ..kinds import Kind
from ..plugins import Plugins
from .dump import dump_toml
from .fields import Array, Choice, Either, Field, Fixed, Scalar, Section, Shape, Slot, Table, fields_of
from .placeholders import placeholder
from .values import plain

#: Where in a spec a component of each kind is written; a name stands for the user's own. An exporter stands in none:
#: its table shows its options.
PLACES: Mapping[Kind, tuple[str | int, ...]] = {
    Kind.DATASET: ("data",),
    Kind.AUGMENTATION: ("augment", 0),
    Kind.BACKBONE: ("backbone",),
    Kind.ADAPTER: ("adapter",),
    Kind.HEAD: ("head",),
    Kind.LOSS: ("loss",),
    Kind.OPTIMIZER: ("optimizer",),
    Kind.SCHEDULER: ("scheduler",),
    Kind.OBJECTIVE: ("adapt", "objective"),
    Kind.CALIBRATOR: ("policy", "name", "calibrator"),
    Kind.POLICY: ("policy", "name"),
    Kind.TTA: ("tta",),
    Kind.TRACKER: ("tracker", 0),
    Kind.EXPORTER: ("exporter",),
    Kind.LEADERBOARD: ("leaderboard",),
}
#: Class attributes that say how the core treats a component.
_TRAITS = {"batch": Kind.AUGMENTATION, "soft_targets": Kind.LOSS, "mode": Kind.POLICY}


def describe(cls: type, plugins: Plugins) -> dict[str, Any]:
    """Everything that the class says of itself, as a JSON value.

    Raises FieldTypeError where a field has a type that TOML cannot fill.
    """
    info, record = component_info(cls), plugins.owner(cls)
    traits = [name for name, kind in _TRAITS.items() if kind is info.kind and hasattr(cls, name)]
    doc = inspect.cleandoc(cls.__doc__ or "")
    return {
        "kind": str(info.kind),
        "name": info.name,
        "use": plugins.use_name(cls),
        "qualified": plugins.qualified_name(cls),
        "plugin": record.name,
        "distribution": record.distribution,
        "version": record.version,
        "source": info.source,
        "api": info.api,
        "summary": doc.split("\n\n", maxsplit=1)[0].replace("\n", " "),
        "doc": doc,
        "traits": {name: getattr(cls, name) for name in traits},
        "fields": [_field(field) for field in fields_of(cls).values()],
        "renamed": dict(info.renamed),
        "toml": snippet(cls, plugins),
    }


def _field(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": type_of(field),
        "required": field.required,
        "default": None if field.required else plain(field.default),
        "bounds": bounds(field.constraint),
        "help": field.help,
    }


def type_of(field: Field) -> str:
    """The type of a field in words."""
    words = _words(field.shape)
    return f"{words} (or absent)" if field.nullable else words


def bounds(constraint: Constraint) -> str | None:
    """What a value must satisfy beyond its type, or None."""
    said = [
        f"{symbol} {value:.12g}"
        for symbol, value in (
            (">=", constraint.minimum),
            (">", constraint.above),
            ("<=", constraint.maximum),
            ("<", constraint.below),
        )
        if value is not None
    ]
    if constraint.choices is not None:
        said.append(f"one of {', '.join(map(repr, constraint.choices))}")
    if constraint.min_length is not None:
        said.append("not empty" if constraint.min_length == 1 else f"at least {constraint.min_length} items")
    if constraint.pattern is not None:
        said.append(f"matches {constraint.pattern}")
    return ", ".join(said) or None


def snippet(cls: type, plugins: Plugins) -> str:
    """A table of a spec with every option at its default, required ones marked, absent ones as comments."""
    info, fields = component_info(cls), fields_of(cls)
    values = {
        name: placeholder(field, plugins) if field.required else plain(field.default) for name, field in fields.items()
    }
    table: Any = {"use": plugins.use_name(cls), **values}
    if info.kind is Kind.AUGMENTATION and getattr(cls, "batch", False):
        table["on"] = "batch"
    place = PLACES.get(info.kind, (str(info.kind),))
    document = table
    for part in reversed(place):
        document = [document] if isinstance(part, int) else {part: document}
    required = {(*place, name) for name, field in fields.items() if field.required}
    text = dump_toml(document, note=lambda path: "required" if path in required else None)
    absent = [f"# {name} = {_example(fields[name], plugins)}" for name, value in values.items() if value is None]
    if not absent:
        return text
    head, blank, rest = text.partition("\n\n")
    return "\n".join([head.rstrip("\n"), *absent]) + ("\n" + blank.lstrip("\n") + "\n" + rest if blank else "\n")


def _example(field: Field, plugins: Plugins) -> str:
    return dump_toml({"x": [placeholder(field, plugins)]}).partition("[")[2].rstrip("\n").removesuffix("]") or "{}"


def _words(shape: Shape) -> str:
    match shape:
        case Scalar(kind):
            return {str: "string", int: "integer", float: "number", bool: "true or false"}[kind]
        case Choice(values):
            return " | ".join(dump_toml({"x": value}).partition(" = ")[2].strip() for value in values)
        case Array(item):
            return f"array of ({_words(item)})" if " " in _words(item) else f"array of {_words(item)}"
        case Fixed(items):
            return f"[{', '.join(map(_words, items))}]"
        case Table(item):
            return f"table of {_words(item)}"
        case Section(cls):
            return f"table ({', '.join(fields_of(cls))})"
        case Either(options):
            return " or ".join(map(_words, options))
        case Slot(kind, many, named):
            return f"array of {kind} tables" if many else f"table of {kind} tables" if named else f"{kind} table"
