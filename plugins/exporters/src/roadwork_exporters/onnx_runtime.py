"""Decisions from an ONNX export with ONNX Runtime and numpy: torch is neither used nor imported."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core.backends import onnxruntime
from roadwork_core.bundle import Bundle, Prediction
from roadwork_core.bundle.deciding import Decider, decider_of
from roadwork_core.bundle.golden import replay
from roadwork_core.bundle.onnx_network import INPUT, LOGITS
from roadwork_core.data.decode import decode
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import Problem, RoadworkError
from roadwork_core.kinds import Kind, Tta, TtaContext
from roadwork_core.plugins import Plugins
from roadwork_core.spec import resolve_component

from . import onnx_folder as fmt
from .pictures import Picture, normalise, picture, to_input
from .quantization import NOTICE

if TYPE_CHECKING:
    from PIL.Image import Image

    Source: TypeAlias = Path | str | bytes | Image | NDArray[Any]


def load(
    folder: Path | str, *, plugins: Plugins | None = None, batch_size: int = 32, threads: int = 0
) -> OnnxPredictor:
    """Reads an export, checks its digests, and returns what predicts with it.

    `batch_size` counts views that go through the network together, `threads` those of ONNX Runtime (0: one per core). A
    quantised network takes one view: it scales its inputs by all that it is given, so that an answer would depend on
    the pictures beside it.
    Raises VerificationError for a damaged export, RoadworkError where ONNX Runtime or a plugin is missing.
    """
    runtime = onnxruntime()
    plugins = plugins or Plugins.load()
    bundle = fmt.read(Path(folder))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    preprocessing = Preprocessing.from_json(bundle.model["preprocessing"])
    decider = decider_of(
        bundle.policies,
        plugins,
        active=bundle.active,
        fallback=bundle.fallback,
        num_classes=len(bundle.labels),
        positive=bundle.positive,
    )
    return OnnxPredictor(
        bundle=bundle,
        session=runtime.InferenceSession(
            bundle.path / fmt.NETWORK, options, providers=providers(runtime.get_available_providers())
        ),
        preprocessing=preprocessing,
        tta=_tta(bundle, preprocessing, plugins),
        decider=decider,
        batch_size=1 if bundle.manifest.get("quantization") else batch_size,
    )


def providers(available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Where ONNX Runtime computes, with options: CUDA where it is there, and the CPU.

    Others that it may find (CoreML, TensorRT, and CUDA with TF32) round to fewer bits than float32 has, and would
    decide otherwise than the bundle.
    """
    exact = {"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}
    return [(name, options) for name, options in exact.items() if name in available]


def _tta(bundle: Bundle, preprocessing: Preprocessing, plugins: Plugins) -> Tta:
    part = bundle.model["tta"]
    component = resolve_component(Kind.TTA, {"use": part["use"], **part["options"]}, plugins)
    tta = component.build(
        TtaContext(
            image_size=preprocessing.size,
            size_multiple=preprocessing.size_multiple,
            num_classes=len(bundle.labels),
            # The context speaks of tensors; an augmentation that only slices and flips takes arrays as well.
            to_input=lambda image, size: to_input(preprocessing, image, size),  # type: ignore[arg-type, return-value]
        )
    )
    return tta if part.get("state") is None else tta.restore(part["state"])


@frozen(kw_only=True)
class OnnxPredictor:
    """Predicts with one export; safe to call from several threads at once."""

    bundle: Bundle
    session: Any
    preprocessing: Preprocessing
    tta: Tta
    decider: Decider
    batch_size: int

    @property
    def notice(self) -> str | None:
        """What who decides with this export must know: that it is quantised, and so without guarantees."""
        return NOTICE if self.bundle.manifest.get("quantization") else None

    def predict(
        self,
        images: Sequence[Source],
        *,
        mode: str | None = None,
        policy: str | None = None,
        must_answer: bool = False,
        on_bad_image: Literal["raise", "report"] = "raise",
    ) -> list[Prediction]:
        """One prediction per picture, as `roadwork_core.bundle.Predictor.predict`."""
        name = self.bundle.policy_for(mode=mode, policy=policy)
        paths = [str(image) if isinstance(image, str | Path) else None for image in images]
        decoded = [self._read(image, on_bad_image) for image in images]
        made = {
            row: Prediction(path=paths[row], error=found) for row, found in enumerate(decoded) if isinstance(found, str)
        }
        rows = [row for row in range(len(images)) if row not in made]
        readable = [found for found in decoded if not isinstance(found, str)]
        if readable:
            decided = self.decider.decide(self._scored(readable), policy=name, must_answer=must_answer)
            policies = decided.decisions.policies or [name] * len(rows)
            for index, (row, found) in enumerate(zip(rows, decided.decisions.rows(), strict=True)):
                labels = self.bundle.labels
                made[row] = (
                    Prediction(path=paths[row], error=decided.errors[index])
                    if index in decided.errors
                    else Prediction(
                        path=paths[row],
                        label=None if found["label"] is None else labels[found["label"]],
                        abstain=found["abstain"],
                        score=found["score"],
                        labels=tuple(labels[member] for member in found["set"]),
                        policy=policies[index],
                        reason=found["reason"],
                    )
                )
        return [made[row] for row in range(len(images))]

    def logits(self, pictures: Sequence[Picture]) -> NDArray[np.float64]:
        """Raw pictures, each uint8 (3, H, W) of any size, to fused logits, float64 (n, C)."""
        return self._scored([self._views(image) for image in pictures])

    def _scored(self, views: Sequence[Sequence[Picture]]) -> NDArray[np.float64]:
        by_size: dict[tuple[int, ...], list[tuple[int, int, Picture]]] = defaultdict(list)
        for sample, views_of_sample in enumerate(views):
            for view, pixels in enumerate(views_of_sample):
                by_size[pixels.shape].append((view, sample, pixels))
        logits = np.empty((len(self.tta.view_ids), len(views), len(self.bundle.labels)))
        for alike in by_size.values():
            for start in range(0, len(alike), self.batch_size):
                chunk = alike[start : start + self.batch_size]
                inputs = normalise(self.preprocessing, np.stack([np.asarray(pixels) for _, _, pixels in chunk]))
                (answers,) = self.session.run([LOGITS], {INPUT: inputs})
                for (view, sample, _), answer in zip(chunk, answers, strict=True):
                    logits[view, sample] = answer
        return self.tta.fuse(logits)

    def replay(self) -> list[Problem]:
        """Scores the golden pictures and decides on them: what differs from what the bundle gives."""
        golden = json.loads((self.bundle.path / fmt.GOLDEN_EXPECTED).read_bytes())
        scorer: Any = self
        return replay(golden, self.golden_pictures(), scorer, self.decider, self.bundle.labels)

    def golden_pictures(self) -> list[Picture]:
        """The pictures that the export was checked on."""
        from safetensors.numpy import load_file

        tensors = load_file(self.bundle.path / fmt.GOLDEN_INPUTS)
        return [tensors[name].view(Picture) for name in sorted(tensors)]

    def _views(self, image: Picture) -> Sequence[Picture]:
        tensor: Any = image
        try:
            made: Any = self.tta.views(tensor)
            return made
        except ImportError as error:
            raise RoadworkError(
                f"the test-time augmentation needs {error.name} for a picture of {image.shape[-1]} x {image.shape[-2]}",
                hint="predict it with the bundle itself",
            ) from None

    def _read(self, image: Source, on_bad_image: str) -> Sequence[Picture] | str:
        """The views of a picture, or why there are none."""
        side = max(self.preprocessing.min_side, self.tta.min_side)
        try:
            source = Path(image) if isinstance(image, str) else image
            pixels = decode(source, min_side=side, max_pixels=self.bundle.manifest["max_pixels"])
            return self._views(picture(pixels))
        except RoadworkError as error:
            if on_bad_image == "raise":
                raise
            return error.message
