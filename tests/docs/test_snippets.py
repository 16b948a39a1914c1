"""TOML on a page is a spec that checks, whole or laid over one; Python on a page compiles and runs."""

from __future__ import annotations

import ast
import contextlib
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadwork_core.plugins import Plugins
from roadwork_core.spec import load_spec

from .pages import Block, blocks, name_of, pages
from .shell import Shell

#: The generated snippets of each component are held against their component in tests/plugins/test_reference.py.
GENERATED = "docs/reference/components.md"
#: What a fragment of a spec is laid over.
BASE = """\
name = "base"
[data]
use = "image_folder"
root = "pictures"
[backbone]
use = "small_cnn"
"""


def every(language: str) -> list[Block]:
    return [
        block
        for page in pages()
        if name_of(page) != GENERATED
        for block in blocks(page)
        if block.language == language and "wrong" not in block.words
    ]


def where(block: Block) -> str:
    return block.where


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.mark.parametrize("block", every("toml"), ids=where)
def test_toml_is_a_spec_or_goes_over_one(block: Block, plugins: Plugins, tmp_path: Path) -> None:
    written = tomllib.loads(block.text)
    if "project" in written:
        assert written["project"].keys() <= {"entry-points", "name", "version", "dependencies"}
        return
    if block.file:
        commands = [other.text for other in blocks(block.page) if other.language == "sh"]
        assert any(block.file in text for text in commands), f"no command of the page uses {block.file}"
        return
    whole = {"name", "data", "backbone"} <= written.keys()
    if not whole:
        (tmp_path / "the_base.toml").write_text(BASE)
    text = block.text if whole else f'extends = "the_base.toml"\n{block.text}'
    (tmp_path / "the_spec.toml").write_text(text)
    with contextlib.chdir(tmp_path):
        resolved = load_spec(tmp_path / "the_spec.toml", plugins, env={"ROADWORK_DATA": "data"})
    assert not resolved.warnings


@pytest.fixture
def modules() -> Iterator[None]:
    """Puts back what a block imported, and the path."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("block", every("python"), ids=where)
def test_python_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text, block.where)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    for node in imports:
        if str(node.module).startswith("roadwork_core"):
            module = __import__(str(node.module), fromlist=["x"])
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{block.where}: {node.module} has none of these"


#: Others are of a package that the page's commands make and test.
STANDALONE = [block for block in every("python") if not block.file and "from my_" not in block.text]


@pytest.mark.parametrize("block", STANDALONE, ids=where)
@pytest.mark.usefixtures("modules")
def test_python_runs_after_what_stands_above_it(block: Block, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    file = shell.folder / "block_of_a_page.py"
    earlier = [other.text for other in STANDALONE if other.page == block.page and other.line < block.line]
    file.write_text("\n".join([*earlier, block.text]))
    with contextlib.chdir(shell.folder):
        runpy.run_path(str(file))
