"""`spec_version` and the way from an earlier one to today's, with versions that exist only here."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadwork_core.spec.findings import Findings
from roadwork_core.spec.read import read_text
from roadwork_core.spec.tree import Node
from roadwork_core.spec.upgrades import rename_key, upgrade

from .conftest import lines
from .toys import MINIMAL, resolve


def renamed_lr(document: Node) -> Node:
    return rename_key(document, "train.lr", "optimizer.lr")


def renamed_model(document: Node) -> Node:
    return rename_key(document, "model", "backbone")


FAKE = {1: renamed_lr, 2: renamed_model}


def test_each_step_is_applied_from_the_files_own_version_and_origins_stay() -> None:
    text = "spec_version = 1\n[train]\nlr = 0.5\n[model]\nuse = 'x'\n"
    found = Findings()
    document = upgrade(read_text(text, "old.toml", Path()), found, upgrades=FAKE, current=3)
    assert document is not None
    assert document.plain() == {
        "spec_version": 3,
        "train": {},
        "optimizer": {"lr": 0.5},
        "backbone": {"use": "x"},
    }
    assert str(document.value["optimizer"].value["lr"].origin) == "old.toml:3"
    later = upgrade(read_text(text.replace("= 1", "= 2"), "old.toml", Path()), Findings(), upgrades=FAKE, current=3)
    assert later is not None
    assert later.plain()["train"] == {"lr": 0.5}


def test_a_file_without_a_version_has_the_current_one() -> None:
    document = upgrade(read_text("[model]\n", "x", Path()), Findings(), upgrades=FAKE, current=3)
    assert document is not None
    assert document.plain() == {"model": {}}
    assert resolve(MINIMAL.replace("spec_version = 1\n", "")).spec.spec_version == 1


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2", "version 2 is newer than this roadwork knows (1) (upgrade roadwork)"),
        ("0", "version 0 is unknown (the current version is 1)"),
        ("-1", "version -1 is unknown (the current version is 1)"),
        ("true", "must be an integer, got True (write spec_version = 1)"),
        ('"1"', "must be an integer, got '1' (write spec_version = 1)"),
    ],
)
def test_a_version_that_cannot_be_is_the_only_problem_of_its_file(version: str, expected: str) -> None:
    text = MINIMAL.replace("spec_version = 1", f"spec_version = {version}") + "nonsense = 1\n"
    assert lines(text) == [f"<text>:1 spec_version: {expected}"]
