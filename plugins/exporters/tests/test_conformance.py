"""Every exporter keeps what its kind promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from roadwork_core.bundle import load
from roadwork_core.plugins import Plugins
from roadwork_core.testing import ExporterContract


class TestOnnx(ExporterContract):
    component = "exporters/onnx"
    variants: ClassVar[Sequence[Mapping[str, Any]]] = [{"quantize": "int8_all", "agreement": 0.0}]

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(name)


class TestHuggingFace(ExporterContract):
    component = "exporters/huggingface"
    options: ClassVar[Mapping[str, Any]] = {"submission_time": "2026-01-01T00:00:00"}

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        for name in ("transformers", "roadwork_backbones", "roadwork_heads", "roadwork_policies", "roadwork_tta"):
            pytest.importorskip(name)

    def bundle(self, folder: Path) -> tuple[Any, Plugins]:
        """Around an encoder that transformers has a classifier for."""
        from tests.exporters.test_huggingface import bundle_of

        return load(bundle_of("vit", folder)).runtime, Plugins.load()
