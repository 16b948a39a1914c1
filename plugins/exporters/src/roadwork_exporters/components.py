"""The options of the exporters; torch and ONNX wait in the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from roadwork_core import component, option
from roadwork_core.kinds import ExporterContext


@component("exporter", "onnx")
class Onnx:
    """ONNX Runtime without torch: the network as ONNX, preprocessing, views and policies in numpy.

    The batch may have any size. Checked on the bundle's golden pictures before it is handed over: logits within the
    tolerance of torch's, decisions identical. Needs the extra `onnx` of roadwork.

    `quantize` then stores weights in 8 bits (dynamic quantisation of ONNX Runtime, for CPUs). Its logits are others, so
    guarantees are withdrawn from the exported policies, whose cuts stay; what changes is measured and written down.
    """

    opset: int = option(default=18, minimum=18, maximum=25, help="version of ONNX's operators that the network uses")
    tolerance: float = option(
        default=1e-3,
        above=0,
        help="how far logits may be from torch's, relative to the larger of 1 and their magnitude, before quantisation",
    )
    quantize: Literal["none", "int8", "int8_all"] = option(
        default="none",
        help="weights in 8 bits: of matrix products (int8), or of convolutions too, which are slower in it (int8_all)",
    )
    agreement: float = option(
        default=0.9,
        minimum=0,
        maximum=1,
        help="share of the golden decisions of each policy that int8 must leave as they are",
    )
    labelled: str | None = option(
        default=None,
        min_length=1,
        help="where the cost of int8 is measured: a folder with one per class, a manifest, or a dataset's name",
    )

    def build(self, ctx: ExporterContext) -> Mapping[str, Any]:
        from .onnx_export import export

        return export(self, ctx)


@component("exporter", "huggingface")
class HuggingFace:
    """A folder that the stock image-classification pipeline of transformers loads and that gives the served score.

    score = sigma((margin - cut) / temperature): the cut of a threshold policy and the temperature that a policy of
    the bundle fitted (1 where none did) are folded into the last linear layer, the negative class first. For
    backbones of transformers whose family has an image classifier there, a linear head, and one view.
    """

    policy: str | None = option(
        default=None, help="the threshold policy whose cut is folded in (default: the active one, or the first)"
    )
    calibrated: bool = option(
        default=True, help="fold in the temperature; false gives what StreetVision's miner gives: sigma(margin - cut)"
    )
    labels: Literal["bundle", "streetvision"] = option(
        default="bundle", help="names of the classes: the bundle's, or None and Roadwork as StreetVision reads them"
    )
    model_name: str | None = option(default=None, min_length=1, help="in model_card.json (default: the bundle's name)")
    description: str | None = option(default=None, min_length=1, help="in model_card.json (default: the bundle's)")
    version: str = option(default="1.0.0", pattern=r"\d+\.\d+\.\d+", help="in model_card.json, as X.Y.Z")
    submitted_by: str = option(default="", help="in model_card.json: who submits the model")
    submission_time: str | None = option(
        default=None, min_length=1, help="in model_card.json, in ISO 8601 (default: the time of the export, UTC)"
    )

    def build(self, ctx: ExporterContext) -> Mapping[str, Any]:
        from .huggingface_export import export

        return export(self, ctx)
