"""The Open Inference Protocol, version 2: the bundle as the model of its name."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from roadwork_core import __version__
from roadwork_core.bundle import Bundle

from .documents import InferAnswer, InferRequest
from .pictures import predict
from .predicting import REFUSALS
from .refusals import Refusal
from .service import Loaded, Service
from .tensors import FILES, OUTPUTS, PIXELS, read_request, write_answer

_JSON_SIZE = "inference-header-content-length"
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": REFUSALS[400]["model"], "description": "no such model"}}
_DRAINING: dict[int | str, dict[str, Any]] = {503: {"description": "it is about to end"}}
_SIZE_PARAMETER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "how many bytes of the body are JSON, where binary tensors follow it; so in an answer, too",
    "schema": {"type": "integer", "minimum": 0},
}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
Name = Annotated[str, Path(description="the bundle's name")]
Version = Annotated[str, Path(description="the bundle's id")]


def router(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    def found(bundle: Bundle, name: str, version: str | None) -> Bundle:
        if name != bundle.name or version not in (None, bundle.id):
            raise Refusal(404, "unknown_model", "no such model or version here; GET /bundle names the one that is")
        return bundle

    @routes.get("", summary="The server", responses={401: REFUSALS[401]}, response_model=None)
    async def server() -> JSONResponse:
        return JSONResponse({"name": "roadwork", "version": __version__, "extensions": ["binary_tensor_data"]})

    @routes.get("/health/live", summary="Whether the process lives", response_model=None)
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @routes.get("/health/ready", summary="Whether it takes requests", responses=_DRAINING, response_model=None)
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": not service.draining}, 503 if service.draining else 200)

    async def model(name: str, version: str | None) -> JSONResponse:
        return JSONResponse(metadata(found(service.current.bundle, name, version)))

    async def model_ready(name: str, version: str | None) -> JSONResponse:
        bundle = found(service.current.bundle, name, version)
        document = {"name": bundle.name, "ready": not service.draining}
        return JSONResponse(document, 503 if service.draining else 200)

    async def infer(request: Request, name: str, version: str | None) -> Response:
        size = _json_size(request)
        limits = service.settings

        def compute(loaded: Loaded, body: bytes) -> tuple[bytes, int | None]:
            bundle = found(loaded.bundle, name, version)
            wanted = read_request(body, size, max_images=limits.max_images, max_pixels=limits.max_pixels)
            answers = predict(service, loaded, wanted.asked)
            for row, answer in enumerate(answers):
                if answer.prediction.error is not None:
                    raise Refusal(422, "bad_image", f"picture {row}: {answer.prediction.error}")
            return write_answer(bundle, wanted, answers)

        body, head = await service.answer(request.body, compute)
        if head is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_JSON_SIZE: str(head)})

    known: dict[str, Any] = {"responses": {**_NOT_FOUND, **_DRAINING, 401: REFUSALS[401]}, "response_model": None}
    inferring: dict[str, Any] = {
        "responses": {200: {"model": InferAnswer, "content": _BINARY}, **REFUSALS, **_NOT_FOUND},
        "response_model": None,
        "openapi_extra": {
            "parameters": [_SIZE_PARAMETER],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": InferRequest.model_json_schema(ref_template=_REF)},
                    **_BINARY,
                },
            },
        },
    }

    @routes.get("/models/{name}", summary="The model's tensors", **known)
    async def model_of_name(name: Name) -> JSONResponse:
        return await model(name, None)

    @routes.get("/models/{name}/versions/{version}", summary="The model's tensors", **known)
    async def model_of_version(name: Name, version: Version) -> JSONResponse:
        return await model(name, version)

    @routes.get("/models/{name}/ready", summary="Whether the model answers", **known)
    async def ready_of_name(name: Name) -> JSONResponse:
        return await model_ready(name, None)

    @routes.get("/models/{name}/versions/{version}/ready", summary="Whether the model answers", **known)
    async def ready_of_version(name: Name, version: Version) -> JSONResponse:
        return await model_ready(name, version)

    @routes.post("/models/{name}/infer", summary="Decide on pictures", **inferring)
    async def infer_of_name(request: Request, name: Name) -> Response:
        return await infer(request, name, None)

    @routes.post("/models/{name}/versions/{version}/infer", summary="Decide on pictures", **inferring)
    async def infer_of_version(request: Request, name: Name, version: Version) -> Response:
        return await infer(request, name, version)

    return routes


_REF = "#/components/schemas/{model}"


def metadata(bundle: Bundle) -> dict[str, Any]:
    """The tensors that a bundle takes, one of the two inputs at a time, and gives."""
    classes = len(bundle.labels)
    return {
        "name": bundle.name,
        "versions": [bundle.id],
        "platform": "roadwork_bundle",
        "inputs": [
            {"name": FILES, "datatype": "BYTES", "shape": [-1]},
            {"name": PIXELS, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, classes] if name == "set" else [-1]}
            for name, datatype in OUTPUTS.items()
        ],
    }


def _json_size(request: Request) -> int | None:
    text = request.headers.get(_JSON_SIZE)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Refusal(400, "bad_request", "Inference-Header-Content-Length is not a number")
    return int(text)
