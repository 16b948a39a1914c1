"""Every command on a page works as the page says: it is run, and ends with 0 or the exit code written beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import ROOT, Block, blocks, name_of, pages, prose
from .shell import NOT_RUN, Shell, lines_of, reason_not_to_run, simple_commands

CLI = ROOT / "docs" / "reference" / "cli.md"
COMMANDS = ("sh",)
#: Languages of the blocks that hold commands under another name would escape this test.
REFUSED = ("bash", "shell", "console", "zsh", "shell-session")
PAGES = [page for page in pages() if any(block.language in COMMANDS for block in blocks(page))]


def test_no_command_hides_in_a_block_of_another_language() -> None:
    hiding = [block.where for page in pages() for block in blocks(page) if block.language in REFUSED]
    assert hiding == [], "write ```sh"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_do_what_it_says(page: Path, shell: Shell) -> None:
    ran: Block | None = None
    for block in blocks(page):
        if block.language in COMMANDS:
            shell.output, ran = "", block
            run(block, shell)
        elif "output" in block.words:
            assert ran is not None
            assert shell.output.rstrip() == block.text.rstrip(), f"{block.where}: this is not what {ran.where} prints"
        elif block.file and "shown" not in block.words:
            target = shell.folder / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)


def run(block: Block, shell: Shell) -> None:
    """Runs every line of a block."""
    for line in lines_of(block):
        before = shell.output
        code = shell.run(line)
        said = shell.output.removeprefix(before)
        where = f"{name_of(block.page)}:{line.number}"
        assert code == line.code, f"{where}: {line.text!r} ends with {code}, not {line.code}:\n{said}"


def test_every_reason_not_to_run_a_command_is_needed() -> None:
    commands = [
        words
        for page in PAGES
        for block in blocks(page)
        if block.language in COMMANDS
        for line in lines_of(block)
        for words in simple_commands(line.text)
    ]
    unneeded = [
        begin
        for begin, why in NOT_RUN.items()
        if not any(reason_not_to_run(words) == why and " ".join(words).startswith(begin) for words in commands)
    ]
    assert unneeded == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_within_a_sentence_exist(page: Path) -> None:
    headings = re.findall(r"^#{2,3} roadwork (.+)$", CLI.read_text(), flags=re.MULTILINE)
    actions = {
        heading.split()[0]: [h.split()[1] for h in headings if h.startswith(f"{heading} ")] for heading in headings
    }
    wrong = []
    for number, line in prose(page):
        for command, action in re.findall(r"`(?:uv run )?roadwork ([a-z][a-z-]*)(?: ([a-z]+))?\b", line):
            known = command in actions and (not actions[command] or not action or action in actions[command])
            wrong += [] if known else [f"{name_of(page)}:{number}: roadwork {command} {action}".rstrip()]
    assert wrong == []
