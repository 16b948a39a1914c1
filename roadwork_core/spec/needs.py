"""What the components of a spec need beyond what is installed with them, asked while it is checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from ..component import component_info, is_component
from ..errors import Origin, Problem
from ..extras import Requirement
from .findings import Findings
from .tree import DEFAULT, KeyPath, format_key


@frozen(kw_only=True)
class Need:
    """One requirement of what stands at `key`, in this top-level table of the spec."""

    table: str
    who: str
    key: str | None
    origin: Origin | None
    requirement: Requirement

    def problem(self) -> Problem | None:
        """What is missing, or None where it is installed."""
        return self.requirement.problem(self.who, key=self.key, origin=self.origin)


def needs_of(made: Iterable[tuple[Any, KeyPath, Origin]], found: Findings) -> list[Need]:
    """What these components and tables, each with its place, say in their method `needs`, where they have one.

    An answer that cannot be used is a problem of the plugin's, and added to `found`.
    """
    needs: list[Need] = []
    for instance, path, written in made:
        key, origin = format_key(path) or None, None if written == DEFAULT else written
        try:
            answers = requirements_of(instance)
        except Exception as error:  # noqa: BLE001 - a component's own code may fail in any way
            message = f"{type(instance).__name__}.needs() fails: {type(error).__name__}: {error}"
            found.add(message, key=key, origin=origin, hint="report it to the plugin's authors")
            continue
        needs += [
            Need(
                table=str(path[0]) if path else "",
                who=_who(instance, path),
                key=key,
                origin=origin,
                requirement=answer,
            )
            for answer in answers
        ]
    return needs


def requirements_of(instance: Any) -> list[Requirement]:
    """The answer of its `needs`. Raises TypeError for anything but requirements, and what `needs` itself raises."""
    if not callable(getattr(type(instance), "needs", None)):
        return []
    answers = list(instance.needs())
    for answer in answers:
        if not isinstance(answer, Requirement):
            raise TypeError(f"{answer!r:.80} is no Requirement")
    return answers


def _who(instance: Any, path: KeyPath) -> str:
    if is_component(instance):
        info = component_info(instance)
        return f'the {info.kind} "{info.name}"'
    return f"[{format_key(path)}]"
