"""Requests that get no answer: a status, a stable code, one line of text, never a path or a stack."""

from __future__ import annotations

from collections.abc import Mapping

from roadwork_core.errors import printable


class Refusal(Exception):
    """A request that is refused; `retry_after` says after how many seconds it is worth another try."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def envelope(code: str, message: str) -> Mapping[str, str]:
    """The body of every error; `error` is text, as the Open Inference Protocol asks."""
    return {"error": printable(message), "code": code}
