"""Links lead somewhere: files that are there, headings that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pages import ROOT, anchors, blocks, links, name_of, pages


@pytest.mark.parametrize("page", [*pages(), ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    broken = []
    for line, target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_relative_to(ROOT) or not file.exists():
            broken.append(f"{name_of(page)}:{line}: {target}: no such file")
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            broken.append(f"{name_of(page)}:{line}: {target}: no such heading")
    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    reached: set[Path] = set()
    pending = [index]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        pending += [
            (page.parent / target.partition("#")[0]).resolve()
            for _, target in links(page)
            if "://" not in target and target.partition("#")[0]
        ]
    assert sorted(map(name_of, set((ROOT / "docs").rglob("*.md")) - reached)) == []


def test_no_page_names_a_place_of_this_machine() -> None:
    for page in pages():
        text = page.read_text()
        for place in (str(ROOT), str(Path.home()), "/tmp/", "site-packages"):
            assert place not in text, f"{name_of(page)} holds {place}"


def test_every_block_says_its_language() -> None:
    spoken = {"sh", "toml", "python", "text", "csv", "json", "yaml"}
    assert [block.where for page in pages() for block in blocks(page) if block.language not in spoken] == []
