"""`roadwork bundle`: is a bundle what it claims to be, what is in it, and how do two differ."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common_options
from .evaluate import add_data_options, evaluate_options, open_set
from .run import with_interval

if TYPE_CHECKING:
    from roadwork_core.bundle import Bundle
    from roadwork_core.console import Console

#: The order in which figures are shown; others follow.
METRICS = ("mcc", "accuracy", "f1", "balanced_accuracy", "precision", "recall", "specificity", "auroc")
LEVELS = ("files", "schema", "plugins", "load", "replay")


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verifying = commands.add_parser(
        "verify", help="check a bundle and report every failure", parents=[common_options()]
    )
    verifying.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    verifying.add_argument(
        "--level",
        choices=LEVELS,
        default="replay",
        metavar="LEVEL",
        help=f"how far to go, each including those before: {', '.join(LEVELS)} (default: replay)",
    )
    verifying.add_argument("--device", default="cpu", metavar="DEVICE", help="where to replay (default: cpu)")
    showing = commands.add_parser("show", help="what a bundle holds and promises", parents=[common_options()])
    showing.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    comparing = commands.add_parser("diff", help="what differs between two bundles", parents=[common_options()])
    comparing.add_argument("before", type=Path, metavar="A", help="a bundle's folder")
    comparing.add_argument("after", type=Path, metavar="B", help="another bundle's folder")
    policies = commands.add_parser(
        "compare-policies", help="every policy of a bundle on the same labelled images", parents=[common_options()]
    )
    policies.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder")
    add_data_options(policies)
    for child in (verifying, showing, comparing, policies):
        child.add_argument("--json", action="store_true", help="print one JSON document")


def handle(options: argparse.Namespace, console: Console) -> int:
    if options.action == "verify":
        return _verify(options, console)
    if options.action == "show":
        return _show(options.bundle, console)
    if options.action == "compare-policies":
        return _compare_policies(options, console)
    return _diff(options.before, options.after, console)


def _verify(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.bundle import verify
    from roadwork_core.errors import ExitCode

    found = verify(options.bundle, options.level, device=options.device)
    for warning in found.warnings:
        console.warn(warning)
    if console.as_json:
        console.json(found.to_json())
        return ExitCode.OK if found.ok else ExitCode.VERIFICATION
    for level, status in found.levels.items():
        (console.info if found.ok else console.detail)(f"{level:<8} {status}")
    found.raise_for_failures()
    console.out(f"{options.bundle}: verified at {options.level}")
    return ExitCode.OK


def _read(path: Path) -> Bundle:
    from roadwork_core.bundle import Level, verify
    from roadwork_core.errors import VerificationError

    found = verify(path, Level.SCHEMA)
    found.raise_for_failures()
    if found.bundle is None:
        raise VerificationError("the bundle could not be read", path=path)
    return found.bundle


def _show(path: Path, console: Console) -> int:
    bundle = _read(path)
    manifest = bundle.manifest
    if console.as_json:
        guarantees = {name: policy["guarantee"] for name, policy in bundle.policies.items()}
        console.json({"schema": "roadwork.bundle-summary/1", **manifest, "guarantees": guarantees})
        return 0
    size = sum(entry["size"] for entry in manifest["files"].values())
    rows = [
        ("bundle", bundle.name),
        ("id", bundle.id),
        ("description", " ".join(manifest["description"].split())),
        ("licence", manifest["license"]),
        ("size", f"{size / 1e6:.1f} MB in {len(manifest['files'])} files"),
        ("labels", ", ".join(f"{label}*" if label == manifest["positive"] else label for label in bundle.labels)),
        ("score", manifest["score"]["meaning"]),
        ("input", _input(manifest)),
        ("backbone", _use(bundle.model["backbone"])),
        ("head", _use(bundle.model["head"])),
        ("tta", _use(bundle.model["tta"])),
        ("computed by", "torch, on a CPU also ONNX Runtime" if bundle.carries_onnx else "torch"),
        ("modes", ", ".join(f"{mode}: {name}" for mode, name in manifest["modes"].items())),
        ("made with", _made_with(manifest["provenance"])),
    ]
    for name, value in rows:
        if value:
            console.out(f"{name:<12} {value}")
    for name, policy in bundle.policies.items():
        console.out("")
        for line in _policy_lines(name, policy, bundle):
            console.out(line)
    return 0


def _input(manifest: Mapping[str, Any]) -> str:
    preprocessing = manifest["preprocessing"]
    height, width = preprocessing["size"]
    return f"RGB, {preprocessing['fit']} to {height} x {width}, {preprocessing['interpolation']}"


def _use(part: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} = {value}" for key, value in part["options"].items())
    return f"{part['use']} ({options})" if options else str(part["use"])


def _made_with(provenance: Mapping[str, Any]) -> str:
    plugins = [f"{used['distribution']} {used['version']}" for used in provenance["plugins"].values()]
    commit = f" at commit {provenance['git_commit']}" if provenance["git_commit"] else ""
    return f"roadwork {provenance['roadwork']}{commit}; {', '.join(plugins)}"


def _policy_lines(name: str, policy: Mapping[str, Any], bundle: Bundle) -> list[str]:
    roles = [role for role, holder in (("active", bundle.active), ("fallback", bundle.fallback)) if holder == name]
    title = f"policy {name} ({', '.join([policy['use'], *roles])})"
    lines = [title]
    evidence = bundle.manifest["evidence"].get(name)
    if evidence:
        figures = {key: evidence[key] for key in ("coverage", "selective_risk") if key in evidence}
        figures |= {key: evidence["metrics"][key] for key in METRICS if key in evidence["metrics"]}
        figures |= {key: figure for key, figure in evidence["metrics"].items() if key not in METRICS}
        lines += [f"  {evidence['split']} {key:<18} {_figure(figure)}" for key, figure in figures.items()]
        lines.append(f"  {evidence['split']} {'samples':<18} {evidence['n']}")
    guarantee = policy["guarantee"]
    lines.append(f"  guarantee: {guarantee.get('text', guarantee) if guarantee else 'none'}")
    return lines


def _figure(figure: Mapping[str, Any]) -> str:
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    if not isinstance(value, int | float):
        return "-"
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return f"{value:.4f}"
    return f"{value:.4f}  [{low:.4f}, {high:.4f}]"


def _diff(before: Path, after: Path, console: Console) -> int:
    from roadwork_core.bundle.diff import diff

    old, new = _read(before), _read(after)
    found = diff(old, new)
    if console.as_json:
        console.json(
            {
                "schema": "roadwork.bundle-diff/1",
                "before": old.id,
                "after": new.id,
                "identical": old.id == new.id,
                "differences": [difference.to_json() for difference in found],
            }
        )
        return 0
    if not found:
        console.out("the bundles are the same")
    for difference in found:
        console.out(str(difference))
    return 0


def _compare_policies(options: argparse.Namespace, console: Console) -> int:
    from roadwork_core.evaluation.measure import decide_all, judge_of
    from roadwork_core.evaluation.of_bundle import score_set
    from roadwork_core.evaluation.policies import compare_policies
    from roadwork_core.plugins import Plugins

    plugins = Plugins.load()
    measured = evaluate_options(options)
    with open_set(options, plugins, console) as (predictor, listed):
        data = score_set(predictor.runtime, listed, console)
    decider = predictor.runtime.decider
    decided, _ = decide_all(decider, data)
    found = compare_policies(data, decider, decided, judge_of(data, decider.positive, measured, options.seed))
    if console.as_json:
        console.json({"schema": "roadwork.policies/1", "bundle_id": predictor.bundle.id, "data": listed.name, **found})
        return 0
    console.out(f"{listed.name}: {found['n']} pictures in {found['groups']} groups")
    for name, entry in found["policies"].items():
        console.out(f"{name}{' (active)' if name == found['active'] else ''}")
        _line(console, "answers", entry["coverage"])
        _line(console, "of them wrong", entry["selective_risk"])
        _line(console, "mcc, must answer", entry["must_answer"]["mcc"])
        if entry["difference"] is not None:
            _line(console, f"  against {found['active']}", entry["difference"]["mcc"])
        console.out(f"  {'one decision':<24} {entry['microseconds']:.1f} microseconds beyond the model")
    for pair in found["agreement"]:
        _line(console, f"{' and '.join(pair['policies'])} agree", pair["same"])
    return 0


def _line(console: Console, name: str, figure: Mapping[str, Any]) -> None:
    value = "n/a" if figure["value"] is None else with_interval(figure)
    console.out(f"  {name:<24} {value}")
