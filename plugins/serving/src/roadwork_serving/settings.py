"""What a server is told once, at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from roadwork_core.errors import UsageError

MIB = 2**20
TOKEN_VARIABLE = "ROADWORK_SERVE_TOKEN"
_SHORTEST_TOKEN = 16


@frozen(kw_only=True)
class Settings:
    """Sizes are in bytes, times in seconds; `workers` of None are as many as leave each its `threads` of the cores;
    `batch_size` of None computes each picture alone on a CPU; `allowed_hosts` are as `hosts.parse_host` gives them."""

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: Sequence[str] = ()
    device: str = "auto"
    backend: str = "auto"
    workers: int | None = None
    threads: int = 1
    batch_size: int | None = None
    queue: int = 16
    timeout: float = 30.0
    max_body: int = 32 * MIB
    max_images: int = 32
    max_pixels: int = 100_000_000
    drain: float = 30.0
    notice: float = 1.0
    token: str | None = field(default=None, repr=False)
    watch: bool = False
    watch_interval: float = 1.0
    verify: str = "replay"
    access_log: bool = True
    feedback: Path | None = None
    feedback_pictures: Path | None = None


def read_token(path: Path | None, environment: Mapping[str, str]) -> str | None:
    """The token that a file, or else the environment, holds; None where neither is there.

    Raises UsageError for a file that cannot be read, and for a token that is short or no printable ASCII.
    """
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(error.strerror or "cannot be read", path=path) from None
        except UnicodeDecodeError:
            raise UsageError("the token is no text", path=path) from None
        where = str(path)
    elif TOKEN_VARIABLE in environment:
        text, where = environment[TOKEN_VARIABLE].strip(), TOKEN_VARIABLE
    else:
        return None
    if len(text) < _SHORTEST_TOKEN or not (text.isascii() and text.isprintable()) or " " in text:
        raise UsageError(
            f"{where}: a token is at least {_SHORTEST_TOKEN} characters of printable ASCII without spaces",
            hint="python -c 'import secrets; print(secrets.token_urlsafe())' makes one",
        )
    return text
