"""Processes with a limit of time, which leave nothing behind, and the time that is left to all of them together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: The line of a traceback that says what it was.
_NAMED = re.compile(r"(\w+\.)*\w*(Error|Exception)\b")


SPENT = "not measured: the time for the whole script was spent"


class Refused(Exception):
    """Why an engine has no figures, as its line of the table says it."""


class Late(Refused):
    """A process took longer than it may."""


class Budget:
    """Seconds for each engine, and for all that is done, counted from now."""

    def __init__(self, each: float, total: float) -> None:
        self.each, self.total = each, total
        self._start = time.monotonic()

    def spent(self) -> float:
        return time.monotonic() - self._start

    def limit(self, share: float = 1.0) -> float:
        """Seconds that a process may take now. Raises Refused where that `share` of the total is spent."""
        left = share * self.total - self.spent()
        if left < 1:
            raise Refused(SPENT)
        return min(self.each, left)

    def finish(
        self, words: Sequence[str | Path], environment: Mapping[str, str] | None = None, *, share: float = 1.0
    ) -> list[dict[str, Any]]:
        """`finish` within what is left; the reason tells a slow engine from one that had no time left."""
        limit = self.limit(share)
        try:
            return finish(words, limit, environment)
        except Late:
            if limit < self.each:
                raise Refused(SPENT) from None
            raise


def finish(
    words: Sequence[str | Path], limit: float, environment: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The JSON lines that a process prints. Raises Refused, with its reason, where it fails, or takes longer than
    `limit` seconds: then it is ended, and the processes that it started with it."""
    # Files, not pipes: a compiler that outlives its parent would keep a pipe open.
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=printed,
            stderr=told,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Late(f"ended after {limit:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            told.seek(0)
            raise Refused(_reason(told.read().decode(errors="replace")) or f"its process ended with {code}")
        printed.seek(0)
        return [json.loads(line) for line in printed.read().splitlines() if line.startswith(b"{")]


def _reason(told: str) -> str:
    """What went wrong, from what a process wrote to stderr: the last line that names an error, or the last at all."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    named = [line for line in lines if _NAMED.match(line)]
    return (named or lines or [""])[-1].replace("|", "/")[:160]
