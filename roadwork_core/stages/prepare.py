"""The data: listed, looked at once, kept whole by group and look, divided, and written as one table per split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np

from ..data.assignment import Assignment, assign_splits, check_coverage
from ..data.classes import Classes, find_classes
from ..data.clusters import Pair
from ..data.gather import BadImage, Grouped, Looked, group, list_samples, look_at, look_at_all, rows_of
from ..data.natural import natural_key
from ..data.perceptual import CORRELATION
from ..data.sample import Row, Sample, escaped
from ..data.table import write_rows
from ..data.unlabelled import Unlabelled, without_held_out
from ..errors import DataError
from ..files import canonical_json, digest_json, pretty_json, write_atomic
from ..spec import SPLITS

if TYPE_CHECKING:
    from ..runs import StageContext
    from ..spec.model import Adapt, Data

#: Fewer samples of a class than this in a split that measures or fits are worth a warning.
FEW = 10
#: Clusters and pairs that the report spells out.
_REPORTED = 100


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes samples/<split>.jsonl, classes.json, bad_images.jsonl and report.json; returns the counts.

    Where the spec has adapt.data, samples/unlabelled.jsonl holds what of it may be adapted to, and left_out.jsonl what
    may not, a line each.

    Raises DataError or SpecError for data that cannot be used as the spec says, before anything trains.
    """
    data: Data = ctx.spec.data
    listed_samples = _list_samples(ctx, "data")
    find_classes(listed_samples, data)
    looked = look_at(listed_samples, data, cache=ctx.cache_dir / "looks.sqlite", console=ctx.console)
    samples, bad = looked.samples, looked.bad
    classes = find_classes(samples, data)
    targets = classes.targets(samples)
    grouped = group(looked, data)
    assignment = assign_splits(
        samples, targets, grouped.labels, grouped.names, data.splits, grouped.pairs, seed=ctx.spec.seed
    )
    check_coverage(assignment.splits, targets, grouped.names, classes.labels, assignment.own)

    rows = rows_of(looked, targets, grouped.names, assignment.splits)
    for split in SPLITS:
        write_rows(ctx.folder / "samples" / f"{split}.jsonl", [row for row in rows if row.split == split])
    write_atomic(
        ctx.folder / "classes.json", pretty_json({"classes": list(classes.labels), "positive": classes.positive})
    )
    _write_bad(ctx.folder / "bad_images.jsonl", bad)
    report = _report(rows, classes, grouped, samples, bad, data, assignment)
    unlabelled = _unlabelled(ctx, looked, rows)
    if unlabelled is not None:
        report["unlabelled"] = unlabelled.to_json()
    write_atomic(ctx.folder / "report.json", pretty_json(report))
    for warning in report["warnings"]:
        ctx.console.warn(warning)
    counts = {split: report["splits"][split]["samples"] for split in SPLITS}
    ctx.console.info(
        f"prepare: {len(rows)} samples in {report['groups']} groups: {', '.join(f'{s} {n}' for s, n in counts.items())}"
    )
    return {
        "samples": len(rows),
        "groups": report["groups"],
        "splits": counts,
        "bad_images": len(bad),
        "near_duplicate_pairs": len(grouped.pairs),
        **({"unlabelled": report["unlabelled"]} if unlabelled is not None else {}),
    }


def fingerprint_inputs(ctx: StageContext) -> dict[str, Any]:
    """JSON value that changes when the listing, or the size or modification time of a listed file changes."""
    found = {}
    for table in ("data", "adapt.data"):
        if table == "data" or _adapts_to_more(ctx):
            samples = _list_samples(ctx, table)
            found[table] = {"samples": len(samples), "digest": digest_json([_identity(sample) for sample in samples])}
    return found


def _adapts_to_more(ctx: StageContext) -> bool:
    return ctx.spec.adapt is not None and ctx.spec.adapt.data is not None


def _unlabelled(ctx: StageContext, looked: Looked, rows: Sequence[Row]) -> Unlabelled | None:
    """Writes the tables of adapt.data, where the spec has it. A picture that cannot be used costs a line, no more."""
    adapt, data = ctx.spec.adapt, ctx.spec.data
    if adapt is None or adapt.data is None:
        return None
    samples = _list_samples(ctx, "adapt.data")
    seen = look_at_all(samples, data, cache=ctx.cache_dir / "looks.sqlite", console=ctx.console)
    found = without_held_out(seen, rows, looked.looks, data, with_train=adapt.with_train)
    write_rows(ctx.folder / "samples" / "unlabelled.jsonl", found.rows)
    lines = [canonical_json(entry.to_json()) + b"\n" for entry in found.left_out]
    write_atomic(ctx.folder / "left_out.jsonl", b"".join(lines))
    reasons = found.to_json()["left_out"]
    said = f" ({', '.join(f'{count} {why}' for why, count in reasons.items())}; left_out.jsonl names them)"
    ctx.console.info(
        f"prepare: {len(found.rows)} pictures without labels to adapt to, {len(found.left_out)} left out"
        f"{said if reasons else ''}"
    )
    return found


def _list_samples(ctx: StageContext, table: str) -> list[Sample]:
    """What the dataset of `table`, "data" or "adapt.data", lists."""
    component = ctx.spec.data.component if table == "data" else cast("Adapt", ctx.spec.adapt).data
    try:
        return list_samples(
            component, ctx.plugins, cache_dir=ctx.cache_dir, seed=ctx.spec.seed, console=ctx.console, table=table
        )
    except DataError as error:
        if error.path is not None and (said := _where_written(Path(error.path), ctx, table)):
            error.hint = f"{error.hint}; {said}" if error.hint else said
        raise


def _where_written(path: Path, ctx: StageContext, table: str) -> str | None:
    """Which key of the table names this path and where that is written, for the dataset does not know its spec."""
    values = ctx.resolved.values["data"] if table == "data" else ctx.resolved.values["adapt"]["data"]
    for key, value in values.items():
        if isinstance(value, str) and value and Path(value).expanduser() == path:
            return f"{table}.{key} is set at {ctx.resolved.origin(f'{table}.{key}')}"
    return None


def _identity(sample: Sample) -> list[Any]:
    try:
        status = sample.path.stat()
        state = [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        state = []
    values = attrs.asdict(sample, recurse=False) | {"tags": sorted(sample.tags.items()), "path": str(sample.path)}
    return [ascii(sorted(values.items())), state]


def _write_bad(path: Path, bad: Sequence[BadImage]) -> None:
    lines = [
        {
            "path": escaped(str(entry.sample.path)),
            "label": escaped(entry.sample.label),
            "split": None if entry.sample.split is None else escaped(entry.sample.split),
            "reason": entry.reason,
        }
        for entry in bad
    ]
    write_atomic(path, b"".join(canonical_json(line) + b"\n" for line in lines))


def _report(
    rows: Sequence[Row],
    classes: Classes,
    grouped: Grouped,
    samples: Sequence[Sample],
    bad: Sequence[BadImage],
    data: Data,
    assignment: Assignment,
) -> dict[str, Any]:
    splits = {split: _split_report([row for row in rows if row.split == split], classes, len(rows)) for split in SPLITS}
    conflicts = _label_conflicts(rows, grouped.pairs)
    return {
        "schema": "roadwork.prepare/1",
        "digest": digest_json([[row.sha256, row.target, row.split] for row in rows]),
        "samples": len(rows),
        "groups": len(set(grouped.names)),
        "classes": list(classes.labels),
        "positive": classes.positive,
        "splits": splits,
        "own_splits": assignment.own,
        "near_duplicates": _duplicates_report(grouped, samples, data),
        "label_conflicts": conflicts[:_REPORTED],
        "bad_images": {
            "policy": data.on_bad_image,
            "count": len(bad),
            "reasons": dict(Counter(entry.reason.partition(" (")[0] for entry in bad).most_common()),
        },
        "width": _spread([row.width for row in rows]),
        "height": _spread([row.height for row in rows]),
        "warnings": _warnings(splits, conflicts, len(bad)),
    }


def _warnings(splits: Mapping[str, Any], conflicts: Sequence[Mapping[str, Any]], bad: int) -> list[str]:
    warnings = [
        f'{split} has only {count} sample{"s" if count > 1 else ""} of "{label}": what is fitted or measured there is'
        " uncertain"
        for split in SPLITS[1:]
        for label, count in splits[split]["classes"].items()
        if count < FEW
    ]
    if conflicts:
        pairs, (first, second) = f"pair{'s' if len(conflicts) > 1 else ''}", conflicts[0]["paths"]
        warnings.append(
            f"{len(conflicts)} {pairs} of (nearly) the same picture with different labels, for example {first}"
            f" and {second}"
        )
    if bad:
        warnings.append(f"{bad} image{'s' if bad > 1 else ''} cannot be used, skipped; bad_images.jsonl says why")
    return warnings


def _split_report(rows: Sequence[Row], classes: Classes, total: int) -> dict[str, Any]:
    counts = Counter(row.target for row in rows)
    return {
        "samples": len(rows),
        "groups": len({row.group for row in rows}),
        "fraction": round(len(rows) / total, 6),
        "classes": {label: counts[index] for index, label in enumerate(classes.labels)},
    }


def _duplicates_report(grouped: Grouped, samples: Sequence[Sample], data: Data) -> dict[str, Any]:
    joined: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(grouped.names):
        joined[name].append(number)
    of_several = {
        name: sorted({grouped.before[number] for number in numbers}, key=natural_key)
        for name, numbers in joined.items()
        if any(grouped.before[number] != name for number in numbers)
    }
    return {
        "mode": data.near_duplicates,
        "distance": data.near_duplicate_distance,
        "correlation": CORRELATION,
        "pairs": len(grouped.pairs),
        "clusters": len(of_several),
        "largest_clusters": [
            {"group": name, "samples": len(joined[name]), "groups": groups[:_REPORTED]}
            for name, groups in sorted(of_several.items(), key=lambda item: (-len(joined[item[0]]), item[0]))
        ][:_REPORTED],
        "examples": [
            {
                "paths": [str(samples[pair.first].path), str(samples[pair.second].path)],
                "bits": pair.bits,
                "correlation": pair.correlation,
            }
            for pair in grouped.pairs[:_REPORTED]
        ],
    }


def _label_conflicts(rows: Sequence[Row], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    first: dict[str, Row] = {}
    found = [(first.setdefault(row.sha256, row), row) for row in rows]
    found += [(rows[pair.first], rows[pair.second]) for pair in pairs if pair.bits or pair.correlation < 1]
    return [
        {"paths": [a.path, b.path], "labels": [a.label, b.label], "same_bytes": a.sha256 == b.sha256}
        for a, b in found
        if a.target != b.target
    ]


def _spread(values: Sequence[int]) -> dict[str, int]:
    return {"min": min(values), "median": int(np.median(values)), "max": max(values)}
