"""The trackers keep what their kind promises."""

from __future__ import annotations

from roadwork_core.testing import TrackerContract


class TestJsonl(TrackerContract):
    component = "operations/jsonl"
    variants = ({"filename": "log.jsonl"},)


class TestTensorboard(TrackerContract):
    component = "operations/tensorboard"
