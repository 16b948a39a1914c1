"""Pictures of a request, within its limits, to predictions: what `roadwork predict` does with the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from attrs import evolve, field, fields, frozen

from roadwork_core.bundle import Prediction
from roadwork_core.data.decode import BadImageError, decode
from roadwork_core.errors import UsageError

from .refusals import Refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .service import Loaded, Service

#: The bytes of a file, or uint8 (H, W, 3).
Picture: TypeAlias = "bytes | NDArray[np.uint8]"


@frozen(kw_only=True)
class Choice:
    """Who decides: a `mode` or a `policy` of the bundle, its active policy where both are None."""

    mode: str | None = None
    policy: str | None = None
    must_answer: bool = False


#: The fields of a choice, by which clients give them in every form of a request.
OPTIONS = tuple(one.name for one in fields(Choice))


@frozen(kw_only=True)
class Asked:
    """The pictures of a request, each with its name if it has one."""

    pictures: Sequence[Picture]
    names: Sequence[str | None]
    choice: Choice = field(factory=Choice)


@frozen
class Answer:
    """A prediction; `key` names it in the feedback store, None where it is not kept."""

    prediction: Prediction
    key: str | None


def predict(service: Service, loaded: Loaded, asked: Asked) -> list[Answer]:
    """One answer per picture, in order, one that cannot be read with `error`.

    Raises Refusal for too many pictures or none, and for a mode or policy that the bundle does not have.
    """
    check_count(len(asked.pictures), service.settings.max_images)
    choice = asked.choice
    try:
        loaded.bundle.policy_for(mode=choice.mode, policy=choice.policy)
    except UsageError as error:
        raise Refusal(400, "bad_choice", f"{error.message} ({error.hint})") from None
    decoded = _decoded(asked.pictures, loaded, service.settings.max_pixels)
    readable = [pixels for pixels in decoded if not isinstance(pixels, str)]
    predictor = loaded.own()
    answers = iter(
        predictor.predict(
            readable,
            mode=choice.mode,
            policy=choice.policy,
            must_answer=choice.must_answer,
            on_bad_image="report",
            features=service.recorder is not None,
        )
    )
    found = []
    for name, pixels in zip(asked.names, decoded, strict=True):
        if isinstance(pixels, str):
            found.append(Prediction(path=name, error=pixels))
        else:
            found.append(evolve(next(answers), path=name))
    service.telemetry.predictions(found, sum(predictor.fallbacks.values()))
    keys: Sequence[str | None] = [None] * len(found)
    if service.recorder is not None:
        keys = service.recorder.keep(loaded.bundle.id, found, asked.pictures)
    return [Answer(prediction, key) for prediction, key in zip(found, keys, strict=True)]


def check_count(count: int, most: int) -> None:
    """Raises Refusal for no pictures, or more than `most`."""
    if count == 0:
        raise Refusal(400, "no_image", "the request holds no picture")
    if count > most:
        raise Refusal(413, "too_many_images", f"more pictures than the limit of {most} in a request")


def _decoded(pictures: Sequence[Picture], loaded: Loaded, max_pixels: int) -> list[NDArray[np.uint8] | str]:
    """uint8 (H, W, 3) or why not, one picture after the other so that memory stays within `max_pixels`."""
    min_side = loaded.predictor.runtime.scorer.min_side
    of_bundle: int = loaded.bundle.manifest["signature"]["input"]["max_pixels"]
    left = max_pixels
    found: list[NDArray[np.uint8] | str] = []
    for picture in pictures:
        try:
            pixels = decode(picture, min_side=min_side, max_pixels=min(of_bundle, max_pixels))
        except BadImageError as error:
            found.append(error.message.removesuffix(" (data.max_pixels)"))
            continue
        left -= pixels.shape[0] * pixels.shape[1]
        if left < 0:
            raise Refusal(413, "too_many_pixels", f"more pixels than the limit of {max_pixels} in a request")
        found.append(pixels)
    return found


def document(loaded: Loaded, found: Sequence[Answer]) -> dict[str, Any]:
    """The JSON document of an answer."""
    return {
        "bundle": loaded.bundle.name,
        "bundle_id": loaded.bundle.id,
        "predictions": [{**answer.prediction.to_json(), "key": answer.key} for answer in found],
    }
