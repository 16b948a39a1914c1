"""`roadwork policy`: fit and apply decision policies to logits from elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from roadwork_core.console import Console
    from roadwork_core.decisions import Decisions
    from roadwork_core.kinds import Policy
    from roadwork_core.metrics import Estimate
    from roadwork_core.plugins import Plugins

CHUNK = 65_536


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds `fit` and `apply`."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fit = commands.add_parser("fit", help="fit a policy to labelled logits", parents=[common_options()])
    fit.add_argument("name", metavar="NAME", help="the policy component, for example threshold")
    fit.add_argument("--out", required=True, type=Path, metavar="POLICY.json", help="where to write the policy")
    fit.add_argument(
        "--set", action="append", default=[], metavar="K=V", dest="settings", help="an option of the policy, in TOML"
    )
    fit.add_argument(
        "--member",
        action="append",
        default=[],
        type=Path,
        metavar="POLICY.json",
        help="a fitted policy that this one requires (default: fitted here, with default options)",
    )
    fit.add_argument("--classes", metavar="A,B", help="class names in order of their logits (default: 0,1,...)")
    fit.add_argument("--positive", metavar="CLASS", help="name or index of the positive class (default: the last)")
    fit.add_argument("--seed", type=int, default=0, help="(default: 0)")
    apply = commands.add_parser("apply", help="decide on logits with a fitted policy", parents=[common_options()])
    apply.add_argument("policy", type=Path, metavar="POLICY.json", help="written by policy fit, or from a bundle")
    for child in (fit, apply):
        child.add_argument(
            "--scores", required=True, type=Path, metavar="FILE", help="CSV or Parquet: logit_0, ..., label, group"
        )
        child.add_argument("--json", action="store_true", help="print JSON")


def handle(options: argparse.Namespace, console: Console) -> int:
    """Runs the action."""
    from roadwork_core.plugins import Plugins

    plugins = Plugins.load()
    return _fit(options, console, plugins) if options.action == "fit" else _apply(options, console, plugins)


def _fit(options: argparse.Namespace, console: Console, plugins: Plugins) -> int:
    from roadwork_core.errors import UsageError
    from roadwork_core.files import pretty_json, write_atomic
    from roadwork_core.kinds import Kind
    from roadwork_core.policies import fit_policies, load_policies, read_scores
    from roadwork_core.spec import component_from_settings, resolve_component

    if options.seed < 0:
        raise UsageError("--seed must not be negative")
    if options.out.is_dir():
        raise UsageError("is a folder, not the name of a file", path=options.out, hint="--out FOLDER/policy.json")
    component = component_from_settings(Kind.POLICY, {"use": options.name}, options.settings, plugins)
    members = {}
    for path in options.member:
        document = _read_document(path)
        given = {**document.get("member_policies", {}), document["name"]: _alone(document)}
        loaded = load_policies(given, plugins)
        members.update({name: (given[name], loaded[name]) for name in given})
    name = options.name.rpartition("/")[2]
    components = {name: component}
    for member in component.requires():
        if member not in members:
            components[member] = resolve_component(
                Kind.POLICY, {"use": member}, plugins, source=f"{options.name} requires {member}"
            )
    scores = read_scores(options.scores)
    classes = _classes(options.classes, scores.logits.shape[1])
    fitted = fit_policies(
        components,
        scores,
        classes=classes,
        positive=_positive(options.positive, classes),
        seed=options.seed,
        plugins=plugins,
        members=members,
    )
    document = fitted[name][0]
    if document["members"]:
        parts = {**members, **fitted}
        document["member_policies"] = {member: parts[member][0] for member in document["members"]}
    try:
        write_atomic(options.out, pretty_json(document))
    except OSError as error:
        raise UsageError(f"cannot write the policy: {error.strerror or error}", path=options.out) from None
    if console.as_json:
        console.json({**document, "path": str(options.out)})
        return 0
    for line in _report(document):
        console.out(line)
    console.info(f"wrote {options.out}")
    return 0


def _classes(names: str | None, count: int) -> list[str]:
    from roadwork_core.errors import UsageError

    if names is None:
        return [str(index) for index in range(count)]
    classes = [name.strip() for name in names.split(",")]
    if len(classes) != count or len(set(classes)) != count or "" in classes:
        raise UsageError(f"--classes must name {count} different classes, one per logit, not {names!r}")
    return classes


def _positive(wanted: str | None, classes: list[str]) -> int:
    from roadwork_core.errors import UsageError

    if wanted is None:
        return len(classes) - 1
    if wanted in classes:
        return classes.index(wanted)
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(classes):
        return int(wanted)
    raise UsageError(f"--positive {wanted!r} is not a class", hint=f"classes: {', '.join(classes)}")


def _alone(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "member_policies"}


def _read_document(path: Path) -> dict[str, Any]:
    """A policy file as JSON. Raises UsageError where it cannot be read or is none."""
    import json

    from roadwork_core.errors import RoadworkError, UsageError
    from roadwork_core.policies.documents import check_document

    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the policy: {error.strerror or error}", path=path) from None
    except json.JSONDecodeError as error:
        raise UsageError(f"is not JSON: {error.msg} (column {error.colno})", path=path, line=error.lineno) from None
    except (UnicodeDecodeError, RecursionError, ValueError):
        raise UsageError("is not a policy file", path=path) from None
    try:
        check_document(path.name, document)
        parts = document.get("member_policies", {})
        if not isinstance(parts, dict):
            raise RoadworkError("member_policies is not an object")
        for name, part in parts.items():
            check_document(name, part)
    except RoadworkError as error:
        raise UsageError(error.message, path=path, hint="fit it with roadwork policy fit") from None
    return document


def _apply(options: argparse.Namespace, console: Console, plugins: Plugins) -> int:
    import numpy as np

    from roadwork_core.errors import RoadworkError, SpecError, UsageError
    from roadwork_core.policies import load_policies, read_scores

    document = _read_document(options.policy)
    documents = {**document.get("member_policies", {}), document["name"]: _alone(document)}
    try:
        policy = load_policies(documents, plugins)[document["name"]]
    except SpecError:
        raise
    except RoadworkError as error:
        raise UsageError(error.message, path=options.policy, hint=error.hint) from None
    scores = read_scores(options.scores, labelled=False)
    classes = document["classes"]
    if scores.logits.shape[1] != len(classes):
        raise UsageError(
            f"has {scores.logits.shape[1]} logits per row, the policy decides between {len(classes)} classes",
            path=options.scores,
        )
    given, wrong = np.zeros(len(scores), dtype=np.bool_), np.zeros(len(scores), dtype=np.bool_)
    for start, decisions in _decide(policy, scores.logits):
        for row in decisions.rows():
            row["row"] += start
            if console.as_json:
                console.json(row)
            else:
                label = "-" if row["label"] is None else classes[row["label"]]
                console.out(f"{row['row']:>6}  {label:<12}  {row['score']:.4f}  {row['reason']}")
        part = slice(start, start + len(decisions))
        given[part] = ~decisions.abstain
        if scores.labels is not None:
            wrong[part] = given[part] & (decisions.labels != scores.labels[part])
    console.info(f"answered {given.sum()} of {len(scores)}, abstained on {(~given).sum()}")
    if scores.labels is not None and given.any():
        rate, how = _error(wrong[given], None if scores.groups is None else scores.groups[given])
        console.info(f"error of the answers {rate} (95 %, {how}; a result only if the policy was not fitted to them)")
    return 0


def _decide(policy: Policy, logits: Any) -> Iterator[tuple[int, Decisions]]:
    for start in range(0, len(logits), CHUNK):
        yield start, policy.decide(logits[start : start + CHUNK])


def _error(wrong: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> tuple[Estimate, str]:
    """The share of wrong answers (n,) with its interval and how that was made; samples of a group count as tied."""
    import numpy as np

    from roadwork_core.metrics import COUNT_METRICS, bootstrap_counts, clopper_pearson, group_counts

    if groups is None or len(np.unique(groups)) == wrong.size:
        return clopper_pearson(int(wrong.sum()), wrong.size), "exact"
    table = group_counts(np.ones(wrong.size, dtype=np.bool_), wrong, groups)
    return bootstrap_counts(table, COUNT_METRICS["recall"]), f"bootstrap of {len(table)} groups"


def _report(document: Mapping[str, Any]) -> Iterator[str]:
    """What was fitted, for people: one line per figure, estimates with their interval."""
    on = document["fitted_on"]
    groups = "" if on["groups"] is None else f" in {on['groups']} groups"
    yield f"{document['name']} ({document['use']}), fitted to {on['n']} samples{groups}"
    yield from _figures(document["summary"], "  ")
    if document["guarantee"] is not None:
        yield f"  guarantee: {document['guarantee'].get('text', '')}"
    for member in document.get("member_policies", {}).values():
        yield from _report({**member, "name": f"member {member['name']}"})


def _figures(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in values.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping) and {"low", "high"} <= value.keys():
            yield f"{indent}{name}: {_estimate(value)}"
        elif isinstance(value, Mapping):
            if value:
                yield f"{indent}{name}:"
                yield from _figures(value, indent + "  ")
        elif value is not None:
            yield f"{indent}{name}: {_number(value)}"


def _estimate(value: Mapping[str, Any]) -> str:
    low, high = (_number(value[key]) for key in ("low", "high"))
    level = f" ({100 * value['level']:g} %)" if "level" in value else ""
    middle = f"{_number(value['value'])} " if "value" in value else ""
    return f"{middle}[{low}, {high}]{level}"


def _number(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
