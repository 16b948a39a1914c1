"""The bundle's model card, with a word on what became of the bundle."""

from __future__ import annotations


def with_note(card: str, note: str) -> str:
    """The card, Markdown with or without YAML front matter, with `note` after its title."""
    before, mark, after = card.partition("\n# ")
    if not mark:
        before, mark, after = "", "# " if card.startswith("# ") else "", card.removeprefix("# ")
    title, _, rest = after.partition("\n")
    return f"{before}{mark}{title}\n\n{note.strip()}\n{rest}"
