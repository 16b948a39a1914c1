"""Writes the pages of docs/reference that follow from the code: `python docs/generate.py [--check]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from roadwork_core.kinds import CONTRACTS
from roadwork_core.plugins import Plugins
from roadwork_core.spec.describe import describe

ROOT = Path(__file__).parents[1]
IN_TREE = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))

HEAD = """\
# Components

Every component that comes with roadwork, by kind. This page is generated from the component classes by
`python docs/generate.py`; `roadwork plugins show KIND/NAME` prints the same of whatever is installed.
"""


def components_page(plugins: Plugins) -> str:
    """docs/reference/components.md, the same text for the same plugins."""
    described = {kind: [describe(cls, plugins) for cls in plugins.components(kind)] for kind in CONTRACTS}
    parts = [HEAD, "| kind | components |", "|---|---|"]
    for kind, components in described.items():
        links = ", ".join(f"[`{c['use']}`](#{kind}-{anchor(c['use'])})" for c in components)
        parts.append(f"| {kind} | {links} |")
    for kind, components in described.items():
        parts += ["", f"## {kind}"]
        for component in components:
            parts += ["", *section(component)]
    return "\n".join(parts) + "\n"


def section(component: Mapping[str, Any]) -> list[str]:
    """One component: what it is, its options, TOML to begin with."""
    lines = [f"### {component['kind']} {component['use']}", "", component["doc"], ""]
    lines.append(f"From `{component['distribution']}`, as `{component['qualified']}`.")
    traits = [f"`{name} = {value!r}`" for name, value in component["traits"].items()]
    if traits:
        lines[-1] += f" {', '.join(traits)}."
    if component["fields"]:
        lines += ["", "| option | type | bounds | default | |", "|---|---|---|---|---|"]
        lines += [row(field) for field in component["fields"]]
    renamed = [f"`{old}` is the earlier name of `{new}`." for old, new in component["renamed"].items()]
    return [*lines, *(["", *renamed] if renamed else []), "", "```toml", component["toml"].rstrip("\n"), "```"]


def row(field: Mapping[str, Any]) -> str:
    """One option as a row of a table."""
    default = "required" if field["required"] else "" if field["default"] is None else f"`{toml(field['default'])}`"
    bounds, matches, pattern = (field["bounds"] or "").partition("matches ")
    cells = [f"`{field['name']}`", field["type"], f"{bounds}{matches}" + (f"`{pattern}`" if pattern else "")]
    cells += [default, field["help"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    from roadwork_core.spec import dump_toml

    return dump_toml({"x": [value, 0]}).partition("=")[2].strip()[1:-4] if value != {} else "{}"


def anchor(use: str) -> str:
    """What a heading's link is made of."""
    return use.replace("/", "")


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    return {ROOT / "docs" / "reference" / "components.md": components_page(Plugins.load(IN_TREE))}


def main() -> int:
    """Writes the pages, or with --check says which are out of date and returns 1."""
    parser = argparse.ArgumentParser(description="Writes the generated pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="only say which pages are out of date")
    options = parser.parse_args()
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        if options.check:
            print(f"{path.relative_to(ROOT)} is out of date: run python docs/generate.py", file=sys.stderr)
        else:
            path.write_text(pages()[path])
            print(path.relative_to(ROOT))
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
