"""What to do about a wrong name: the nearest valid one, or the list."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, what: str = "known") -> str | None:
    """`did you mean "gamma"?`, or the known names where none is near, or None where there are none."""
    names = list(known)
    if not names:
        return None
    import difflib  # slow to import, and only wrong specs need it

    if close := difflib.get_close_matches(word, names, n=1, cutoff=0.55):
        return f'did you mean "{close[0]}"?'
    return f"{what}: {', '.join(names)}"


def article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
