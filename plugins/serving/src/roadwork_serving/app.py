"""The application: every route behind one gate."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from roadwork_core import __version__

from . import feedback, inference_protocol, miner, operating, predicting
from .documents import InputTensor, RequestedOutput
from .gate import OPEN, Gate
from .hosts import ANY, Hosts
from .refusals import envelope
from .service import Service

_OTHER_HOST = {
    "description": "the header Host names another host",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorDocument"}}},
}


def make_app(service: Service, hosts: Hosts | None = None) -> FastAPI:
    """The ASGI application that answers for `service`, to requests for any of `hosts`; for any where there are none."""
    hosts = hosts or Hosts([ANY])

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.watch()) if service.settings.watch else None
        yield
        if watching is not None:
            watching.cancel()
        await service.close()

    app = FastAPI(
        title="roadwork",
        summary="Decisions on pictures, with how sure they are.",
        version=__version__,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    for part in (predicting, inference_protocol, miner, feedback, operating):
        app.include_router(part.router(service))
    app.add_middleware(Gate, service=service, hosts=hosts)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.openapi = _documented(app, app.openapi, service, hosts)  # type: ignore[method-assign]
    return app


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    body = envelope(codes.get(error.status_code, "bad_request"), str(error.detail))
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse(envelope("bad_request", f"{where}: {first['msg']}"), 400)


def _documented(app: FastAPI, generate: Any, service: Service, hosts: Hosts) -> Any:
    """The OpenAPI document, with what FastAPI cannot know: the token, the hosts, and no 422 of its own making."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (InputTensor, RequestedOutput):
                schemas[model.__name__] = model.model_json_schema()
            if service.settings.token is not None:
                document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                for path, item in document["paths"].items():
                    for operation in item.values():
                        operation["security"] = [] if path in OPEN else [{"token": []}]
            if not hosts.any:
                for item in document["paths"].values():
                    for operation in item.values():
                        operation["responses"]["421"] = _OTHER_HOST
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


__all__ = ["make_app"]
