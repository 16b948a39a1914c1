"""Makes components with one fault, and runs one check of the kit on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from roadwork_core import component, option
from roadwork_core.testing import ComponentContract, ConformanceError


@attrs.frozen(kw_only=True)
class Case:
    """A fault that one check of one contract must refuse with words that match `said`."""

    contract: type[ComponentContract]
    check: str
    cls: type
    said: str
    fault: str
    settings: Mapping[str, Any] = attrs.field(factory=dict)

    def run(self) -> None:
        """Runs the check; passes only where it refuses."""
        under_test = type("UnderTest", (self.contract,), {"component": self.cls, **self.settings})()
        with pytest.raises(ConformanceError, match=self.said):
            getattr(under_test, self.check)()


def made(kind: str, build: Callable[..., Any], *, fields: Mapping[str, Any] | None = None, **body: Any) -> type:
    """A component of one kind with this `build(self, ctx)`; `fields` gives annotation and default by name."""
    fields = fields or {}
    annotations = {name: annotation for name, (annotation, _) in fields.items()}
    defaults = {name: default for name, (_, default) in fields.items()}
    namespace = {"__doc__": "Faulty.", "__annotations__": annotations, "build": build, **defaults, **body}
    return component(kind, "faulty")(type("Faulty", (), namespace))


def number(default: Any = 1.0, **bounds: Any) -> tuple[type, Any]:
    """A documented field of type float."""
    return float, option(default=default, help="a number", **bounds)


def gives(value: Callable[..., Any]) -> Callable[..., Any]:
    """A `build(self, ctx)` that gives `value` itself."""
    return lambda self, ctx: value


def ids(case: Case) -> str:
    return f"{case.contract.kind}-{case.check.removeprefix('test_')}-{case.fault}".replace(" ", "-")
