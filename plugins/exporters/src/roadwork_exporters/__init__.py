"""Exports of a bundle: other runtimes that give the same decisions."""

from __future__ import annotations

import argparse
from typing import Any

from roadwork_core import hookimpl

from .command import TEXT, configure, handle
from .components import HuggingFace, Onnx

__all__ = ["HuggingFace", "Onnx"]


@hookimpl
def roadwork_components() -> list[type]:
    return [HuggingFace, Onnx]


@hookimpl
def roadwork_commands(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser("predict-onnx", help=TEXT)
    configure(parser)
    parser.set_defaults(handler=handle)
