"""/predict: pictures in, decisions out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from .documents import ErrorDocument, Predictions, PredictRequest
from .pictures import Asked, document, predict
from .reading import Unread, options_in, read
from .refusals import Refusal
from .service import Loaded, Service

_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
        "mode": {"type": "string"},
        "policy": {"type": "string"},
        "must_answer": {"type": "boolean"},
    },
}
#: Not FastAPI's own parameters: it would take yes, on, t and 1 for true, which no other way in does.
_QUERY: list[dict[str, Any]] = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": kind}}
    for name, kind, text in (
        ("mode", "string", "who decides, by deployment mode"),
        ("policy", "string", "who decides, by the policy's name"),
        ("must_answer", "boolean", "true: never abstain, the fallback policy answers"),
    )
]
_BODY: dict[str, Any] = {
    "parameters": _QUERY,
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": PredictRequest.model_json_schema()},
            "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDocument, "description": text}
    for status, text in {
        400: "not such a request",
        401: "a bearer token is asked for",
        408: "the upload took too long",
        413: "more bytes, pictures or pixels than the limits",
        415: "another content type, or a compressed body",
        422: "no picture of the request can be read",
        503: "too many requests at once: try again after Retry-After seconds",
        504: "no answer in time",
    }.items()
}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["predict"])

    @routes.post(
        "/predict",
        summary="Decide on pictures",
        responses={200: {"model": Predictions}, **REFUSALS},
        openapi_extra=_BODY,
        response_model=None,
    )
    async def predict_route(request: Request) -> JSONResponse:
        """The decisions of `roadwork predict` on the same pictures. Options may stand in the query, in the form or in
        the JSON document, which comes first. A picture that cannot be read is a prediction with `error`; if none
        can be read the status is 422."""
        choice = options_in(request)

        def compute(loaded: Loaded, given: Asked | Unread) -> dict[str, Any]:
            asked = given.asked(service.settings.max_images) if isinstance(given, Unread) else given
            found = predict(service, loaded, asked)
            if all(answer.prediction.error for answer in found):
                raise Refusal(422, "bad_image", str(found[0].prediction.error))
            return document(loaded, found)

        return JSONResponse(await service.answer(lambda: read(request, choice, service.settings.max_images), compute))

    return routes


__all__ = ["REFUSALS", "router"]
