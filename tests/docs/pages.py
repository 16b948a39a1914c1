"""The Markdown pages: their fenced blocks, headings and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(.*)$")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")


@frozen
class Block:
    """A fenced block: `words` are those after its opening fence, the first of them the language."""

    page: Path
    line: int
    words: tuple[str, ...]
    text: str

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def where(self) -> str:
        return f"{name_of(self.page)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file name that a first line `# NAME.toml` (or .py) gives the block."""
        first = self.text.partition("\n")[0]
        match = re.fullmatch(r"# ([\w./-]+\.(?:toml|py|csv))", first)
        return match[1] if match else None


def pages() -> list[Path]:
    """Every page of the project but the changelog."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    found: list[Block] = []
    opened: tuple[int, str, tuple[str, ...]] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None and match:
            opened, lines = (number, match[1], tuple(match[2].split())), []
        elif opened is not None and match and not match[2].strip():
            found.append(Block(page, opened[0], opened[2], "".join(f"{text}\n" for text in lines)))
            opened = None
        elif opened is not None:
            lines.append(line.removeprefix(opened[1]))
    assert opened is None, f"{name_of(page)}:{opened[0] if opened else 0}: a fence is not closed"
    return found


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of fenced blocks, with their numbers."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Targets of links and pictures, with their line."""
    for number, line in prose(page):
        for match in _LINK.finditer(re.sub(r"`[^`]*`", "", line) if "](" not in line else line):
            yield number, match[1] or match[2]


def anchors(page: Path) -> set[str]:
    """What `#...` may follow the page's name: its headings as GitHub writes them."""
    seen: dict[str, int] = {}
    found = set()
    for _, line in prose(page):
        if match := re.match(r"#{1,6} +(.*?) *#*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(f"{slug}-{count}" if count else slug)
    return found
