"""Which split each sample goes to: by fractions, or by the data's own splits, and never across a group."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from ..errors import DataError, Origin, Problem, SpecError
from ..spec.model import SPLITS
from .clusters import Pair
from .problems import DataProblems, listed
from .sample import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..spec.model import Splits

#: Where the data's own splits go unless data.splits.assign says otherwise.
DEFAULT_ASSIGN: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in SPLITS},
    "val": ("val_select", "val_calib"),
    "validation": ("val_select", "val_calib"),
}


@frozen
class Assignment:
    """`splits`: the split of each sample; `own`: whether the data came with splits."""

    splits: Sequence[str]
    own: bool


def group_names(samples: Sequence[Sample], digests: Sequence[str], group_by: str | None) -> list[str]:
    """The name of what each sample may not be torn from: a tag's value, the dataset's group, or its file's digest.

    Raises DataError where `group_by` names a tag that a sample does not have.
    """
    if group_by is not None:
        missing = [sample for sample in samples if not sample.tags.get(group_by)]
        if missing:
            tags = sorted({tag for sample in samples for tag in sample.tags})
            near = difflib.get_close_matches(group_by, tags, n=1)
            raise DataError(
                f'data.splits.group_by = "{group_by}", but {len(missing)} of {len(samples)} samples have no such tag',
                path=missing[0].path,
                hint=f'did you mean "{near[0]}"?' if near else f"tags: {', '.join(tags) or 'none'}",
            )
        return [sample.tags[group_by] for sample in samples]
    seen: Counter[str] = Counter()
    names = []
    for sample, digest in zip(samples, digests, strict=True):
        seen[digest] += 1
        again = f"#{seen[digest]}" if seen[digest] > 1 else ""
        names.append(sample.group if sample.group else f"sha256:{digest[:16]}{again}")
    return names


def assign_splits(
    samples: Sequence[Sample],
    targets: NDArray[np.int64],
    clusters: NDArray[np.int64],
    names: Sequence[str],
    splits: Splits,
    pairs: Sequence[Pair],
    *,
    seed: int,
) -> Assignment:
    """The split of each sample.

    `clusters`: int64 (n,), final groups, called `names`; `pairs` say which look-alikes were joined. Raises
    DataProblems where a cluster crosses the data's own splits, DataError or SpecError where those are incomplete or not
    known to `splits.assign`.
    """
    from .splits import divide

    fractions = {name: float(getattr(splits, name)) for name in SPLITS}
    without = sum(not sample.split for sample in samples)
    if without == len(samples):
        if splits.assign is not None:
            raise _spec_error("data.splits.assign", "the data come without splits", "take it out, or name the column")
        return Assignment(divide(names, targets, fractions, seed=seed), own=False)
    if without:
        example = next(sample for sample in samples if not sample.split)
        raise DataError(
            f"{without} of {len(samples)} samples have no split, the others do",
            path=example.path,
            hint="give all of them a split, or none",
        )
    pools = _pools(samples, splits)
    _refuse_crossing(samples, pools, clusters, names, pairs)
    result = [""] * len(samples)
    for pool in sorted(set(pools)):
        members = [number for number, other in enumerate(pools) if other == pool]
        shares = {name: fractions[name] for name in pool} if len(pool) > 1 else {pool[0]: 1.0}
        if not any(shares.values()):
            raise _spec_error(
                "data.splits", f"{' and '.join(pool)} are to share samples, but all their fractions are 0", "raise one"
            )
        divided = divide([names[i] for i in members], targets[members], shares, seed=seed)
        for number, split in zip(members, divided, strict=True):
            result[number] = split
    return Assignment(result, own=True)


def refuse_near_duplicates(samples: Sequence[Sample], pairs: Sequence[Pair]) -> None:
    """Raises DataProblems that list the look-alikes of different groups, where there are any."""
    if pairs:
        count = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}"
        raise listed(
            Problem(
                f"near-duplicates in different groups ({count})",
                hint='remove one of each, or set data.near_duplicates = "group" to keep them in one split',
            ),
            [_pair_problem(samples, pair) for pair in pairs],
        )


def check_coverage(
    splits: Sequence[str], targets: NDArray[np.int64], names: Sequence[str], classes: Sequence[str], own: bool
) -> None:
    """Raises DataProblems for every split without samples and every class that a split lacks, with the counts."""
    counts = Counter(zip(splits, targets.tolist(), strict=True))
    groups: dict[int, set[str]] = defaultdict(set)
    for name, target in zip(names, targets.tolist(), strict=True):
        groups[target].add(name)
    found = []
    for split in SPLITS:
        held = {label: counts[split, index] for index, label in enumerate(classes)}
        if not sum(held.values()):
            ways = "assign one of the data's own splits to it" if own else f"raise data.splits.{split}"
            found.append(Problem(f"the split {split} has no samples", key="data.splits", hint=ways))
            continue
        for index, label in enumerate(classes):
            if not held[label]:
                others = ", ".join(f"{other} {count}" for other, count in held.items() if count)
                total = int((targets == index).sum())
                found.append(
                    Problem(
                        f'the split {split} has no "{label}" (it has {others}; "{label}" has {_plural(total, "sample")}'
                        f" in {_plural(len(groups[index]), 'group')} altogether)",
                        key="data.splits",
                        hint=_remedy(split, label, len(groups[index]), own),
                    )
                )
    if found:
        raise DataProblems(found)


def _remedy(split: str, label: str, groups: int, own: bool) -> str:
    if groups < len(SPLITS):
        return f'collect "{label}" from at least {len(SPLITS)} groups, so that each split can have one'
    if own:
        return "divide another of the data's splits among more splits with data.splits.assign"
    return f"raise data.splits.{split}, or collect more"


def _pools(samples: Sequence[Sample], splits: Splits) -> list[tuple[str, ...]]:
    assign = {**DEFAULT_ASSIGN, **{name: tuple(targets) for name, targets in (splits.assign or {}).items()}}
    counts = Counter(str(sample.split) for sample in samples)
    here = ", ".join(f"{name} ({count})" for name, count in counts.items())
    if unknown := [name for name in counts if name not in assign]:
        raise _spec_error(
            "data.splits.assign",
            f'does not say where the data\'s split "{unknown[0]}" goes (the data have {here})',
            f'add for example "{unknown[0]}" = ["train"]',
        )
    if absent := [name for name in splits.assign or {} if name not in counts]:
        raise _spec_error(
            "data.splits.assign", f'names the split "{absent[0]}", which the data do not have', f"they have {here}"
        )
    for name in counts:
        if foreign := [target for target in assign[name] if target not in SPLITS]:
            raise _spec_error(
                f"data.splits.assign.{name}", f'"{foreign[0]}" is not a split', f"splits: {', '.join(SPLITS)}"
            )
    return [assign[str(sample.split)] for sample in samples]


def _refuse_crossing(
    samples: Sequence[Sample],
    pools: Sequence[tuple[str, ...]],
    clusters: NDArray[np.int64],
    names: Sequence[str],
    pairs: Sequence[Pair],
) -> None:
    members: dict[int, list[int]] = defaultdict(list)
    for number, cluster in enumerate(clusters.tolist()):
        members[cluster].append(number)
    crossing = {
        cluster: numbers for cluster, numbers in members.items() if len({pools[number] for number in numbers}) > 1
    }
    if not crossing:
        return
    alike = [pair for pair in pairs if int(clusters[pair.first]) in crossing]
    alike.sort(key=lambda pair: pools[pair.first] == pools[pair.second])
    by_likeness = {int(clusters[pair.first]) for pair in alike}
    details = [_pair_problem(samples, pair) for pair in alike]
    for cluster, numbers in crossing.items():
        if cluster not in by_likeness:
            held = Counter(str(samples[number].split) for number in numbers)
            details.append(
                Problem(f'group "{names[numbers[0]]}": {", ".join(f"{n} in {split}" for split, n in held.items())}')
            )
    what = "near-duplicates" if alike else "groups"
    ways = 'remove one of each pair, or set data.near_duplicates = "ignore"' if alike else "mend the split or the group"
    raise listed(
        Problem(
            f"{what} cross the data's own splits ({_plural(len(crossing), 'cluster')})",
            hint=f"{ways}, or leave the data's own splits out, so that data.splits keeps each group whole",
        ),
        details,
    )


def _pair_problem(samples: Sequence[Sample], pair: Pair) -> Problem:
    first, second = samples[pair.first], samples[pair.second]
    where = f" ({first.split} and {second.split})" if first.split and second.split else ""
    return Problem(
        f"looks like {second.path}{where}: {pair.bits} bits apart, correlation {pair.correlation:.2f}",
        origin=Origin(str(first.path)),
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _spec_error(key: str, message: str, hint: str) -> SpecError:
    return SpecError([Problem(message, key=key, hint=hint)])
