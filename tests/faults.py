"""Kills this process just before one of its changes of a file: any moment between two of them can be tried."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "shutil.rmtree"}


def changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event comes before a file or folder is made, changed or removed."""
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES


def kill_before(limit: int) -> None:
    """Ends this process, not its children, by SIGKILL before its `limit`-th change from now on."""
    count, process = 0, os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if changes(event, arguments) and os.getpid() == process:
            count += 1
            if count == limit:
                os.kill(process, signal.SIGKILL)

    sys.addaudithook(hook)
