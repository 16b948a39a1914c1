"""Holds a document against the classes of the spec and its components, and makes their instances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from ..component import component_info
from ..errors import Origin, UnknownComponentError
from ..kinds import Kind
from ..plugins import Plugins
from .fields import (
    Array,
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
from .findings import Findings
from .hints import article, nearest
from .scalars import FAILED, choice, expected, got, scalar
from .tree import DEFAULT, UNKNOWN, KeyPath, Node, format_key, node_of

USE = "use"

#: An instance or value, and the same as plain JSON values; (FAILED, FAILED) after a problem.
Checked = tuple[Any, Any]
_FAILED: Checked = (FAILED, FAILED)


class Checker:
    """Checks one document: `spec` or `component` gives instance and plain values, the rest is kept here."""

    def __init__(self, plugins: Plugins, found: Findings) -> None:
        self.plugins = plugins
        self.found = found
        #: Where each key of the resolved values was written.
        self.origins: dict[KeyPath, Origin] = {}
        #: Component classes in use, one entry per use.
        self.components: list[type] = []
        #: Every instance that was made of a component or a table, with its place.
        self.made: list[tuple[Any, KeyPath, Origin]] = []

    # --- tables ------------------------------------------------------------------------------------------------

    def section(self, cls: type, node: Node, path: KeyPath) -> Checked:
        """A table with the keys of a section class, and those of its inline component."""
        if not self._is_table(node, path):
            return _FAILED
        inline, fields = split_inline(cls)
        if inline is None:
            self._refuse_unknown(node, path, fields, fields)
            return self._make(cls, fields, node, path)
        assert isinstance(inline.shape, Slot)
        made = self._inline_component(inline, fields, node, path)
        arguments, values = self._fill(fields, node, path)
        if made is _FAILED or arguments is FAILED:
            return _FAILED
        instance = self._instantiate(cls, fields, {**arguments, inline.argument: made[0]}, node, path)
        return (instance, {**made[1], **values}) if instance is not FAILED else _FAILED

    def component(self, slot: Slot, node: Node, path: KeyPath, default: Any = None) -> Checked:
        """A table with `use`; without it the slot's default component, whose options are then the defaults."""
        if not self._is_table(node, path):
            return _FAILED
        node = _over_default(node, default)
        cls = self._used(slot.kind, node, path)
        if cls is None:
            return _FAILED
        node = self._renamed(cls, node, path)
        fields = self._fields(cls)
        if fields is None:
            return _FAILED
        self._refuse_unknown(node, path, [USE, *fields], fields, cls)
        return self._component(cls, fields, node, path)

    def _inline_component(self, inline: Field, own: Mapping[str, Field], node: Node, path: KeyPath) -> Checked:
        assert isinstance(inline.shape, Slot)
        cls = self._used(inline.shape.kind, node, path)
        fields = self._fields(cls) if cls is not None else None
        if cls is None or fields is None:
            return _FAILED
        if both := sorted(own.keys() & fields.keys()):
            info = component_info(cls)
            table = f"[{format_key(path)}]"
            self.found.add(
                f"{info.kind} {info.name}: its option{'s' if len(both) > 1 else ''} {', '.join(both)}"
                f" collide{'' if len(both) > 1 else 's'} with {table}'s own",
                key=format_key((*path, USE)),
                origin=self._origin((*path, USE), node),
                hint=f"the plugin must rename it at {info.source}",
            )
            return _FAILED
        renamed = self._renamed(cls, node, path)
        self._refuse_unknown(renamed, path, [USE, *fields, *own], {**fields, **own}, cls)
        return self._component(cls, fields, renamed, path)

    def _component(self, cls: type, fields: Mapping[str, Field], node: Node, path: KeyPath) -> Checked:
        use = node.value[USE]
        self.origins[(*path, USE)] = use.origin
        instance, values = self._make(cls, fields, node, path)
        if instance is FAILED:
            return _FAILED
        self.components.append(cls)
        return instance, {USE: use.value, **values}

    def _make(self, cls: type, fields: Mapping[str, Field], node: Node, path: KeyPath) -> Checked:
        arguments, values = self._fill(fields, node, path)
        if arguments is FAILED:
            return _FAILED
        instance = self._instantiate(cls, fields, arguments, node, path)
        return (instance, values) if instance is not FAILED else _FAILED

    def _fill(self, fields: Mapping[str, Field], node: Node, path: KeyPath) -> Checked:
        """Arguments for the class and plain values, from the table and the defaults."""
        self.origins[path] = node.origin
        arguments: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name, field in fields.items():
            place = (*path, name)
            if name in node.value:
                made = self.field(field, node.value[name], place)
            elif field.required:
                made = self._missing(field, node, path)
            elif field.default is None:
                self.origins[place] = DEFAULT
                made = (None, None)
            else:
                made = self.field(field, node_of(field.default, DEFAULT, node.folder), place)
            arguments[field.argument], values[name] = made
        if any(value is FAILED for value in values.values()):
            return _FAILED
        return arguments, values

    def _instantiate(
        self, cls: type, fields: Mapping[str, Field], arguments: Mapping[str, Any], node: Node, path: KeyPath
    ) -> Any:
        try:
            instance = cls(**arguments)
        except Exception as error:  # noqa: BLE001 - a component's own validators may fail in any way
            message = str(error.args[0]) if error.args else type(error).__name__
            if not isinstance(error, ValueError | TypeError):
                message = f"{cls.__name__} cannot be made: {type(error).__name__}: {message}"
            # attrs validators pass the attribute; messages by hand begin with its name.
            named = [part.name for part in error.args[1:2] if isinstance(part, attrs.Attribute)]
            named += [word for word in message.replace("'", " ").split()[:1] if word in fields]
            place = (*path, *named[:1])
            self.found.add(message, key=format_key(place), origin=self._origin(place, node))
            return FAILED
        self.made.append((instance, path, self._origin(path, node)))
        return instance

    # --- values ------------------------------------------------------------------------------------------------

    def field(self, field: Field, node: Node, path: KeyPath) -> Checked:
        """The value of one key: its type, then its bounds. None, which only documents outside a spec hold, is
        right where the type allows it."""
        if node.value is None and field.nullable:
            self.origins[path] = node.origin
            return None, None
        if isinstance(field.shape, Slot):
            return self._slot(field, field.shape, node, path)
        if isinstance(field.shape, Section) and isinstance(field.default, Mapping) and node.is_table:
            # The table of a section with an inline component, which the default names.
            node = _over_default(node, field.default)
        made = self.value(field.shape, node, path)
        if made is _FAILED:
            return _FAILED
        if reason := field.constraint.violation(made[0]):
            self.found.add(reason, key=format_key(path), origin=node.origin)
            return _FAILED
        return made

    def value(self, shape: Shape, node: Node, path: KeyPath) -> Checked:
        """A value of one shape; a problem otherwise."""
        self.origins[path] = node.origin
        if node.value is UNKNOWN:
            return _FAILED
        match shape:
            case Section(cls):
                return self.section(cls, node, path)
            case Slot():
                return self.component(shape, node, path)
            case Either(options):
                return self._either(options, node, path)
            case Table(item):
                return self._table(item, node, path)
            case Array() | Fixed():
                return self._array(shape, node, path)
        reason = scalar(shape.type, node.value) if isinstance(shape, Scalar) else choice(shape.values, node.value)
        if reason is not None:
            self.found.add(reason.message, key=format_key(path), origin=node.origin, hint=reason.hint)
            return _FAILED
        value = float(node.value) if shape == Scalar(float) else node.value
        return value, value

    def _either(self, options: Iterable[Shape], node: Node, path: KeyPath) -> Checked:
        for option in options:
            trial = Checker(self.plugins, Findings())
            made = trial.value(option, node, path)
            if made is not _FAILED:
                self.origins |= trial.origins
                self.components += trial.components
                self.made += trial.made
                self.found.warnings += trial.found.warnings
                return made
        return self._expected(expected(Either(tuple(options))), node, path)

    def _array(self, shape: Array | Fixed, node: Node, path: KeyPath) -> Checked:
        if not node.is_array:
            return self._expected(expected(shape), node, path)
        items = shape.items if isinstance(shape, Fixed) else (shape.item,) * len(node.value)
        if len(items) != len(node.value):
            message = f"expected {expected(shape)}, got {len(node.value)}"
            self.found.add(message, key=format_key(path), origin=node.origin)
            return _FAILED
        made = [
            self.value(item, child, (*path, i)) for i, (item, child) in enumerate(zip(items, node.value, strict=True))
        ]
        if any(pair is _FAILED for pair in made):
            return _FAILED
        return tuple(value for value, _ in made), [plain for _, plain in made]

    def _table(self, item: Shape, node: Node, path: KeyPath) -> Checked:
        if not self._is_table(node, path):
            return _FAILED
        made = {key: self.value(item, child, (*path, key)) for key, child in node.value.items()}
        if any(pair is _FAILED for pair in made.values()):
            return _FAILED
        return {key: pair[0] for key, pair in made.items()}, {key: pair[1] for key, pair in made.items()}

    def _slot(self, field: Field, slot: Slot, node: Node, path: KeyPath) -> Checked:
        one = Slot(slot.kind)
        self.origins[path] = node.origin
        if slot.named:
            return self._table(one, _over_default_entries(node, field.default), path)
        if slot.many:
            return self._array(Array(one), node, path)
        if node.value is UNKNOWN:
            return _FAILED
        return self.component(one, node, path, None if field.required else field.default)

    # --- names -------------------------------------------------------------------------------------------------

    def _used(self, kind: Kind, node: Node, path: KeyPath) -> type | None:
        use = node.value.get(USE)
        key = format_key((*path, USE))
        if use is None:
            if self.found.whole:
                hint = nearest("", self.plugins.names(kind), what=f"{kind} can be")
                self.found.add(f'missing "{USE}"', key=key, origin=node.origin, hint=hint)
            return None
        if use.value is UNKNOWN:
            return None
        if not isinstance(use.value, str):
            self._expected(f"the name of {article(kind)}", use, (*path, USE))
            return None
        try:
            return self.plugins.get(kind, use.value)
        except UnknownComponentError as error:
            self.found.add(error.message, key=key, origin=use.origin, hint=error.hint)
            return None

    def _fields(self, cls: type) -> Mapping[str, Field] | None:
        try:
            return fields_of(cls)
        except FieldTypeError as error:
            info = component_info(cls)
            self.found.add(
                f"{info.kind} {info.name} cannot be used: {error}",
                origin=Origin(info.file, info.line),
                hint=f"report it to the authors of {self.plugins.owner(cls).distribution}",
            )
            return None

    def _renamed(self, cls: type, node: Node, path: KeyPath) -> Node:
        """The table with options under today's names; an old name is a warning, old and new together a problem."""
        table = dict(node.value)
        for old, new in component_info(cls).renamed.items():
            if old not in table:
                continue
            written = table.pop(old)
            key = format_key((*path, old))
            if new in table:
                message = f'is the old name of "{new}", which is given as well'
                self.found.add(message, key=key, origin=written.origin, hint=f'keep "{new}"')
                continue
            self.found.warn(f'is deprecated: it is now called "{new}"', key=key, origin=written.origin)
            table[new] = written
        return node.with_value(table)

    def _refuse_unknown(
        self,
        node: Node,
        path: KeyPath,
        known: Iterable[str],
        fields: Mapping[str, Field],
        cls: type | None = None,
    ) -> None:
        for name, child in node.value.items():
            if name in known:
                continue
            owner = "the spec" if not path else f"[{format_key(path)}]"
            if cls is not None:
                info = component_info(cls)
                owner = f"{info.kind} {info.name}"
            hint = nearest(name, [key for key in known if key != USE] or [], what="known")
            hint = hint or f"{owner} takes no options"
            use = node.value.get(USE)
            if use is not None and use.origin.source != child.origin.source:
                hint += f"; {USE} is set at {use.origin}: unset {format_key((*path, name))} if it belongs to another"
            self.found.add(
                f'unknown key "{name}" of {owner}', key=format_key((*path, name)), origin=child.origin, hint=hint
            )

    def _missing(self, field: Field, node: Node, path: KeyPath) -> Checked:
        if not self.found.whole:
            return _FAILED
        key = format_key((*path, field.name))
        if isinstance(field.shape, Slot) and not field.shape.many and not field.shape.named:
            names = self.plugins.names(field.shape.kind)
            hint = f'write [{key}] with use = "..."; {nearest("", names, what="known") or "no plugin supplies any"}'
            self.found.add(f"missing table [{key}]", key=key, origin=node.origin, hint=hint)
        elif isinstance(field.shape, Section):
            self.found.add(f"missing table [{key}]", key=key, origin=node.origin, hint=field.help or None)
        else:
            what = f"{expected(field.shape)}{': ' + field.help if field.help else ''}"
            self.found.add(f'missing key "{field.name}"', key=key, origin=node.origin, hint=what)
        return _FAILED

    def _is_table(self, node: Node, path: KeyPath) -> bool:
        self.origins[path] = node.origin
        if node.is_table:
            return True
        if node.value is not UNKNOWN:
            self._expected("a table", node, path)
        return False

    def _expected(self, wanted: str, node: Node, path: KeyPath) -> Checked:
        if node.value is not UNKNOWN:
            message = f"expected {wanted}, got {got(node.value)}"
            self.found.add(message, key=format_key(path), origin=node.origin)
        return _FAILED

    def _origin(self, path: KeyPath, node: Node) -> Origin:
        """Where a key was written, or else its table; what is a default is blamed on the table."""
        origin = self.origins.get(path)
        if origin is not None and origin != DEFAULT:
            return origin
        use = node.value.get(USE)
        return use.origin if use is not None and use.origin != DEFAULT else node.origin


def _over_default_entries(node: Node, default: Any) -> Node:
    """A table of components, each laid over the default entry of its name: it may change that one's options alone."""
    if not node.is_table or not isinstance(default, Mapping):
        return node
    entries = {
        name: _over_default(child, default[name]) if name in default and child.is_table else child
        for name, child in node.value.items()
    }
    return node.with_value(entries)


def _over_default(node: Node, default: Any) -> Node:
    if USE in node.value or not isinstance(default, Mapping) or USE not in default:
        return node
    return node.with_value({**node_of(default, DEFAULT, node.folder).value, **node.value})
