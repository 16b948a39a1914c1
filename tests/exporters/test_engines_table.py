"""The script of docs/benchmarks/engines.md: an engine that fails or hangs is a line of the table, not its end."""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CARRIED = "ONNX in the bundle"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module `engines`; those beside it are told apart from others of their names."""
    folder = ROOT / "benchmarks/engines"
    names = ("engines", "artefacts", "processes", "subjects", "one_engine")
    monkeypatch.syspath_prepend(str(folder))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("engines")
    for name in names:
        sys.modules.pop(name, None)


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def is_running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_process_over_its_limit_is_ended_with_its_children(script: Any, tmp_path: Path) -> None:
    noted = tmp_path / "child"
    slow = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(noted)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    with pytest.raises(script.Refused, match="ended after 5 s"):
        script.Budget(5, 600).finish(python(slow))
    for _ in range(100):
        if not is_running(int(noted.read_text())):
            break
        time.sleep(0.05)
    assert not is_running(int(noted.read_text()))


def test_a_process_that_fails_says_why(script: Any) -> None:
    told = "import sys; print('ValueError: it | broke\\nSet VERBOSE=1 for more', file=sys.stderr); sys.exit(3)"
    with pytest.raises(script.Refused, match=r"^ValueError: it / broke$"):
        script.Budget(60, 600).finish(python(told))
    with pytest.raises(script.Refused, match="ended with 3"):
        script.Budget(60, 600).finish(python("raise SystemExit(3)"))


def test_what_it_prints_is_read_and_its_environment_given(script: Any) -> None:
    text = "import os; print('noise'); print('{\"a\": %s}' % os.environ['ONE']); print('{\"b\": 2}')"
    assert script.Budget(60, 600).finish(python(text), {"ONE": "1"}) == [{"a": 1}, {"b": 2}]
    assert "ONE" not in os.environ


def test_time_that_is_spent_is_refused(script: Any) -> None:
    assert script.Budget(90, 1000).limit() == 90
    assert script.Budget(90, 50).limit(0.5) == pytest.approx(25, abs=2)
    with pytest.raises(script.Refused, match="was spent"):
        script.Budget(90, 0).limit()
    with pytest.raises(script.Refused, match="was spent"):
        script.Budget(90, 1.5).finish(python("import time; time.sleep(600)"))


def test_every_engine_has_its_turn_and_a_row(script: Any) -> None:
    assert sorted(engine for group in script.GROUPS for engine in group) == sorted(script.ENGINES)
    rows = [{"engine": engine, "refused": "ended after 90 s"} for engine in script.ENGINES]
    text = script.table(rows, None)
    assert text.count("ended after 90 s") == len(script.ENGINES)
    assert {line.count("|") for line in text.splitlines()} == {15}


def row(engine: str, rate: float | None) -> dict[str, Any]:
    return {"engine": engine, "refused": "why"} if rate is None else {"engine": engine, "rate2": rate}


@pytest.mark.parametrize(
    ("compiled", "onnx", "said"),
    [
        ((9.0, 9.0), (9.0, 9.0), f"none. The default, {CARRIED}, is not what the table supports."),
        ((13.0, 9.0), (13.0, 13.0), f"workers: {CARRIED}. The default, {CARRIED}, is what the table supports."),
        ((9.0, 9.0), (13.0, None), f"none. Undecided, because it was not measured on every bundle: {CARRIED}."),
        (
            (13.0, None),
            (13.0, 13.0),
            f"workers: {CARRIED}. Undecided, because it was not measured on every bundle: torch.compile. The default,"
            f" {CARRIED}, is what the table supports.",
        ),
        ((None, 9.0), (9.0, 9.0), f"none. The default, {CARRIED}, is not what the table supports."),
    ],
)
def test_the_verdict_is_on_what_was_measured(script: Any, compiled: Any, onnx: Any, said: str) -> None:
    tables = [
        [row("eager", 10.0), row("torch.compile", one), row(CARRIED, two)]
        for one, two in zip(compiled, onnx, strict=True)
    ]
    assert script.verdict(tables).endswith(said)


def test_without_eager_nothing_is_decided(script: Any) -> None:
    assert "Undecided" in script.verdict([[row("eager", None), row("torch.compile", 9.0), row(CARRIED, 9.0)]])
