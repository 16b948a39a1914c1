"""What must agree between the tables of a spec; it looks at a spec in which every single value is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from .findings import Findings
from .hints import nearest
from .model import NAME_PATTERN, SPLITS, Data, Spec, Splits
from .tree import DEFAULT, KeyPath, format_key

_TOLERANCE = 1e-9


@attrs.frozen
class _Report:
    """Adds a problem at the origin of a key, or of the nearest table that was written."""

    found: Findings
    origins: Mapping[KeyPath, Any]

    def __call__(self, message: str, *path: str | int, hint: str | None = None) -> None:
        place: KeyPath = path
        while place and self.origins.get(place, DEFAULT) == DEFAULT:
            place = place[:-1]
        self.found.add(message, key=format_key(path), origin=self.origins.get(place), hint=hint)


_Reporter = Callable[..., None]


def cross_check(spec: Spec, origins: Mapping[KeyPath, Any], found: Findings) -> None:
    """Adds a problem for each disagreement in the spec."""
    report = _Report(found, origins)
    _splits(spec.data.splits, report)
    _classes(spec.data, report)
    _augmentations(spec, report)
    _tokens(spec, report)
    _kept_features(spec, report)
    _adapted_to(spec, report)
    _policies(spec.policy, report)
    _bundle(spec, report)


def _splits(splits: Splits, report: _Reporter) -> None:
    assigned = splits.assign or {}
    for name, targets in assigned.items():
        if not targets:
            report(
                f'assigns "{name}" to no split', "data", "splits", "assign", name, hint=f"known: {', '.join(SPLITS)}"
            )
        elif len(set(targets)) < len(targets):
            report(f'names a split twice for "{name}"', "data", "splits", "assign", name)
    covered = {target for targets in assigned.values() for target in targets}
    total = sum(getattr(splits, name) for name in SPLITS)
    if abs(total - 1) > _TOLERANCE and covered != set(SPLITS):
        parts = " + ".join(f"{getattr(splits, name):g}" for name in SPLITS)
        report(f"the fractions must sum to 1, got {parts} = {total:.10g}", "data", "splits")
    alone = {targets[0] for targets in assigned.values() if len(targets) == 1}
    for name, purpose in (("train", "nothing trains without it"), ("val_calib", "the policies are fitted on it")):
        if getattr(splits, name) == 0 and name not in alone:
            report(f"{name} must be above 0", "data", "splits", name, hint=purpose)


def _classes(data: Data, report: _Reporter) -> None:
    if data.classes is None:
        return
    if len(set(data.classes)) < len(data.classes):
        report("names a class twice", "data", "classes")
    if data.positive is not None and data.positive not in data.classes:
        hint = nearest(data.positive, data.classes)
        report(f'"{data.positive}" is not one of data.classes', "data", "positive", hint=hint)


def _augmentations(spec: Spec, report: _Reporter) -> None:
    for index, augment in enumerate(spec.augment):
        batch = bool(getattr(augment.component, "batch", False))
        if batch and augment.on != "batch":
            report("works on whole batches", "augment", index, "on", hint='write on = "batch"')
        elif not batch and augment.on == "batch":
            report("works on single pictures", "augment", index, "on", hint='write on = "sample", or leave it out')
        if batch and not getattr(spec.loss, "soft_targets", False):
            report(
                "mixes labels, which this loss cannot take",
                "augment",
                index,
                hint="use a loss with soft targets, or leave this augmentation out",
            )


def _tokens(spec: Spec, report: _Reporter) -> None:
    if _reads_tokens(spec) and not getattr(spec.backbone, "gives_tokens", False):
        report("reads tokens, which this backbone does not give", "head", hint='use another head, such as "linear"')


def _reads_tokens(spec: Spec) -> bool:
    return bool(getattr(spec.head, "reads_tokens", False))


def _kept_features(spec: Spec, report: _Reporter) -> None:
    mode, views = spec.train.feature_cache, spec.train.feature_views
    insists = mode == "on" or views is not None
    if mode == "off" and views is not None:
        report('says how many views to keep, but feature_cache is "off"', "train", "feature_views", hint="remove one")
    elif views is not None and not any(augment.on == "sample" for augment in spec.augment):
        report("no augmentation makes views that differ", "train", "feature_views", hint="leave it out")
    elif insists and any(augment.on == "batch" for augment in spec.augment):
        report(
            "features of single pictures cannot be kept where a batch is mixed",
            *("train", "feature_views" if views is not None else "feature_cache"),
            hint='leave out the augmentations with on = "batch"',
        )
    elif insists and _reads_tokens(spec):
        report(
            "the head reads tokens, and features alone are kept",
            *("train", "feature_views" if views is not None else "feature_cache"),
            hint='leave it out, or use a head that reads features, such as "linear"',
        )
    elif mode == "on" and spec.augment and views is None:
        report(
            "augmented pictures differ from epoch to epoch",
            *("train", "feature_cache"),
            hint="feature_views = 4 keeps four views of each picture, or leave the augmentations out",
        )


def _adapted_to(spec: Spec, report: _Reporter) -> None:
    if spec.adapt is not None and spec.adapt.data is None and not spec.adapt.with_train:
        report(
            "leaves no pictures to adapt to",
            *("adapt", "with_train"),
            hint='name others, such as data = { use = "unlabelled_folder", root = "..." }',
        )


def _policies(policies: Mapping[str, Any], report: _Reporter) -> None:
    if not policies:
        report("a spec needs at least one policy", "policy", hint='write [policy.threshold] with use = "threshold"')
    needs: dict[str, Sequence[str]] = {}
    for name, policy in policies.items():
        if not re.fullmatch(NAME_PATTERN, name):
            report(
                f'the policy name "{name}" cannot be a file name', "policy", name, hint=f"it must match {NAME_PATTERN}"
            )
        requires = getattr(policy, "requires", None)
        needs[name] = tuple(requires() or ()) if callable(requires) else ()
        for member in needs[name]:
            if member not in policies:
                message = f'needs the policy "{member}", which the spec does not have'
                report(message, "policy", name, *_option(policy, member), hint=nearest(member, policies))
    reported: set[frozenset[str]] = set()
    for name in policies:
        circle = _circle(name, needs)
        if circle and frozenset(circle) not in reported:
            reported.add(frozenset(circle))
            report(f"policies need each other in a circle: {' -> '.join(circle)}", "policy", circle[0])


def _option(policy: Any, member: str) -> list[str]:
    """The option that names the member, where one does."""
    return [field.name for field in attrs.fields(type(policy)) if getattr(policy, field.name) == member][:1]


def _circle(start: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The way from a policy back to itself, or nothing."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for member in needs.get(way[-1], ()):
            if member == start:
                return [*way, start]
            if member not in seen:
                seen.add(member)
                ways.append([*way, member])
    return []


def _bundle(spec: Spec, report: _Reporter) -> None:
    for role in ("active", "fallback"):
        name = getattr(spec.bundle, role)
        if name is not None and name not in spec.policy:
            hint = nearest(name, spec.policy)
            report(f'"{name}" is not a policy of the spec', "bundle", role, hint=hint)
    if spec.bundle.active is None and len(spec.policy) > 1:
        hint = f'write [bundle] active = "..."; policies: {", ".join(spec.policy)}'
        report(f"must be named: the spec has {len(spec.policy)} policies", "bundle", "active", hint=hint)
