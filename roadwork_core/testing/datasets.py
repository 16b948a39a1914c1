"""What a dataset promises."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.sample import Sample
from ..kinds import DatasetContext, Kind
from .contract import ComponentContract, refuse, seeded
from .results import difference


class DatasetContract(ComponentContract):
    """A dataset lists its samples in a stable order, each picture once, each with a label.

    Override `base_options` where a folder with a few pictures must be made first.
    """

    kind = Kind.DATASET

    def exercise(self, component: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            samples = list(component.build(DatasetContext(cache_dir=Path(folder), seed=5)))
            return [_relative(sample, Path(folder)) for sample in samples]

    def test_lists_labelled_pictures(self) -> None:
        import PIL.Image

        for component in self.cases():
            with tempfile.TemporaryDirectory() as folder:
                samples = component.build(DatasetContext(cache_dir=Path(folder), seed=5))
                if not isinstance(samples, Sequence) or not samples:
                    refuse("build must give a sequence of at least one sample")
                for sample in samples:
                    if not isinstance(sample, Sample):
                        refuse(f"{sample!r} is no Sample")
                    if not sample.label or not isinstance(sample.label, str):
                        refuse(f"{sample.path} has no label")
                    if not sample.path.is_file():
                        refuse(f"{sample.path} does not exist")
                paths = [sample.path for sample in samples]
                if len(set(paths)) != len(paths):
                    refuse(f"{max(paths, key=paths.count)} is listed twice")
                with PIL.Image.open(samples[0].path) as picture:
                    picture.load()

    def test_lists_the_same_again(self) -> None:
        """A second listing, from an empty cache and from a full one, is the same, in the same order."""
        for component in self.cases():
            with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
                lists = []
                for folder in (first, first, second):
                    context = DatasetContext(cache_dir=Path(folder), seed=5)
                    lists.append([_relative(sample, Path(folder)) for sample in component.build(context)])
                for other in lists[1:]:
                    if found := difference(lists[0], other, "samples"):
                        refuse(f"a second listing differs: {found}")

    def test_leaves_the_random_generators_alone(self) -> None:
        import random

        import torch

        for component in self.cases():
            seeded(lambda: None)()
            before = torch.get_rng_state(), random.getstate()
            self.exercise(component)
            if not torch.equal(before[0], torch.get_rng_state()) or before[1] != random.getstate():
                refuse("it draws from a global random generator; seed one of its own with ctx.seed")


def _relative(sample: Sample, folder: Path) -> dict[str, Any]:
    path = sample.path
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return {
        "path": str(shown),
        "label": sample.label,
        "group": sample.group,
        "split": sample.split,
        "source": sample.source,
        "tags": dict(sample.tags),
    }
