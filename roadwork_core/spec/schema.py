"""JSON Schema (2020-12) of a spec for the components that are installed: what editors complete and check with."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ..component import component_info
from ..kinds import Kind
from ..plugins import Plugins
from .check import USE
from .fields import (
    Array,
    Choice,
    Either,
    Field,
    FieldTypeError,
    Fixed,
    Scalar,
    Section,
    Shape,
    Slot,
    Table,
    fields_of,
    split_inline,
)
from .merge import CONSUMED
from .model import Spec
from .values import plain

Schema = dict[str, Any]

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
#: Stands for any value that is no string: `"${a.b}"` takes the other key's type.
_VARIABLE: Schema = {"type": "string", "pattern": r"^\$\{[^}]+\}$"}
#: A string that still holds a variable is not judged before it is expanded.
_HAS_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
_STRINGS: Schema = {"type": "array", "items": {"type": "string"}}


def spec_schema(plugins: Plugins) -> Schema:
    """The schema of a whole spec; of a file that `extends` another, it knows the top-level keys only.

    It says what `spec check` says about every single table, but for what lies in code (a component's own
    validators), agreement between tables, variables, and integers: JSON Schema takes 3.0 for an integer.
    """
    return _SchemaOf(plugins).spec()


class _SchemaOf:
    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins
        self.definitions: dict[str, Schema] = {}

    def spec(self) -> Schema:
        whole = self.section(Spec)
        own = whole["properties"]
        consumed = {
            "extends": {"anyOf": [{"type": "string"}, _STRINGS], "description": "files that this one is based on"},
            "unset": {"anyOf": [{"type": "string"}, _STRINGS], "description": "keys of the bases to leave out"},
        }
        assert tuple(consumed) == CONSUMED
        whole["properties"] = {**consumed, **own}
        self.definitions["spec"] = whole
        self.definitions["variable"] = _VARIABLE
        partial = {**consumed, **{name: {"description": schema.get("description", "")} for name, schema in own.items()}}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "roadwork spec",
            "type": "object",
            "if": {"type": "object", "required": ["extends"]},
            "then": {"properties": partial, "additionalProperties": False},
            "else": {"$ref": "#/$defs/spec"},
            "$defs": dict(sorted(self.definitions.items())),
        }

    def section(self, cls: type) -> Schema:
        """A section's table; one alternative per component where it holds an inline one."""
        inline, fields = split_inline(cls)
        if inline is None:
            return {**_about(cls), **self.table(fields)}
        assert isinstance(inline.shape, Slot)
        return self.slot(inline.shape.kind, None, fields)

    def table(self, fields: Mapping[str, Field], required: Iterable[str] = ()) -> Schema:
        schema: Schema = {
            "type": "object",
            "properties": {name: self.field(field) for name, field in fields.items()},
            "additionalProperties": False,
        }
        if needed := [*required, *(name for name, field in fields.items() if field.required)]:
            schema["required"] = needed
        return schema

    def slot(self, kind: Kind, default: Any, extra: Mapping[str, Field] | None = None) -> Schema:
        """Any component of a kind, told apart by `use`; the keys of `extra` stand in the same table."""
        alternatives = []
        for cls in self.plugins.components(kind):
            try:
                alternatives.append(self.alternative(cls, default, extra))
            except FieldTypeError:
                continue  # `spec check` refuses it as well
        if not alternatives:
            return {"type": "object", "not": {}, "description": f"no plugin supplies any {kind}"}
        return {"type": "object", "oneOf": alternatives}

    def alternative(self, cls: type, default: Any, extra: Mapping[str, Field] | None) -> Schema:
        info = component_info(cls)
        uses = list(dict.fromkeys((self.plugins.use_name(cls), self.plugins.qualified_name(cls))))
        fields = dict(fields_of(cls))
        is_default = isinstance(default, Mapping) and default.get(USE) in uses
        if extra is None and not is_default:
            key = f"{info.kind}.{self.plugins.use_name(cls)}".replace("/", ".")
            if key not in self.definitions:
                self.definitions[key] = {}  # a component may hold others of its kind
                self.definitions[key] = self.component(cls, uses, fields, required=True)
            return {"$ref": f"#/$defs/{key}"}
        if is_default:
            given = {
                name: attrs.evolve(field, default=default[name]) for name, field in fields.items() if name in default
            }
            fields |= given
        collision = extra is not None and extra.keys() & fields.keys()
        if collision:
            raise FieldTypeError(f"{info.name} collides")
        return self.component(cls, uses, {**fields, **(extra or {})}, required=not is_default)

    def component(self, cls: type, uses: list[str], fields: Mapping[str, Field], *, required: bool) -> Schema:
        info = component_info(cls)
        schema = self.table(fields, [USE] if required else [])
        names: Schema = {"const": uses[0]} if len(uses) == 1 else {"enum": uses}
        properties: Schema = {USE: {**names, **_about(cls)}, **schema["properties"]}
        for old, new in info.renamed.items():
            if new in properties:
                properties[old] = {**properties[new], "deprecated": True, "description": f'now called "{new}"'}
        schema["properties"] = properties
        constraints = [_renamed(old, new, new in schema.get("required", ())) for old, new in info.renamed.items()]
        if constraints:
            schema["required"] = [name for name in schema.get("required", ()) if name not in info.renamed.values()]
            schema["allOf"] = constraints
        return {**_about(cls), **schema}

    def field(self, field: Field) -> Schema:
        schema = self.field_shape(field)
        if field.help:
            schema = {**schema, "description": field.help}
        if not field.required and field.default is not None:
            schema = {**schema, "default": plain(field.default)}
        return schema

    def field_shape(self, field: Field) -> Schema:
        shape = field.shape
        if isinstance(shape, Slot):
            if shape.named:
                named: Schema = {"type": "object", "additionalProperties": self.slot(shape.kind, None)}
                if isinstance(field.default, Mapping) and field.default:
                    # An entry of a default's name may leave out what the default says.
                    entries = {name: self.slot(shape.kind, entry) for name, entry in field.default.items()}
                    named["properties"] = entries
                return named
            if shape.many:
                return _or_variable({"type": "array", "items": self.slot(shape.kind, None)})
            return self.slot(shape.kind, None if field.required else field.default)
        if isinstance(shape, Section):
            inline, fields = split_inline(shape.cls)
            if inline is not None and isinstance(inline.shape, Slot):
                return self.slot(inline.shape.kind, None if field.required else field.default, fields)
        return self.shape(shape, _bounds(field))

    def shape(self, shape: Shape, bounds: Schema) -> Schema:
        """A shape; `bounds` hold for a number or string, and for each one of an array."""
        match shape:
            case Scalar(kind):
                applicable = _applicable(bounds, kind)
                schema: Schema = {"type": _TYPES[kind], **applicable}
                return schema if kind is str and not applicable else _or_variable(schema, kind is str)
            case Choice(values):
                return _or_variable({"enum": list(values)}, all(isinstance(value, str) for value in values))
            case Array(item):
                size = {"minItems": bounds["length"]} if "length" in bounds else {}
                inner = {key: bound for key, bound in bounds.items() if key != "length"}
                return _or_variable({"type": "array", "items": self.shape(item, _once(item, inner)), **size})
            case Fixed(items):
                inner = {key: bound for key, bound in bounds.items() if key != "length"}
                places = [self.shape(item, _once(item, inner)) for item in items]
                count = {"minItems": len(items), "maxItems": len(items)}
                return _or_variable({"type": "array", "prefixItems": places, **count})
            case Table(item):
                size = {"minProperties": bounds["length"]} if "length" in bounds else {}
                return {"type": "object", "additionalProperties": self.shape(item, {}), **size}
            case Section(cls):
                return self.section(cls)
            case Either(options):
                return {"anyOf": [self.shape(option, bounds) for option in options]}
            case Slot(kind):
                return self.slot(kind, None)


def _renamed(old: str, new: str, required: bool) -> Schema:
    both: Schema = {"not": {"required": [old, new]}}
    return {"oneOf": [{"required": [old]}, {"required": [new]}]} if required else both


def _once(item: Shape, bounds: Schema) -> Schema:
    """Bounds reach into one level of arrays, as the checker's do."""
    return {} if isinstance(item, Array | Fixed | Table) else bounds


def _bounds(field: Field) -> Schema:
    constraint = field.constraint
    found: Schema = {
        "minimum": constraint.minimum,
        "maximum": constraint.maximum,
        "exclusiveMinimum": constraint.above,
        "exclusiveMaximum": constraint.below,
        # The end of the text itself: Python's `$` also matches before a last line break.
        "pattern": None if constraint.pattern is None else rf"^(?:{constraint.pattern})(?![\s\S])",
        "enum": None if constraint.choices is None else list(constraint.choices),
        "length": constraint.min_length,
    }
    return {key: bound for key, bound in found.items() if bound is not None}


def _applicable(bounds: Schema, kind: type) -> Schema:
    """The bounds that mean something for a scalar of this type."""
    if kind is bool:
        return {key: bound for key, bound in bounds.items() if key == "enum"}
    if kind is str:
        chosen = {key: bound for key, bound in bounds.items() if key in ("pattern", "enum")}
        return {**chosen, **({"minLength": bounds["length"]} if "length" in bounds else {})}
    return {key: bound for key, bound in bounds.items() if key not in ("pattern", "length")}


def _or_variable(schema: Schema, is_text: bool = False) -> Schema:
    return {"anyOf": [schema, _HAS_VARIABLE if is_text else {"$ref": "#/$defs/variable"}]}


def _about(cls: type) -> Schema:
    text = inspect.getdoc(cls)
    # attrs classes without a docstring inherit none, but dataclass-like reprs must not leak in.
    return {"description": " ".join(text.split("\n\n")[0].split())} if text else {}
