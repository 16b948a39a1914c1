"""What a finished run says of its test split, read back from its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle.deciding import decider_of
from ..data.table import read_rows
from ..errors import RoadworkError, UsageError
from ..policies import read_scores
from .compare import Answers
from .measure import Labelled, decide_all

if TYPE_CHECKING:
    from ..plugins import Plugins

SPLIT = "test"


def answers_of_run(folder: Path, plugins: Plugins, policy: str | None = None) -> tuple[Answers, dict[str, Any]]:
    """The answers of a run's active policy (or of `policy`) on its test split, and classes.json.

    Samples are known by the digest of their file. Raises UsageError for a run that did not finish its evaluation or a
    policy that it does not have.
    """
    if not (folder / "evaluate" / "manifest.json").is_file():
        raise UsageError("this run has no finished evaluation to compare", path=folder, hint="let the run finish first")
    classes = _read(folder / "prepare" / "classes.json")
    metrics = _read(folder / "evaluate" / "metrics.json")
    documents = {path.stem: _read(path) for path in sorted((folder / "fit" / "policies").glob("*.json"))}
    name = policy or metrics["active"]
    if name not in documents:
        raise UsageError(f"this run has no policy {name!r}", path=folder, hint=f"policies: {', '.join(documents)}")
    rows = read_rows(folder / "prepare" / "samples" / f"{SPLIT}.jsonl")
    data = Labelled(
        logits=read_scores(folder / "score" / f"{SPLIT}.csv").logits, rows=rows, classes=classes["classes"], name=SPLIT
    )
    decider = decider_of(
        documents,
        plugins,
        active=name,
        fallback=metrics["fallback"],
        num_classes=len(classes["classes"]),
        positive=classes["positive"],
    )
    decisions, answering = decide_all(decider, data)[0][name]
    answers = Answers(
        keys=_keys([row.sha256 for row in rows]),
        targets=data.targets,
        groups=data.groups,
        answering=answering,
        answered=~decisions.abstain,
    )
    return answers, classes


def _keys(digests: list[str]) -> list[str]:
    """The digests, made different where one file is there several times."""
    seen: dict[str, int] = {}
    keys = []
    for digest in digests:
        seen[digest] = seen.get(digest, 0) + 1
        keys.append(f"{digest}#{seen[digest]}")
    return keys


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RoadworkError(f"cannot read this output of the run: {error}", path=path) from None
    return document
