"""Writes a bundle's network as ONNX beside its policies, and proves that both decide alike."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from roadwork_core.bundle.golden import read_pictures
from roadwork_core.errors import RoadworkError, UsageError, VerificationError
from roadwork_core.extras import how_to_install
from roadwork_core.files import pretty_json
from roadwork_core.kinds import ExporterContext

from . import onnx_folder as fmt
from .card import with_note
from .pictures import Picture
from .quantization import Scheme, quantise, without_guarantee
from .quantization_cost import cost_in_words, on_golden, on_labelled

if TYPE_CHECKING:
    from roadwork_core.inference import Scorer

    from .components import Onnx
    from .onnx_runtime import OnnxPredictor

Size = tuple[int, int]
#: Larger networks keep their weights beside the graph: one message of protobuf holds 2 GiB.
ONE_FILE = 2**31 - 2**24
_COPIED = (fmt.GOLDEN_INPUTS, fmt.GOLDEN_EXPECTED, "LICENSE")


def export(options: Onnx, ctx: ExporterContext) -> dict[str, Any]:
    """Fills `ctx.folder`. Raises UsageError for a network or augmentation that cannot be had in ONNX, and
    VerificationError where ONNX Runtime gives other logits or decides otherwise on the golden pictures."""
    _require_onnx()
    if options.labelled is not None and options.quantize == "none":
        raise UsageError("labelled pictures measure the cost of int8", hint='--set quantize="int8"')
    bundle, scorer = ctx.runtime.bundle, ctx.runtime.scorer
    pictures = read_pictures(bundle.path / fmt.GOLDEN_INPUTS)
    sizes = _sizes(scorer, pictures)
    ctx.report(f"writing the network for inputs of {', '.join(f'{h} x {w}' for h, w in sizes)}")
    _write_network(scorer, sizes, options.opset, ctx.folder / fmt.NETWORK)
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
            "input": {"name": fmt.INPUT, "dtype": "float32", "shape": ["batch", 3, "height", "width"]},
            "output": {"name": fmt.OUTPUT, "dtype": "float32", "shape": ["batch", len(bundle.labels)]},
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


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RoadworkError(f"{error.name} is not installed", hint=how_to_install("onnx")) from None


def _sizes(scorer: Scorer, pictures: Sequence[Any]) -> list[Size]:
    """Every input size that the views have, the model's own first."""
    own = scorer.preprocessing.size
    found = {tuple(view.shape[-2:]) for picture in pictures for view in scorer.tta.views(picture)}
    return [own, *sorted(cast("set[Size]", found) - {own})]


def _write_network(scorer: Scorer, sizes: Sequence[Size], opset: int, path: Path) -> None:
    import onnx

    network = scorer.model
    dynamic: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if len(sizes) > 1:
        dynamic |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    # At its own size a vision transformer takes its position codes as they are; at any other it interpolates them,
    # which is right for all. The graph goes the way of this example.
    example = torch.zeros(2, 3, *sizes[-1])
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[fmt.INPUT],
                output_names=[fmt.OUTPUT],
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises whatever a network provokes
        why = _last_line(error.__cause__ or error)
        raise UsageError(f"torch cannot write this network as ONNX: {why}", hint="export another backbone") from error
    if program is None:
        raise UsageError("torch cannot write this network as ONNX")
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    program.save(path, external_data=weights > ONE_FILE)
    onnx.checker.check_model(path)
    written = next(item.version for item in onnx.load(path, load_external_data=False).opset_import if not item.domain)
    if written != opset:
        raise UsageError(f"torch writes this network in opset {written}, not {opset}", hint=f"--set opset={written}")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch and onnxscript tell the developers of exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check(ctx: ExporterContext, scorer: Scorer, pictures: Sequence[Any], tolerance: float) -> Mapping[str, Any]:
    """The largest differences to torch; raises VerificationError where one, or any decision, is not as it must be."""
    from .onnx_runtime import load

    predictor = load(ctx.folder, plugins=ctx.plugins)
    network = _network_difference(scorer, predictor, pictures)
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
        "pictures": max(_difference(expected, together), _difference(expected, alone)),
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


def _network_difference(scorer: Scorer, predictor: OnnxPredictor, pictures: Sequence[Any]) -> float:
    """Of the networks alone, on the same inputs of each size: batches of one and of several."""
    worst = 0.0
    for picture in pictures:
        for view in {tuple(view.shape): view for view in scorer.tta.views(picture)}.values():
            for batch in (1, 3):
                inputs = scorer.preprocessing.normalise(torch.stack([view] * batch))
                with torch.inference_mode():
                    ours = scorer.model(inputs).double().numpy()
                try:
                    (theirs,) = predictor.session.run([fmt.OUTPUT], {fmt.INPUT: inputs.numpy()})
                except Exception as error:  # ONNX Runtime's exceptions share no class of their own
                    height, width = view.shape[-2:]
                    raise UsageError(
                        f"the network in ONNX does not take {batch} inputs of {height} x {width}, which the"
                        " test-time augmentation gives: its shapes are fixed",
                        hint="use a test-time augmentation of one size, such as flip",
                    ) from error
                worst = max(worst, _difference(ours, theirs))
    return worst


def _difference(expected: Any, actual: Any) -> float:
    """The largest, relative to the larger of 1 and the expected magnitude; infinite where one is not finite."""
    gap = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
    return float(gap.max()) if np.isfinite(gap).all() else float("inf")


_NOTE = """\
> This folder is an export for [ONNX Runtime](https://onnxruntime.ai): `model.onnx` holds the network, `policies/` the
> decision rules, `export.json` the preprocessing and the classes. `roadwork predict-onnx FOLDER PICTURE` decides with
> it, without torch; on the golden pictures it gave the bundle's decisions when it was written.
"""
_INT8_NOTE = """\
> **The network is quantised to int8.** The policies were fitted on the logits of the float32 network, and so were the
> figures and the guarantees below: **no guarantee below holds for this folder**. {cost}
"""
