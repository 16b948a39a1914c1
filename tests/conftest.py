"""What holds for every test, however the tests were started."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell starts what it leaves in the background with Ctrl-C ignored, and a process hands that on to those that
    it starts. Tests of interruptions would then wait for a signal that nobody hears."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
