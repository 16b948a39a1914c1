"""How far training is: a bar with the time left on a terminal, one line an epoch everywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from roadwork_core.console import Console, duration

#: Seconds between two drawings of the bar.
REFRESH = 0.2
BAR = 24


class Progress:
    """Speaks of `epochs` epochs of `steps` optimizer steps; what was done before a resumption is not timed."""

    def __init__(self, console: Console, *, epochs: int, steps: int, done: int) -> None:
        self._console = console
        self._epochs = epochs
        self._steps = steps
        self._first = done
        self._start = time.monotonic()
        self._shown = self._start

    def step(self, step: int, loss: float | None) -> None:
        """Optimizer step number `step` of the whole training (from 1) is done."""
        now = time.monotonic()
        if not self._console.interactive or now - self._shown < REFRESH:
            return
        self._shown = now
        epoch, within = divmod(step - 1, self._steps)
        filled = round(BAR * (within + 1) / self._steps)
        bar = "#" * filled + "." * (BAR - filled)
        shown = "" if loss is None else f"  loss {loss:.4f}"
        self._console.transient(
            f"epoch {epoch + 1}/{self._epochs} [{bar}] {within + 1}/{self._steps}{shown}{self._left(step, now)}"
        )

    def validation(self, epoch: int) -> None:
        """The pictures of val_select are being looked at."""
        self._console.transient(f"epoch {epoch}/{self._epochs} on val_select")

    def epoch(self, line: Mapping[str, Any], select_by: str, *, best: bool) -> None:
        """An epoch is done; `line` is its line of the history."""
        shown = "undefined" if line[select_by] is None else f"{line[select_by]:.4f}"
        also = "" if select_by == "nll" else f"  nll {line['nll']:.4f}"
        rates = " ".join(f"{name} {rate:.2g}" for name, rate in line["lr"].items())
        self._console.info(
            f"epoch {line['epoch']}/{self._epochs}  loss {line['train_loss']:.4f}"
            f"  val_select {select_by} {shown}{' (best)' if best else ''}{also}  lr {rates}"
            f"  {line['images_per_second']:.0f} images/s  {duration(line['seconds'])}"
            f"{self._left(line['step'], time.monotonic())}"
        )

    def _left(self, step: int, now: float) -> str:
        done = step - self._first
        left = self._epochs * self._steps - step
        return f"  {duration((now - self._start) / done * left)} left" if done > 0 and left > 0 else ""
