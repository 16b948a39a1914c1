"""`roadwork serve`: a bundle behind HTTP."""

from __future__ import annotations

import argparse
from typing import Any

from roadwork_core import hookimpl

from .command import TEXT, configure, handle

__all__: list[str] = []


@hookimpl
def roadwork_commands(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser("serve", help=TEXT)
    configure(parser)
    parser.set_defaults(handler=handle)
