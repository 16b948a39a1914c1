"""A request to /predict, in any of its forms, to pictures."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from .documents import PredictRequest, problem_of
from .pictures import OPTIONS, Asked, Choice, check_count
from .refusals import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

#: What a query or a form writes for the two values of JSON, and nothing else.
_TRUTH = {"true": True, "false": False}


@frozen(kw_only=True)
class Unread:
    """The body of a JSON request, which a worker reads."""

    body: bytes
    choice: Choice

    def asked(self, max_images: int) -> Asked:
        """Raises Refusal for what is no such document."""
        try:
            wanted = PredictRequest.model_validate_json(self.body)
        except ValidationError as error:
            raise problem_of(error) from None
        if wanted.image is not None and wanted.images is not None:
            raise Refusal(400, "bad_request", "give image or images, not both")
        texts = [wanted.image] if wanted.image is not None else wanted.images or []
        check_count(len(texts), max_images)
        given = {name: value for name in OPTIONS if (value := getattr(wanted, name)) is not None}
        return Asked(
            pictures=[from_base64(text) for text in texts],
            names=[None] * len(texts),
            choice=choice_of({**asdict(self.choice), **given}),
        )


async def read(request: Request, choice: Choice, max_images: int) -> Asked | Unread:
    """The pictures of a request by its content type: JSON, multipart, or the bytes of one file.

    Raises Refusal for another content type and for a body that is not what it says.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "application/json":
        return Unread(body=await request.body(), choice=choice)
    if kind == "multipart/form-data":
        return await _multipart(request, choice, max_images)
    if kind == "application/octet-stream" or kind.startswith("image/"):
        body = await request.body()
        if not body:
            raise Refusal(400, "no_image", "the request holds no picture")
        return Asked(pictures=[body], names=[None], choice=choice)
    taken = "multipart/form-data, application/json, image/* or application/octet-stream"
    raise Refusal(415, "content_type", f"the content type must be {taken}")


async def _multipart(request: Request, choice: Choice, max_images: int) -> Asked:
    pictures, names, fields = [], [], {}
    try:
        async with request.form(max_files=max_images, max_fields=len(OPTIONS), max_part_size=1024) as form:
            for name, part in form.multi_items():
                if not isinstance(part, str):
                    pictures.append(await part.read())
                    names.append(part.filename or None)
                elif name in OPTIONS and name not in fields:
                    fields[name] = option_of(name, part)
                else:
                    raise Refusal(400, "bad_request", "fields are files, and once each mode, policy and must_answer")
    except HTTPException as error:
        if error.detail.startswith("Too many files"):
            check_count(max_images + 1, max_images)
        raise Refusal(400, "bad_request", f"not a multipart form: {error.detail}") from None
    return Asked(pictures=pictures, names=names, choice=choice_of({**asdict(choice), **fields}))


def choice_of(given: Mapping[str, Any]) -> Choice:
    """A choice of `mode`, `policy`, `must_answer`, each as in JSON; None counts as not given.

    Raises Refusal for another type.
    """
    must_answer = given.get("must_answer")
    mode, policy = given.get("mode") or None, given.get("policy") or None
    if not isinstance(must_answer, bool | None) or not all(isinstance(part, str | None) for part in (mode, policy)):
        raise Refusal(400, "bad_request", "mode and policy are names, must_answer is true or false")
    return Choice(mode=mode, policy=policy, must_answer=bool(must_answer))


def option_of(name: str, text: str) -> str | bool:
    """The value of an option that a query or a form gives as text. Raises Refusal for a truth value that is none."""
    if name != "must_answer":
        return text
    if text not in _TRUTH:
        raise Refusal(400, "bad_request", f"must_answer is true or false, not {text[:60]!r}")
    return _TRUTH[text]


def options_in(request: Request) -> Choice:
    """The choice in the query of a request. Raises Refusal for a value that is none, and for an option given twice."""
    given: dict[str, str | bool] = {}
    for name, text in request.query_params.multi_items():
        if name not in OPTIONS:
            continue
        if name in given:
            raise Refusal(400, "bad_request", f"{name} is given twice")
        given[name] = option_of(name, text)
    return choice_of(given)


def from_base64(text: str) -> bytes:
    """The bytes of standard base64. Raises Refusal for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "bad_base64", "a picture is not base64") from None
