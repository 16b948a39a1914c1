"""Writes predictions to a store one by one, and says each after it was written: python -m ... STORE NAME COUNT."""

from __future__ import annotations

import sys
from pathlib import Path

from roadwork_core.feedback import FeedbackStore, Label, Seen


def main(path: str, name: str, count: int) -> None:
    with FeedbackStore(Path(path)) as store:
        for number in range(count):
            key = f"{name}-{number}"
            store.add(
                [Seen(key=key, time=number, bundle_id="b", policy="p", label="x", score=0.5, features=(1.0,) * 9)]
            )
            store.label([Label(key=key, label="y", time=number)])
            print(key, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
