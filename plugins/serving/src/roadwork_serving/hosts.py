"""Which names a server answers to: a page whose name was made to lead to a loopback address is told no."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

#: Always answered to where others are not: they lead to the machine that asks, such as a container's health check.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY = "*"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_PORT = re.compile(r":[0-9]{0,5}")


class Hosts:
    """The hosts that a request may name in its header (RFC 9110, 7.2); their ports do not matter.

    Starlette's TrustedHostMiddleware would answer in plain text and redirect to `www.`, outside this server's log, and
    before 1.0 it reads no IPv6 address; so the names are compared here.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self.any = ANY in names
        self._exact = frozenset(name for name in names if not name.startswith("*"))
        self._endings = tuple(name[1:] for name in names if name.startswith("*."))

    def answers(self, headers: Sequence[str]) -> bool:
        """Whether a request with these Host headers, of which there must be one, is for this server."""
        if self.any:
            return True
        name = _without_port(headers[0]) if len(headers) == 1 else None
        # "*.example.org" means what lies below example.org, of any depth.
        return name is not None and (name in self._exact or (len(name) > 1 and name.endswith(self._endings)))


def hosts_of(address: str, host: str, allowed: Sequence[str]) -> Hosts:
    """What a server answers to that listens at `address`, for which its operator wrote `host`.

    `allowed` holds what `parse_host` gives. At a loopback address only the loopback's names count beside them,
    elsewhere every name where none is allowed.
    """
    if not allowed and not is_loopback(address):
        return Hosts([ANY])
    own = parse_host(host)
    return Hosts([*LOOPBACK, *allowed, *([own] if own is not None and not own.startswith("*") else [])])


def parse_host(text: str) -> str | None:
    """A name, an address, "*.name" or "*", as names are compared; None for anything else, so for one with a port."""
    if text == ANY:
        return text
    if text.startswith("*."):
        return f"*.{text[2:].removesuffix('.').lower()}" if _NAME.fullmatch(text[2:]) else None
    if _NAME.fullmatch(text):
        return text.removesuffix(".").lower()
    try:
        return f"[{ipaddress.IPv6Address(text[1:-1] if text[:1] + text[-1:] == '[]' else text)}]"
    except ValueError:
        return None


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address that a socket is bound to."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _without_port(header: str) -> str | None:
    name, port = header, ""
    if header.startswith("["):
        name, bracket, port = header.partition("]")
        name += bracket
    elif ":" in header:
        name, colon, digits = header.partition(":")
        port = colon + digits
    if (port and not _PORT.fullmatch(port)) or "*" in name:
        return None
    return parse_host(name)
