"""Every exporter keeps what its kind promises."""

from __future__ import annotations

import pytest

from roadwork_core.testing import ExporterContract


class TestOnnx(ExporterContract):
    component = "exporters/onnx"

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(name)
