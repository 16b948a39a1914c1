"""What can be said of a component class without building anything: the part that `roadwork plugins check` runs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from ..component import component_info
from ..errors import Problem, SpecError
from ..kinds import Kind
from ..plugins import Plugins
from ..spec.fields import Field, FieldTypeError, fields_of, split_inline
from ..spec.needs import requirements_of
from ..spec.placeholders import placeholder

#: Methods of a component besides `build`, with the number of arguments that the core gives.
_METHODS: Mapping[Kind, Mapping[str, int]] = {
    Kind.CALIBRATOR: {"restore": 1},
    Kind.POLICY: {"restore": 2, "requires": 0},
}
#: Methods that a component of any kind may have besides, with the number of arguments that the core gives.
_OPTIONAL = {"needs": 0, "fingerprint": 0}
#: Class attributes that the core reads, and the values that they may have; the first is the default.
_CLASS_VALUES: Mapping[Kind, Mapping[str, tuple[Any, ...]]] = {
    Kind.AUGMENTATION: {"batch": (False, True)},
    Kind.LOSS: {"soft_targets": (False, True)},
    Kind.POLICY: {"mode": ("fast", "accurate", "hybrid")},
}


def static_problems(cls: type, plugins: Plugins) -> list[Problem]:
    """Everything about a component class that breaks its contract, without importing torch or building it."""
    try:
        fields = fields_of(cls)
    except FieldTypeError as error:
        return [Problem(str(error))]
    checks = (interface_problems, frozen_problems, documentation_problems, name_problems)
    found = [problem for check in checks for problem in check(cls)]
    return [*found, *default_problems(cls, plugins, fields), *toml_problems(cls, plugins, fields)]


def interface_problems(cls: type) -> Iterator[Problem]:
    """Missing methods, wrong numbers of arguments, class attributes with values that the core does not know."""
    kind = component_info(cls).kind
    optional = {name: count for name, count in _OPTIONAL.items() if callable(getattr(cls, name, None))}
    for name, arguments in {"build": 1, **_METHODS.get(kind, {}), **optional}.items():
        method = getattr(cls, name, None)
        if not callable(method):
            yield Problem(f"{cls.__name__} has no method {name}, which a {kind} needs")
            continue
        try:
            inspect.signature(method).bind(*[None] * (arguments + 1))
        except TypeError:
            given = "no argument" if arguments == 0 else ", ".join(("state", "ctx")[-arguments:])
            yield Problem(f"{cls.__name__}.{name} cannot be called with {given}")
    for name, allowed in _CLASS_VALUES.get(kind, {}).items():
        if (value := getattr(cls, name, allowed[0])) not in allowed:
            yield Problem(f"{cls.__name__}.{name} is {value!r}, not one of {', '.join(map(repr, allowed))}")


def needs_problems(component: Any) -> Iterator[Problem]:
    """A component whose `needs` fails, answers with anything but requirements, or imports what it names."""
    who = f"{type(component).__name__}.needs()"
    try:
        found = requirements_of(component)
        with hidden(name for requirement in found for name in requirement.modules):
            requirements_of(component)
    except ImportError as error:
        yield Problem(f"{who} imports {error.name or 'what may be missing'}; name it, and import it in build")
    except Exception as error:  # noqa: BLE001 - the component's own code may fail in any way
        yield Problem(f"{who} fails: {type(error).__name__}: {error}")


@contextmanager
def hidden(modules: Iterable[str]) -> Iterator[None]:
    """Within it these top-level modules cannot be imported."""
    kept = {name: sys.modules.get(name) for name in modules}
    for name in kept:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def frozen_problems(cls: type) -> Iterator[Problem]:
    """A class whose instances can be changed."""
    instance: Any = object.__new__(cls)
    for field in attrs.fields(cls):
        try:
            setattr(instance, field.name, None)
        except attrs.exceptions.FrozenInstanceError:
            continue
        yield Problem(f"{cls.__name__}.{field.name} can be assigned to; a component must be frozen")


def documentation_problems(cls: type) -> Iterator[Problem]:
    """A class without a docstring, an option without help."""
    if not (cls.__doc__ or "").strip():
        yield Problem(f"{cls.__name__} has no docstring")
    for attribute in attrs.fields(cls):
        if "help" in attribute.metadata and not attribute.metadata["help"].strip():
            yield Problem(f"{cls.__name__}.{attribute.name} has no help", key=attribute.name)


def undocumented(cls: type) -> list[str]:
    """Fields written plainly (`gamma: float = 2.0`), which have a type and a default but no line of help."""
    return [attribute.name for attribute in attrs.fields(cls) if "help" not in attribute.metadata]


def name_problems(cls: type) -> Iterator[Problem]:
    """Field names that the spec cannot tell apart from its own keys, renamed options that lead nowhere."""
    info = component_info(cls)
    names = {attribute.name for attribute in attrs.fields(cls)}
    for name in sorted(names & _section_keys(info.kind)):
        yield Problem(f"{cls.__name__}.{name} has the name of a key of the table it stands in", key=name)
    for old, new in info.renamed.items():
        if new not in names:
            yield Problem(f"{cls.__name__}: the renamed option {old} leads to {new}, which is no field", key=old)
        if old in names:
            yield Problem(f"{cls.__name__}: {old} is both a field and an earlier name of {new}", key=old)


def default_problems(cls: type, plugins: Plugins, fields: Mapping[str, Field]) -> Iterator[Problem]:
    """Defaults that a spec could not have written: wrong type, out of bounds, an unknown component."""
    for name, field in fields.items():
        if field.nullable and not field.required and field.default is not None:
            yield Problem(
                f"{cls.__name__}.{name} may be None, but a spec that leaves it out gets {field.default!r}",
                key=name,
                hint="TOML has no null: default to None, or give the case a value of its own",
            )
    _, problems = instance_of_defaults(cls, plugins, fields)
    yield from problems


def toml_problems(cls: type, plugins: Plugins, fields: Mapping[str, Field]) -> Iterator[Problem]:
    """Options that change on their way through TOML."""
    instance, _ = instance_of_defaults(cls, plugins, fields)
    if instance is not None and (difference := toml_difference(instance, plugins)):
        yield Problem(f"{cls.__name__}: {difference}")


def instance_of_defaults(cls: type, plugins: Plugins, fields: Mapping[str, Field]) -> tuple[Any | None, list[Problem]]:
    """An instance from the defaults and placeholders for what is required, or what is wrong with the defaults."""
    required = {name: placeholder(field, plugins) for name, field in fields.items() if field.required}
    try:
        return resolve(cls, required, plugins), []
    except SpecError as error:
        # A placeholder may break a rule between fields; only the author knows values that do not.
        problems = [p for p in error.found if not required or (p.key and p.key.split(".")[-1] not in required)]
        return None, [Problem(f"{cls.__name__}: {p.message}", key=p.key, hint=p.hint) for p in problems]
    except (ValueError, TypeError) as error:
        return None, [] if required else [Problem(f"{cls.__name__}: its defaults are refused: {error}")]


def toml_difference(instance: Any, plugins: Plugins) -> str | None:
    """What is lost when a component is written as TOML and read again, or None."""
    import tomli

    from ..spec import component_options, dump_toml

    written = dump_toml(component_options(instance, plugins))
    read = resolve(type(instance), tomli.loads(written), plugins)
    if read == instance:
        return None
    fields = [field.name for field in attrs.fields(type(instance))]
    lost = [name for name in fields if getattr(read, name) != getattr(instance, name)]
    return f"{', '.join(lost) or 'the instance'} changed on the way through TOML ({' | '.join(written.splitlines())})"


def resolve(cls: type, options: Mapping[str, Any], plugins: Plugins) -> Any:
    """An instance of the class from options as TOML would give them. Raises SpecError."""
    from ..spec import resolve_component

    use = plugins.qualified_name(cls)
    return resolve_component(component_info(cls).kind, {"use": use, **options}, plugins)


def _section_keys(kind: Kind) -> set[str]:
    """Keys of the core's tables into which components of this kind are written inline."""
    from ..spec import model

    keys = {"use", "extends", "unset"}
    for section in (model.Data, model.Augment, model.Optimizer, model.Watched):
        inline, others = split_inline(section)
        if inline is not None and getattr(inline.shape, "kind", None) is kind:
            keys |= set(others)
    return keys
