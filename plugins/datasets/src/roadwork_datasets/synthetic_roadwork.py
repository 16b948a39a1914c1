"""Rendered street scenes, made once and kept."""

from __future__ import annotations

from collections.abc import Sequence

from roadwork_core import component, option
from roadwork_core.data.sample import Sample
from roadwork_core.kinds import DatasetContext

_WEATHERS = ("clear", "overcast", "rain", "fog", "snow")


@component("dataset", "synthetic_roadwork")
class SyntheticRoadwork:
    """Rendered street scenes with and without roadworks, in sequences; nothing is fetched.

    Pictures are drawn on first use, with one process per core where there are many, and kept in the runs directory.
    """

    n: int = option(default=1600, minimum=1, maximum=1_000_000, help="pictures")
    width: int = option(default=128, minimum=16, maximum=4096, help="pixels")
    height: int = option(default=96, minimum=16, maximum=4096, help="pixels")
    positive_fraction: float = option(default=0.5, minimum=0, maximum=1, help="part of the pictures with roadworks")
    frames_per_sequence: int = option(default=4, minimum=1, help="pictures of one street, which never cross splits")
    weather: tuple[str, ...] | None = option(
        default=None, min_length=1, choices=_WEATHERS, help="only these weathers (default: all)"
    )
    seed: int = option(
        default=0, minimum=0, help="which streets; apart from the spec's seed, so that runs can share pictures"
    )

    def build(self, ctx: DatasetContext) -> Sequence[Sample]:
        """The frames in order, drawn where they are not there yet. A run that is killed here draws on from there."""
        from .rendering import frame_path, render_missing
        from .synthetic import plan

        frames = plan(
            self.n,
            positive_fraction=self.positive_fraction,
            frames_per_sequence=self.frames_per_sequence,
            seed=self.seed,
            weather=self.weather,
        )
        folder = render_missing(frames, ctx.cache_dir, width=self.width, height=self.height, report=ctx.report)
        return [
            Sample(
                path=folder / frame_path(frame),
                label="roadwork" if frame.label else "no_roadwork",
                source="synthetic",
                group=f"sequence-{frame.sequence:06d}",
                tags={**frame.tags, "sequence": f"sequence-{frame.sequence:06d}"},
            )
            for frame in frames
        ]
