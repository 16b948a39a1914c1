"""Fitting policies in the order of their needs, and the JSON document of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from roadwork_core.errors import DataError, Problem, RoadworkError, SpecError
from roadwork_core.kinds import Kind, Policy, PolicyContext, PolicyRestoreContext

if TYPE_CHECKING:
    from roadwork_core.plugins import Plugins

    from .scores import Scores

SCHEMA = "roadwork.policy/1"
PolicyDocument: TypeAlias = dict[str, Any]


def fit_policies(
    components: Mapping[str, Any],
    scores: Scores,
    *,
    classes: Sequence[str],
    positive: int,
    seed: int,
    plugins: Plugins,
    split: str | None = None,
    tta: str | None = None,
    members: Mapping[str, tuple[PolicyDocument, Policy]] | None = None,
) -> dict[str, tuple[PolicyDocument, Policy]]:
    """Fits policy components by name, each after those it requires, and returns document and policy of each.

    `members` are policies fitted before, which count as present. Raises SpecError for a required policy that is not
    there and for policies that require one another in a circle; DataError where a fit is impossible.
    """
    from roadwork_core.spec import component_options

    if scores.labels is None:
        raise DataError("policies cannot be fitted to scores without labels")
    if scores.logits.shape[1] != len(classes):
        raise DataError(f"the scores have {scores.logits.shape[1]} logits per sample, there are {len(classes)} classes")
    known = dict(members or {})
    needs = {name: tuple(component.requires()) for name, component in components.items()}
    fitted: dict[str, tuple[PolicyDocument, Policy]] = {}
    for name in in_order(needs, present=known):
        component = components[name]
        ctx = PolicyContext(
            logits=scores.logits,
            labels=scores.labels,
            groups=scores.groups,
            classes=tuple(classes),
            positive=positive,
            seed=seed,
            members={member: (fitted | known)[member][1] for member in needs[name]},
        )
        policy = component.build(ctx)
        document: PolicyDocument = {
            "schema": SCHEMA,
            "name": name,
            "use": plugins.use_name(component),
            "options": component_options(component, plugins),
            "classes": list(classes),
            "positive": positive,
            "state": dict(policy.state()),
            "summary": dict(policy.summary()),
            "guarantee": None if (promise := policy.guarantee()) is None else dict(promise),
            "members": list(needs[name]),
            "fitted_on": {
                "split": split,
                "n": len(scores),
                "groups": None if scores.groups is None else int(scores.groups.max()) + 1,
                "digest": scores.digest,
            },
            "tta": tta,
        }
        fitted[name] = (document, policy)
    return fitted


def in_order(needs: Mapping[str, Sequence[str]], *, present: Mapping[str, Any]) -> list[str]:
    """The names, each after those it needs. Raises SpecError with the chain of a circle, or with what is missing."""
    missing = [
        Problem(
            f"requires the policy {member!r}, which is not there",
            key=f"policy.{name}",
            hint=f"policies: {', '.join(sorted({*needs, *present} - {name})) or 'none'}",
        )
        for name, members in needs.items()
        for member in members
        if member not in needs and member not in present
    ]
    if missing:
        raise SpecError(missing)
    order: list[str] = []

    def visit(name: str, chain: tuple[str, ...]) -> None:
        if name in chain:
            circle = " -> ".join((*chain[chain.index(name) :], name))
            raise SpecError([Problem(f"policies require one another in a circle: {circle}", key=f"policy.{name}")])
        if name in needs and name not in order:
            for member in needs[name]:
                visit(member, (*chain, name))
            order.append(name)

    for name in needs:
        visit(name, ())
    return order


def load_policies(documents: Mapping[str, Mapping[str, Any]], plugins: Plugins) -> dict[str, Policy]:
    """Policies by name from their documents, members first.

    Raises RoadworkError for a document that is no policy of this schema, SpecError for unknown components or
    options and for missing members.
    """
    for name, document in documents.items():
        check_document(name, document)
    order = in_order({name: document["members"] for name, document in documents.items()}, present={})
    loaded: dict[str, Policy] = {}
    for name in order:
        loaded[name] = _restore(name, documents[name], loaded, plugins)
    return {name: loaded[name] for name in documents}


def _restore(name: str, document: Mapping[str, Any], loaded: Mapping[str, Policy], plugins: Plugins) -> Policy:
    from roadwork_core.spec import resolve_component

    values = {**_given(document["options"]), "use": document["use"]}
    component = resolve_component(Kind.POLICY, values, plugins, source=f"policy {name}")
    ctx = PolicyRestoreContext(
        classes=tuple(document["classes"]),
        positive=document["positive"],
        members={member: loaded[member] for member in document["members"]},
    )
    try:
        policy: Policy = component.restore(document["state"], ctx)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        cause = " ".join(str(error).split())
        raise RoadworkError(
            f"policy {name!r}: its state is not one that {document['use']} wrote ({type(error).__name__}: {cause})",
            hint="fit it again",
        ) from error
    return policy


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that are absent, which JSON writes as null and TOML not at all."""
    return {
        key: _given(value) if isinstance(value, Mapping) else value
        for key, value in options.items()
        if value is not None
    }


#: Keys of a document that deciding needs, and the type of each.
_SHAPE: Mapping[str, type] = {
    "name": str,
    "use": str,
    "options": dict,
    "classes": list,
    "positive": int,
    "state": dict,
    "members": list,
}


def check_document(name: str, document: Any) -> None:
    """Raises RoadworkError unless this is a policy document of this schema with what deciding needs."""
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
        raise RoadworkError(f"policy {name!r} is not a {SCHEMA} document but {found!r}")
    for key, kind in _SHAPE.items():
        if not isinstance(document.get(key), kind) or isinstance(document.get(key), bool):
            raise RoadworkError(f"policy {name!r}: {key} is not {_ARTICLE[kind]}")
    classes, members = document["classes"], document["members"]
    if not all(isinstance(item, str) for item in (*classes, *members)):
        raise RoadworkError(f"policy {name!r}: classes and members must be names")
    if len(classes) < 2 or not 0 <= document["positive"] < len(classes):
        raise RoadworkError(f"policy {name!r}: positive is not the index of one of its {len(classes)} classes")


_ARTICLE = {str: "a string", dict: "an object", list: "an array", int: "a whole number"}


def sweep_csv(policy: Policy) -> bytes | None:
    """The curve of a policy that offers one (`curve()`), as CSV; None for others."""
    curve = getattr(policy, "curve", None)
    columns = curve() if callable(curve) else None
    if columns is None:
        return None
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return out.getvalue().encode()
