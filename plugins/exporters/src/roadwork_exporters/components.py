"""The options of the exporters; torch and ONNX wait in the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import ExporterContext


@component("exporter", "onnx")
class Onnx:
    """ONNX Runtime without torch: the network as ONNX, preprocessing, views and policies in numpy.

    The batch may have any size. Checked on the bundle's golden pictures before it is handed over: logits within the
    tolerance of torch's, decisions identical. Needs `pip install 'roadwork[onnx]'`.
    """

    opset: int = option(default=18, minimum=18, maximum=25, help="version of ONNX's operators that the network uses")
    tolerance: float = option(
        default=1e-3,
        above=0,
        help="how far logits may be from torch's, relative to the larger of 1 and their magnitude",
    )

    def build(self, ctx: ExporterContext) -> Mapping[str, Any]:
        from .onnx_export import export

        return export(self, ctx)
