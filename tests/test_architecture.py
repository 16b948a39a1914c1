"""Imports point one way, the core never imports a plugin, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "roadwork_core"

#: Rooms by height: a room imports only from lower ones (or its own). Rooms of one height do not know each other.
HEIGHT = {
    "errors": 0,
    "extras": 1,
    "files": 0,
    "kinds": 0,
    "compute_threads": 1,
    "backends": 2,
    "learned_tta": 1,
    "database": 1,
    "fetching": 1,
    "feedback": 2,
    "metrics": 1,
    "decisions": 0,
    "console": 1,
    "hookspecs": 1,
    "ray_cluster": 2,
    "component": 1,
    "discovery": 2,
    "plugins": 3,
    "spec": 4,
    "data": 5,
    "policies": 5,
    "model": 6,
    "inference": 6,
    "runs": 8,
    "training": 8,
    "bundle": 8,
    "report": 8,
    "evaluation": 9,
    "deployment": 9,
    "mining": 9,
    "leaderboard": 10,
    "retraining": 10,
    "stages": 10,
    "sweeps": 10,
    "testing": 10,
    "scaffold": 10,
    "cli": 11,
}
#: The engine carries out the table of stages; each stage is given the engine's context. Known, and only this pair.
KNOWN_PAIR = {("runs", "stages")}


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Absolute module names that a file imports, the line, and whether only for type checking."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for child in block.body
        for node in ast.walk(child)
    }
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module == "roadwork_core" or node.module is None:
                for alias in node.names:
                    yield f"{module}.{alias.name}", node.lineno, id(node) in typing_only
            else:
                yield module, node.lineno, id(node) in typing_only


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "roadwork_core" and len(parts) > 1 and parts[1] in HEIGHT else None


def test_every_room_of_the_core_has_a_height() -> None:
    rooms = {path.stem for path in CORE.glob("*.py")} | {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert rooms - {"__init__", "__main__"} == set(HEIGHT)


def test_imports_point_one_way() -> None:
    upward = []
    for path in sorted(CORE.rglob("*.py")):
        own = path.relative_to(CORE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for module, line, typing_only in imports(path):
            other = room(module)
            if other is None or other == own or typing_only or (own, other) in KNOWN_PAIR:
                continue
            if HEIGHT[other] >= HEIGHT[own]:
                upward.append(f"{path.relative_to(ROOT)}:{line} {own} imports {other}")
    assert upward == []


def test_the_core_never_imports_a_plugin() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in CORE.rglob("*.py")
        for module, line, _ in imports(path)
        if module.startswith("roadwork_") and not module.startswith("roadwork_core")
    ]
    assert found == []


#: What a plugin may use: what any outsider could.
PUBLIC = {
    "backends",
    "bundle",
    "component",
    "compute_threads",
    "decisions",
    "data",
    "errors",
    "evaluation",
    "extras",
    "fetching",
    "feedback",
    "files",
    "hookspecs",
    "kinds",
    "learned_tta",
    "metrics",
    "plugins",
    "spec",
    "testing",
}


def test_plugins_use_public_names_of_the_core_only() -> None:
    private = [
        f"{path.relative_to(ROOT)}:{line} {module}"
        for path in (ROOT / "plugins").glob("*/src/**/*.py")
        for module, line, typing_only in imports(path)
        if not typing_only and (room(module) or "component") not in PUBLIC
    ]
    assert private == []


def test_onnx_runtime_is_imported_in_one_place_which_tells_it_to_be_silent() -> None:
    """Its quantisation, a part that is imported by its own name, comes after that place was called."""
    found = {
        path.name
        for folder in (CORE, *(ROOT / "plugins").glob("*/src"))
        for path in folder.rglob("*.py")
        for module, _, typing_only in imports(path)
        if module.split(".")[0] == "onnxruntime" and not typing_only
    }
    assert found == {"backends.py", "quantization.py"}


def test_plugins_do_not_import_one_another() -> None:
    crossing = []
    for path in (ROOT / "plugins").glob("*/src/*/**/*.py"):
        own = path.relative_to(ROOT / "plugins").parts[2]
        crossing += [
            f"{path.relative_to(ROOT)}:{line} {module}"
            for module, line, _ in imports(path)
            if module.startswith("roadwork_") and module.split(".")[0] not in ("roadwork_core", own)
        ]
    assert crossing == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["plugins", "list"],
        ["spec", "check", str(ROOT / "specs" / "quickstart.toml")],
        ["runs", "list"],
        ["run", "--help"],
        ["predict", "--help"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]).replace(str(ROOT), ""),
)
def test_light_commands_never_import_heavy_libraries(arguments: list[str]) -> None:
    program = f"""
import sys
from roadwork_core.cli import main
code = main({arguments!r})
heavy = {{"torch", "torchvision", "transformers", "sklearn", "accelerate", "matplotlib"}} & set(sys.modules)
print(code, sorted(heavy), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "0 []"


def test_files_hold_one_idea() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (CORE, ROOT / "plugins")
        for path in folder.rglob("*.py")
        if ".venv" not in path.parts and (lines := len(path.read_text().splitlines())) > 420
    }
    assert long == {}


def test_nothing_that_runs_what_it_reads() -> None:
    """No pickle, eval, exec or remote code anywhere in the product."""
    found = []
    for folder in (CORE, ROOT / "plugins"):
        for path in folder.rglob("*.py"):
            if "tests" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    if name in ("eval", "exec", "pickle.loads", "pickle.load", "torch.load", "torch.save", "os.system"):
                        found.append(f"{path}:{node.lineno} {name}")
                    if keywords.get("trust_remote_code") == "True" or keywords.get("shell") == "True":
                        found.append(f"{path}:{node.lineno} {name}")
                elif isinstance(node, ast.Import) and any(alias.name == "pickle" for alias in node.names):
                    found.append(f"{path}:{node.lineno} import pickle")
    assert found == []
