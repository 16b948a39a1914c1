"""How the extra of a distribution is installed: one wording for every error that asks for one."""

from __future__ import annotations


def how_to_install(extra: str, distribution: str = "roadwork") -> str:
    """The command that installs an extra of roadwork, or of one of its plugins, for the hint of an error.

    It names a folder of the checkout: on the public index the name `roadwork` belongs to another project.
    """
    folder = "." if distribution == "roadwork" else f"./plugins/{distribution.removeprefix('roadwork-')}"
    return f"in the checkout of roadwork: uv pip install '{folder}[{extra}]'"
