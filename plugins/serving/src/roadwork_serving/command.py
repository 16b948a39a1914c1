"""The command line of `roadwork serve`; what is heavy is imported when it is called."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from roadwork_core.backends import add_option

from .hosts import parse_host
from .settings import MIB, TOKEN_VARIABLE, Settings, read_token

if TYPE_CHECKING:
    from roadwork_core.console import Console

TEXT = "answer over HTTP with a bundle"
_LEVELS = ("schema", "plugins", "load", "replay")


def configure(parser: argparse.ArgumentParser) -> None:
    default = Settings()
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, or a link to one")
    parser.add_argument("--host", default=default.host, help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_number(0, 65535), default=default.port, help="port, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--allowed-host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="a host that requests may name beside localhost: a name, an address, '*.example.org' for what lies below"
        " it, '*' for any; may be repeated (default: at a loopback address none, elsewhere any)",
    )
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="cpu, cuda, ... (default: a GPU if any)")
    add_option(parser)
    parser.add_argument(
        "--workers", type=_number(1, 1024), metavar="N", help="requests computed at once (default: cores / threads)"
    )
    parser.add_argument(
        "--threads",
        type=_number(1, 1024),
        default=default.threads,
        metavar="N",
        help="threads of each picture computed (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=_number(1, 4096),
        metavar="N",
        help="views of a request that are computed together (default: each picture alone on a CPU, 64 elsewhere)",
    )
    parser.add_argument(
        "--queue",
        type=_number(0, 100_000),
        default=default.queue,
        metavar="N",
        help="requests that may wait beside those computed; more are told to come back (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=default.timeout,
        metavar="SECONDS",
        help="for a whole request, its upload and its wait included (default: %(default)s)",
    )
    parser.add_argument(
        "--max-body",
        type=_number(1, 4096),
        default=default.max_body // MIB,
        metavar="MIB",
        help="largest request body in MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--max-images",
        type=_number(1, 1024),
        default=default.max_images,
        metavar="N",
        help="most pictures in a request (default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=_number(1, 2**40),
        default=default.max_pixels,
        metavar="N",
        help="most pixels of a request's pictures together (default: %(default)s)",
    )
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=default.drain,
        metavar="SECONDS",
        help="how long accepted requests may take after SIGTERM (default: %(default)s)",
    )
    parser.add_argument(
        "--notice",
        type=_seconds,
        default=default.notice,
        metavar="SECONDS",
        help="how long /readyz says no before connections are refused after SIGTERM (default: %(default)s)",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"ask for the bearer token in FILE (or in {TOKEN_VARIABLE})"
    )
    parser.add_argument("--feedback", type=Path, metavar="FILE", help="keep predictions in this feedback store")
    parser.add_argument(
        "--feedback-pictures", type=Path, metavar="DIR", help="keep the pictures too, in this folder (for mine)"
    )
    parser.add_argument("--watch", action="store_true", help="switch when BUNDLE, or where it leads, changes")
    parser.add_argument(
        "--verify", choices=_LEVELS, default="replay", help="how far a bundle is verified first (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print where it listens as JSON")


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 16 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return int(text)

    return number


def _host(text: str) -> str:
    host = parse_host(text)
    if host is None:
        raise argparse.ArgumentTypeError(f"must be a name or an address without a port, not {text!r}")
    return host


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to 86400, not {text!r}")
    return value


def handle(options: argparse.Namespace, console: Console) -> int:
    settings = Settings(
        host=options.host,
        port=options.port,
        allowed_hosts=tuple(options.allowed_host),
        device=options.device,
        backend=options.backend,
        workers=options.workers,
        threads=options.threads,
        batch_size=options.batch_size,
        queue=options.queue,
        timeout=options.timeout,
        max_body=options.max_body * MIB,
        max_images=options.max_images,
        max_pixels=options.max_pixels,
        drain=options.drain,
        notice=options.notice,
        token=read_token(options.token_file, os.environ),
        watch=options.watch,
        verify=options.verify,
        access_log=console.verbosity >= 0,
        feedback=options.feedback,
        feedback_pictures=options.feedback_pictures,
    )
    from .server import serve

    return serve(options.bundle, settings, console)
