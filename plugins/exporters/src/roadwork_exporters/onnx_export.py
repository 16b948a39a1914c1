"""Writes a bundle's network as ONNX beside its policies, and proves that both decide alike."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from roadwork_core.bundle.golden import read_pictures
from roadwork_core.bundle.onnx_network import INPUT, LOGITS, difference
from roadwork_core.bundle.onnx_writing import parity, require_onnx, sizes_of, write_network
from roadwork_core.errors import UsageError, VerificationError
from roadwork_core.files import pretty_json
from roadwork_core.kinds import ExporterContext

from . import onnx_folder as fmt
from .card import with_note
from .pictures import Picture
from .quantization import Scheme, quantise, without_guarantee
from .quantization_cost import cost_in_words, on_golden, on_labelled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from roadwork_core.inference import Scorer

    from .components import Onnx
    from .onnx_runtime import OnnxPredictor

_COPIED = (fmt.GOLDEN_INPUTS, fmt.GOLDEN_EXPECTED, "LICENSE")


def export(options: Onnx, ctx: ExporterContext) -> dict[str, Any]:
    """Fills `ctx.folder`. Raises UsageError for a network or augmentation that cannot be had in ONNX, and
    VerificationError where ONNX Runtime gives other logits or decides otherwise on the golden pictures."""
    require_onnx()
    if options.labelled is not None and options.quantize == "none":
        raise UsageError("labelled pictures measure the cost of int8", hint='--set quantize="int8"')
    bundle, scorer = ctx.runtime.bundle, ctx.runtime.scorer
    pictures = read_pictures(bundle.path / fmt.GOLDEN_INPUTS)
    sizes = sizes_of(scorer, pictures)
    ctx.report(f"writing the network for inputs of {', '.join(f'{h} x {w}' for h, w in sizes)}")
    write_network(scorer.model, ctx.folder / fmt.NETWORK, sizes=sizes, opset=options.opset)
    for name in _COPIED:
        (ctx.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(bundle.path / name, ctx.folder / name)
    (ctx.folder / "policies").mkdir()
    for name, policy in bundle.policies.items():
        (ctx.folder / f"policies/{name}.json").write_bytes(pretty_json(policy))
    card = (bundle.path / "README.md").read_text()
    (ctx.folder / "README.md").write_text(with_note(card, _NOTE))
    manifest: dict[str, Any] = {
        **{key: bundle.manifest[key] for key in ("name", "bundle_id", "labels", "positive", "active", "fallback")},
        "modes": bundle.manifest["modes"],
        "policies": sorted(bundle.policies),
        "max_pixels": bundle.manifest["signature"]["input"]["max_pixels"],
        "preprocessing": bundle.model["preprocessing"],
        "tta": bundle.model["tta"],
        "network": {
            "opset": options.opset,
            "input": {"name": INPUT, "dtype": "float32", "shape": ["batch", 3, "height", "width"]},
            "output": {"name": LOGITS, "dtype": "float32", "shape": ["batch", len(bundle.labels)]},
            "sizes": [list(size) for size in sizes],
        },
    }
    fmt.seal(ctx.folder, manifest)
    found = _check(ctx, scorer, pictures, options.tolerance)
    manifest["parity"] = found
    told = {"opset": options.opset, "sizes": manifest["network"]["sizes"], "parity": found}
    if options.quantize != "none":
        told["quantization"] = manifest["quantization"] = _quantised(options, ctx, manifest, pictures)
        note = _INT8_NOTE.format(cost=cost_in_words(manifest["quantization"]))
        (ctx.folder / "README.md").write_text(with_note(card, f"{_NOTE}>\n{note}"))
    fmt.seal(ctx.folder, manifest)
    return told


def _quantised(
    options: Onnx, ctx: ExporterContext, manifest: Mapping[str, Any], pictures: Sequence[Any]
) -> dict[str, Any]:
    """Puts the int8 network in the place of the one that was checked, withdraws guarantees, and measures the cost."""
    from .onnx_runtime import load

    path = ctx.folder / fmt.NETWORK
    ctx.report(f"quantising the network: {options.quantize}")
    before = _size(path)
    done = quantise(path, cast("Scheme", options.quantize), external=path.with_name(f"{path.name}.data").exists())
    for name, policy in ctx.runtime.bundle.policies.items():
        (ctx.folder / f"policies/{name}.json").write_bytes(pretty_json(without_guarantee(policy)))
    fmt.seal(ctx.folder, {**manifest, "quantization": done})
    predictor = load(ctx.folder, plugins=ctx.plugins)
    golden = on_golden(ctx, predictor, pictures, ctx.runtime.scorer.logits(pictures))
    name, least = min(golden["agreement"].items(), key=lambda pair: pair[1])
    if least < options.agreement:
        raise VerificationError(
            f"with int8 {name} decides {1 - least:.0%} of the golden pictures otherwise, more than"
            f" {1 - options.agreement:.0%}",
        )
    return {
        **done,
        "bytes": {"float32": before, "int8": _size(path)},
        "policies_fitted_on": "logits of the float32 network",
        "golden": golden,
        "labelled": None if options.labelled is None else on_labelled(ctx, predictor, options.labelled),
    }


def _size(path: Path) -> int:
    return sum(found.stat().st_size for found in path.parent.glob(f"{path.name}*"))


def _alone(predictor: OnnxPredictor, inputs: Tensor) -> tuple[NDArray[np.float64], None]:
    """The network of an export, without what comes before and after it."""
    (logits,) = predictor.session.run([LOGITS], {INPUT: inputs.numpy()})
    return logits.astype(np.float64), None


def _check(ctx: ExporterContext, scorer: Scorer, pictures: Sequence[Any], tolerance: float) -> Mapping[str, Any]:
    """The largest differences to torch; raises VerificationError where one, or any decision, is not as it must be."""
    from .onnx_runtime import load

    predictor = load(ctx.folder, plugins=ctx.plugins)
    network = parity(scorer, lambda inputs: _alone(predictor, inputs), pictures)
    expected = scorer.logits(pictures)
    arrays = [picture.numpy().view(Picture) for picture in pictures]
    try:
        together = predictor.logits(arrays)
        alone = np.concatenate([predictor.logits([picture]) for picture in arrays])
    except (TypeError, AttributeError) as error:
        raise UsageError(
            f"the test-time augmentation {ctx.runtime.bundle.model['tta']['use']} cannot do without torch: {error}"
        ) from error
    found = {
        "network": network,
        "pictures": max(difference(expected, together), difference(expected, alone)),
        "tolerance": tolerance,
        "golden": len(pictures),
    }
    for what in ("network", "pictures"):
        if not found[what] <= tolerance:
            raise VerificationError(
                f"the logits of ONNX Runtime are {found[what]:.3g} from torch's ({what}), more than {tolerance:.3g}"
            )
    if problems := predictor.replay():
        raise VerificationError(f"{len(problems)} failures", problems)
    return found


_NOTE = """\
> This folder is an export for [ONNX Runtime](https://onnxruntime.ai): `model.onnx` holds the network, `policies/` the
> decision rules, `export.json` the preprocessing and the classes. `roadwork predict-onnx FOLDER PICTURE` decides with
> it, without torch; on the golden pictures it gave the bundle's decisions when it was written.
"""
_INT8_NOTE = """\
> **The network is quantised to int8.** The policies were fitted on the logits of the float32 network, and so were the
> figures and the guarantees below: **no guarantee below holds for this folder**. {cost}
"""
