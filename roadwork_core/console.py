"""What a command says: results on stdout, messages and progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import IO, Any, TypeVar

from .errors import printable

T = TypeVar("T")


class Console:
    """`verbosity`: -1 quiet (warnings and errors only), 0 usual, 1 with details."""

    def __init__(
        self, *, verbosity: int = 0, as_json: bool = False, stdout: IO[str] | None = None, stderr: IO[str] | None = None
    ) -> None:
        self.verbosity = verbosity
        self.as_json = as_json
        self._stdout = stdout
        self._stderr = stderr
        self._said: set[str] = set()

    @property
    def stdout(self) -> IO[str]:
        return self._stdout or sys.stdout

    @property
    def stderr(self) -> IO[str]:
        return self._stderr or sys.stderr

    @property
    def interactive(self) -> bool:
        """Whether messages go to a terminal (progress bars are drawn only there)."""
        return self.stderr.isatty() and self.verbosity >= 0

    @property
    def colour(self) -> bool:
        return self.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def out(self, text: str) -> None:
        """A line of the result."""
        print(text, file=self.stdout)

    def json(self, value: Any) -> None:
        """A result as one line of JSON, escaped to ASCII where the output cannot carry it (an odd file name)."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        try:
            text.encode(getattr(self.stdout, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(value, allow_nan=False)
        print(text, file=self.stdout, flush=True)

    def info(self, text: str) -> None:
        if self.verbosity >= 0:
            self._message(text)

    def info_once(self, text: str) -> None:
        """Says a message the first time only, for what is looked at more than once in a command."""
        if text not in self._said:
            self._said.add(text)
            self.info(text)

    def detail(self, text: str) -> None:
        if self.verbosity >= 1:
            self._message(text, style="2")

    def warn(self, text: str) -> None:
        self._message(f"warning: {text}", style="33")

    def error(self, text: str) -> None:
        self._message(f"error: {text}", style="31")

    def progress(self, items: Iterable[T], *, total: int | None = None, label: str = "") -> Iterator[T]:
        """Passes `items` on, with a bar and the time left on a terminal and nothing elsewhere."""
        if not self.interactive:
            yield from items
            return
        if total is None and isinstance(items, Sized):
            total = len(items)
        start = shown = time.monotonic()
        done = 0
        try:
            for item in items:
                yield item
                done += 1
                now = time.monotonic()
                if now - shown >= 0.1:
                    shown = now
                    self._bar(label, done, total, now - start)
        finally:
            self.clear()

    def _bar(self, label: str, done: int, total: int | None, elapsed: float) -> None:
        if not total:
            self.transient(f"{label} {done}  {elapsed:.0f} s")
            return
        filled = round(24 * done / total)
        left = elapsed / done * (total - done)
        self.transient(f"{label} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}  {duration(left)} left")

    def transient(self, text: str) -> None:
        """A line on a terminal that the next message replaces; nothing elsewhere."""
        if self.interactive:
            self.stderr.write(f"\r\x1b[K{text}")
            self.stderr.flush()

    def clear(self) -> None:
        if self.interactive:
            self.stderr.write("\r\x1b[K")
            self.stderr.flush()

    def _message(self, text: str, style: str | None = None) -> None:
        self.clear()
        text = printable(text)
        painted = f"\x1b[{style}m{text}\x1b[0m" if style and self.colour else text
        print(painted, file=self.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds for people: 8 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
