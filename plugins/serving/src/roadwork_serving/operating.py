"""For those who operate a server: health, metrics, which bundle answers, the switch to another, a page to try it."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, JSONResponse, Response

from roadwork_core.errors import RoadworkError

from .documents import ErrorDocument
from .predicting import REFUSALS
from .refusals import Refusal
from .service import Service

_TOKEN: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}
_DRAINING: dict[int | str, dict[str, Any]] = {503: {"description": "it is about to end"}}
_METRICS: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_RELOADING: dict[int | str, dict[str, Any]] = {
    403: {"model": ErrorDocument, "description": "this server has no token"},
    409: {"model": ErrorDocument, "description": "the new bundle cannot be used"},
}


def router(service: Service) -> APIRouter:
    routes = APIRouter(tags=["operating"])
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    policy = _content_security_policy(page)

    @routes.get("/healthz", summary="Whether the process lives", response_model=None)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @routes.get("/readyz", summary="Whether it takes requests", responses=_DRAINING, response_model=None)
    async def readyz() -> JSONResponse:
        return JSONResponse({"status": "draining" if service.draining else "ok"}, 503 if service.draining else 200)

    @routes.get(
        "/metrics", summary="Metrics for Prometheus", response_class=Response, responses={200: _METRICS, **_TOKEN}
    )
    async def metrics() -> Response:
        return Response(service.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/bundle", summary="The bundle that answers", responses=_TOKEN, response_model=None)
    async def bundle() -> JSONResponse:
        return JSONResponse(description(service))

    @routes.post(
        "/admin/reload",
        summary="Switch to the bundle that the path leads to now",
        responses={**_TOKEN, **_RELOADING},
        response_model=None,
    )
    async def reload() -> JSONResponse:
        """Needs a server with a token. A bundle that fails verification changes nothing: the status is 409."""
        if service.settings.token is None:
            raise Refusal(403, "no_token", "only a server with a token can be told to reload; SIGHUP always works")
        try:
            switched = await service.switch()
        except RoadworkError:
            raise Refusal(409, "not_switched", "the new bundle cannot be used; the log says why") from None
        now = service.current.bundle
        return JSONResponse({"switched": switched, "bundle": now.name, "bundle_id": now.id})

    @routes.get("/", include_in_schema=False, response_model=None)
    async def home() -> HTMLResponse:
        headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
        return HTMLResponse(page, headers=headers)

    return routes


def description(service: Service) -> dict[str, Any]:
    """What a client may want to know of the bundle and the limits."""
    bundle, settings = service.current.bundle, service.settings
    return {
        "bundle": bundle.name,
        "bundle_id": bundle.id,
        "labels": list(bundle.labels),
        "positive": bundle.labels[bundle.positive],
        "policies": list(bundle.policies),
        "modes": dict(bundle.manifest["modes"]),
        "active": bundle.active,
        "fallback": bundle.fallback,
        "limits": {
            "body_bytes": settings.max_body,
            "images": settings.max_images,
            "pixels": settings.max_pixels,
            "seconds": settings.timeout,
        },
    }


def _content_security_policy(page: str) -> str:
    """Lets the page's own style and script run, and no others."""
    digests = {}
    for tag in ("script", "style"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        text = found[1] if found else ""
        digests[tag] = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'; "
        "img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
