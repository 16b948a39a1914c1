"""What a component needs that its distribution does not install: how that is said, looked for and installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from attrs import field, frozen

from .errors import NotInstalledError, Origin, Problem


def how_to_install(extra: str, distribution: str = "roadwork") -> str:
    """The command that installs an extra of roadwork, or of one of its plugins, for the hint of an error.

    It names a folder of the checkout: on the public index the name `roadwork` belongs to another project.
    """
    folder = "." if distribution == "roadwork" else f"./plugins/{distribution.removeprefix('roadwork-')}"
    return f"in the checkout of roadwork: uv pip install '{folder}[{extra}]'"


@frozen
class Requirement:
    """Modules that are imported although no dependency brings them, and the command that installs them.

    `modules` are top-level names: looking for one imports nothing. Raises ValueError for any other.
    """

    modules: Sequence[str] = field(converter=tuple[str, ...])
    install: str

    @modules.validator
    def _check(self, _: object, modules: Sequence[str]) -> None:
        if not modules or not all(name.isidentifier() for name in modules):
            raise ValueError(f"modules must be names that `import` takes, without dots, got {modules!r}")

    def missing(self) -> list[str]:
        """Those of the modules that are not installed."""
        return [name for name in self.modules if not _is_installed(name)]

    def problem(self, who: str, *, key: str | None = None, origin: Origin | None = None) -> Problem | None:
        """What is missing, in one line: `who` needs it; None where everything is there."""
        if not (missing := self.missing()):
            return None
        message = f"{who} needs what is not installed: {', '.join(missing)}"
        return Problem(message, key=key, origin=origin, hint=self.install)


def require(who: str, needs: Iterable[Requirement]) -> None:
    """Raises NotInstalledError where something that `who` needs is missing."""
    if found := [problem for need in needs if (problem := need.problem(who))]:
        raise NotInstalledError(found)


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # imported already, by something that keeps no record of where it came from
        return True
