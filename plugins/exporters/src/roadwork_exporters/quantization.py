"""Dynamic int8 quantisation of a written network, and what becomes of the policies' promises."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from roadwork_core.backends import onnxruntime
from roadwork_core.errors import UsageError, VerificationError

#: What is quantised: matrix products alone, or convolutions too.
Scheme = Literal["int8", "int8_all"]
_MATRICES, _CONVOLUTIONS = ("MatMul", "Gemm"), ("Conv",)
#: Below this share of the weights nothing is gained that would be worth another set of logits.
LEAST_SHARE = 0.5


def quantise(path: Path, scheme: Scheme, *, external: bool = False) -> dict[str, Any]:
    """Rewrites an ONNX network with 8-bit weights; inputs of each quantised operator are quantised as they come.

    `external` keeps the weights beside the graph. Returns the scheme and the share of the weights that it reached.
    Raises UsageError where that is less than half, VerificationError where ONNX Runtime cannot quantise the network.
    """
    onnxruntime()  # before any part of it is imported, so that it is told to be silent
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    before = _weights(path)
    # Each kind of operator in the format for which ONNX Runtime has its fastest kernel (measured).
    passes: list[tuple[tuple[str, ...], Any]] = [(_MATRICES, QuantType.QInt8)]
    passes += [(_CONVOLUTIONS, QuantType.QUInt8)] if scheme == "int8_all" else []
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=path.parent) as scratch:
        source = Path(scratch) / "prepared.onnx"
        try:
            quant_pre_process(
                path,
                source,
                skip_symbolic_shape=True,
                save_as_external_data=external,
                all_tensors_to_one_file=True,
            )
            for number, (operators, weights) in enumerate(passes):
                target = Path(scratch) / f"{number}.onnx"
                quantize_dynamic(
                    source,
                    target,
                    op_types_to_quantize=list(operators),
                    per_channel=True,
                    # Seven bits: pairs of eight-bit products overflow 16 bits on processors without VNNI, which
                    # would make decisions depend on the processor.
                    reduce_range=True,
                    weight_type=weights,
                    use_external_data_format=external,
                )
                source = target
        except Exception as error:  # onnxruntime's tools raise whatever a network provokes
            why = " ".join(str(error).split())[:200]
            raise VerificationError(
                f"ONNX Runtime cannot quantise this network: {type(error).__name__}: {why}"
            ) from error
        whole = _weights(source)
        share = 1.0 - whole["float"] / max(before["float"], 1)
        if share < LEAST_SHARE:
            raise UsageError(
                f"{scheme} reaches {share:.1%} of this network's weights: the others are not of matrix products",
                hint='leave quantize out, or take "int8_all", which makes convolutions smaller and slower'
                if scheme == "int8"
                else "leave quantize out",
            )
        _replace(source, path, external)
    return {"scheme": scheme, "share": share, "weights": "dynamic, per channel"}


def _weights(path: Path) -> dict[str, int]:
    """How many numbers a network keeps as float32, of those that make up its tensors."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    return {"float": sum(int(np.prod(tensor.dims)) for tensor in floats)}


def _replace(source: Path, path: Path, external: bool) -> None:
    import onnx

    model = onnx.load(source)
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)
    path.unlink()
    onnx.save(model, path, save_as_external_data=external, location=beside.name)
    onnx.checker.check_model(path)


def without_guarantee(document: Mapping[str, Any]) -> dict[str, Any]:
    """A policy document whose guarantee is withdrawn: it was of other logits than those of the quantised network."""
    if not document["guarantee"]:
        return dict(document)
    return {**document, "guarantee": {"kind": "none", "text": WITHDRAWN}}


WITHDRAWN = (
    "none: it was fitted on the logits of the float32 network, and this network is quantised to int8, whose logits"
    " differ."
)
NOTICE = (
    "the network is quantised to int8, the policies were fitted on its float32 logits: none of their guarantees holds"
)
