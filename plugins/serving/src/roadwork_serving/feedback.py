"""/feedback: what was true of a prediction, by the key of its answer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse

from roadwork_core.errors import RoadworkError
from roadwork_core.feedback import Label

from .documents import ErrorDocument, LabelDocument, LabelRequest, problem_of
from .predicting import REFUSALS
from .recorder import LabelledOtherwiseError, QueueFullError, UnknownKeyError
from .refusals import Refusal
from .service import Service

_LARGEST = 64 * 1024
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": LabelDocument},
    **{status: REFUSALS[status] for status in (400, 401, 408, 413, 415)},
    404: {"model": ErrorDocument, "description": "no prediction of this key is kept"},
    409: {"model": ErrorDocument, "description": "it has another label already, or this server keeps no feedback"},
    422: {"model": ErrorDocument, "description": "the bundle has no such label"},
    503: {"model": ErrorDocument, "description": "it cannot be written now: try again after Retry-After seconds"},
}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["feedback"])

    @routes.post(
        "/feedback",
        summary="Say what was true",
        responses=_RESPONSES,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": LabelRequest.model_json_schema()}},
            }
        },
        response_model=None,
    )
    async def feedback(request: Request) -> JSONResponse:
        """A label for the prediction of a `key`. The answer 200 comes when both are on the disk. The same label again
        changes nothing; another one is refused unless `replace` is true."""
        if service.recorder is None:
            raise Refusal(409, "no_feedback", "this server keeps no feedback; serve --feedback FILE does")
        wanted = await _read(request, service)
        labels = service.current.bundle.labels
        if wanted.label not in labels:
            raise Refusal(422, "unknown_label", f"no such label; the bundle has {', '.join(labels)}")
        label = Label(label=wanted.label, time=time.time(), source=wanted.source, key=wanted.key)
        try:
            job = service.recorder.label(label, replace=wanted.replace)
            async with asyncio.timeout(service.settings.timeout):
                await asyncio.wrap_future(job)
        except UnknownKeyError:
            raise Refusal(404, "unknown_key", "no prediction of this key is kept") from None
        except LabelledOtherwiseError:
            message = 'this prediction has another label already; {"replace": true} takes its place'
            raise Refusal(409, "labelled_otherwise", message) from None
        except (QueueFullError, TimeoutError, RoadworkError):
            raise Refusal(503, "not_written", "the label could not be written now", retry_after=5) from None
        service.telemetry.labelled()
        return JSONResponse({"key": wanted.key, "label": wanted.label})

    return routes


async def _read(request: Request, service: Service) -> LabelRequest:
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "content_type", "the content type must be application/json")
    body = b""
    try:
        async with asyncio.timeout(service.settings.timeout):
            async for part in request.stream():
                body += part
                if len(body) > _LARGEST:
                    raise Refusal(413, "too_large", f"the body is larger than {_LARGEST} bytes")
    except TimeoutError:
        raise service.slow_upload() from None
    try:
        return LabelRequest.model_validate_json(body)
    except ValidationError as error:
        raise problem_of(error) from None


__all__ = ["router"]
