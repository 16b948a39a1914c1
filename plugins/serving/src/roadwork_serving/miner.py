"""The miner's ImageSynapse: one number per picture, cut at one half, always."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse

from roadwork_core.bundle import Bundle, Prediction

from .documents import ImageSynapse, SynapseAnswer, problem_of
from .pictures import Asked, Choice, predict
from .predicting import REFUSALS
from .reading import from_base64
from .refusals import Refusal
from .service import Loaded, Service

#: The header of an answer's key, since the document has no room for it.
_KEY = "x-prediction-key"
#: The nearest numbers to one half that rounding still takes apart: half itself is rounded to zero.
_JUST_ABOVE = math.nextafter(0.5, 1.0)
_JUST_BELOW = math.nextafter(0.5, 0.0)


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["miner"])

    @routes.post(
        "/ImageSynapse",
        summary="P(roadwork) for StreetVision",
        responses={200: {"model": SynapseAnswer}, **REFUSALS},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": ImageSynapse.model_json_schema()}},
            }
        },
        response_model=None,
    )
    async def synapse(request: Request) -> JSONResponse:
        """A JPEG as base64 to a number that is over one half exactly where the bundle, made to answer, says roadwork:
        sigma(logit(p) - logit(t)) of the score p and the fitted cut t."""

        def compute(loaded: Loaded, body: bytes) -> tuple[float, str | None]:
            try:
                wanted = ImageSynapse.model_validate_json(body)
            except ValidationError as error:
                raise problem_of(error) from None
            asked = Asked(pictures=[from_base64(wanted.image)], names=[None], choice=Choice(must_answer=True))
            answer = predict(service, loaded, asked)[0]
            if answer.prediction.error is not None:
                raise Refusal(422, "bad_image", answer.prediction.error)
            return balanced(answer.prediction, loaded.bundle), answer.key

        prediction, key = await service.answer(request.body, compute)
        return JSONResponse({"prediction": prediction}, headers={} if key is None else {_KEY: key})

    return routes


def balanced(prediction: Prediction, bundle: Bundle) -> float:
    """P(positive) in [0, 1] with the cut of whoever decided moved to 0.5, on the side of the decision's label."""
    margin = _logit(prediction.score) - cut_of(bundle.policies, prediction.policy)
    value = 1.0 / (1.0 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1.0 + math.exp(margin))
    if prediction.label == bundle.labels[bundle.positive]:
        return max(value, _JUST_ABOVE)
    return min(value, _JUST_BELOW)


def cut_of(policies: Mapping[str, Mapping[str, Any]], name: str) -> float:
    """The cut on the margin, in logits, of the score that a policy gives: its own, or that of the member whose score
    it passes on; 0 where there is none."""
    summary: Mapping[str, Any] = policies.get(name, {}).get("summary", {})
    if "threshold" not in summary and isinstance(member := summary.get("fast"), str) and member != name:
        summary = policies.get(member, {}).get("summary", {})
    cut = summary.get("threshold", 0.0)
    finite = isinstance(cut, int | float) and not isinstance(cut, bool) and math.isfinite(cut)
    return max(-700.0, min(700.0, float(cut))) if finite else 0.0


def _logit(probability: float) -> float:
    if probability <= 0.0:
        return -745.0
    if probability >= 1.0:
        return 37.0
    return math.log(probability) - math.log1p(-probability)
