"""Several data sets as one, without the pictures that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from roadwork_core import component, option, section, slot
from roadwork_core.component import component_info
from roadwork_core.data.sample import Sample
from roadwork_core.errors import DataError
from roadwork_core.kinds import DatasetContext

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


@section
class MixedSource:
    """One data set of a mix."""

    dataset: Any = slot("dataset", help="the data set")
    name: str | None = option(default=None, pattern=_NAME, help="noted as source of its samples (default: its `use`)")
    share: float | None = option(default=None, above=0, help="part of the mix, relative to the shares of the others")
    limit: int | None = option(default=None, minimum=1, help="at most so many of its pictures")
    split: str | None = option(
        default=None, min_length=1, help="the data's own split that all its samples are of (default: what they say)"
    )
    labels: Mapping[str, str] = option(default={}, help="other names for its labels")

    def called(self) -> str:
        return self.name or component_info(self.dataset).name


@component("dataset", "mixed")
class Mixed:
    """Several data sets as one. What is in two of them is taken from the first: the same file, or the same frame by the
    tags city, seq, vid and frame.

    Samples that share a picture, a group or a drive (city, seq, vid) are one group, whatever set they came in. With
    `share` the mix is the largest in which the shares hold. Each class keeps its part when a set is made smaller, and
    what stays is spread over the groups.
    """

    sources: tuple[MixedSource, ...] = option(min_length=1, help="the data sets, the one to be preferred first")

    def __attrs_post_init__(self) -> None:
        counts = Counter(source.called() for source in self.sources)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f'two sources are called "{twice[0]}": give each a name')
        if 0 < sum(source.share is not None for source in self.sources) < len(self.sources):
            without = next(source for source in self.sources if source.share is None)
            raise ValueError(f'the source "{without.called()}" has no share, others have: give all a share, or none')

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The samples of each source in turn, in its own order; the choice depends on the run's seed.

        Raises DataError where only some samples have a split, and for what a data set refuses.
        """
        from .mixing import Mix, fitting, thinned

        mix = Mix()
        for number, source in enumerate(self.sources):
            inner = DatasetContext(
                cache_dir=ctx.cache_dir / f"{number:02d}-{source.called()}", seed=ctx.seed, report=ctx.report
            )
            mix.add(source.called(), [self._of(source, sample) for sample in source.dataset.build(inner)])
        kept = [
            thinned(list(samples), source.limit, ctx.seed)
            for source, samples in zip(self.sources, mix.without_copies(), strict=True)
        ]
        if all(source.share is not None for source in self.sources):
            sizes = fitting([len(samples) for samples in kept], [source.share or 0.0 for source in self.sources])
            kept = [thinned(samples, size, ctx.seed) for samples, size in zip(kept, sizes, strict=True)]
        self._report(ctx, mix, kept)
        self._refuse_some_splits(kept)
        return [sample for samples in kept for sample in samples]

    def _of(self, source: MixedSource, sample: Sample) -> Sample:
        return attrs.evolve(
            sample,
            source=source.called(),
            split=source.split or sample.split,
            label=source.labels.get(sample.label, sample.label),
        )

    def _report(self, ctx: DatasetContext, mix: Any, kept: Sequence[Sequence[Sample]]) -> None:
        counts = [f"{source.called()} {len(samples)}" for source, samples in zip(self.sources, kept, strict=True)]
        ctx.report(f"mixed: {', '.join(counts)}")
        if mix.copies:
            disputed = f", {mix.disputed} of them with another label" if mix.disputed else ""
            ctx.report(f"mixed: left out {mix.copies} pictures that an earlier source has{disputed}")

    def _refuse_some_splits(self, kept: Sequence[Sequence[Sample]]) -> None:
        without = {s.called(): sum(not x.split for x in xs) for s, xs in zip(self.sources, kept, strict=True)}
        total = sum(map(len, kept))
        if 0 < sum(without.values()) < total:
            name = next(name for name, count in without.items() if count)
            raise DataError(
                f'{without[name]} samples of the source "{name}" have no split, others have',
                hint=f'set split = "{name}" for it, and say in data.splits.assign where "{name}" goes',
            )
