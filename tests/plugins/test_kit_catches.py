"""Each check of the conformance kit refuses a component that breaks what it checks: every contract's own checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from roadwork_core import option
from roadwork_core.extras import Requirement
from roadwork_core.testing import CONTRACT_CLASSES, ComponentContract, ConformanceError, LossContract
from roadwork_core.testing.contract import ConformanceWarning

from . import faulty_decisions, faulty_exporters, faulty_leaderboards, faulty_models, faulty_training
from .faulty import Case, gives, ids, made, number
from .sites import place, write_plugin


def cross_entropy(logits: Any, target: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits, target, reduction="none")


def noise(logits: Any, target: Any) -> Any:
    return cross_entropy(logits, target) * (1 + os.urandom(1)[0])


def changes_itself(self: Any, ctx: Any) -> Any:
    object.__setattr__(self, "gamma", self.gamma + 1)
    return cross_entropy


def imports_what_it_names(self: Any) -> Any:
    import colorsys

    return [Requirement((colorsys.__name__,), "it comes with Python")]


def assignable(cls: type) -> type:
    cls.__setattr__ = object.__setattr__  # type: ignore[assignment, method-assign]
    return cls


def case(check: str, fault: str, cls: type, said: str) -> Case:
    return Case(contract=LossContract, check=check, cls=cls, said=said, fault=fault)


SOUND = gives(cross_entropy)
TOO_LARGE = made("loss", SOUND, fields={"x": number(2.0, maximum=1)})
UNREAD = made("loss", SOUND, fields={"x": number()})
EVERY_KIND = [
    case(
        "test_speaks_the_kinds_language",
        "another kind",
        made("head", SOUND),
        "Faulty is a head, and this is the contract of a loss",
    ),
    case("test_speaks_the_kinds_language", "no context", made("loss", lambda self: 1), "cannot be called with ctx"),
    case(
        "test_speaks_the_kinds_language",
        "a type beyond TOML",
        made("loss", SOUND, fields={"x": (complex, option(default=1j, help="a number"))}),
        "none that TOML can fill",
    ),
    case(
        "test_speaks_the_kinds_language",
        "a value the core does not know",
        made("loss", SOUND, soft_targets="sometimes"),
        "soft_targets is 'sometimes', not one of False, True",
    ),
    case("test_is_frozen", "assignable", assignable(made("loss", SOUND, fields={"x": number()})), "must be frozen"),
    case("test_is_documented", "no docstring", made("loss", SOUND, __doc__=None), "has no docstring"),
    case(
        "test_is_documented",
        "no help",
        made("loss", SOUND, fields={"x": (float, option(default=1.0))}),
        "x has no help",
    ),
    case(
        "test_defaults_are_valid",
        "a default of another type",
        made("loss", SOUND, fields={"x": (int, option(default=2.5, help="a number"))}),
        "2.5",
    ),
    case(
        "test_defaults_are_valid",
        "a default out of bounds",
        made("loss", SOUND, fields={"x": number(2.0, maximum=1)}),
        "at most 1",
    ),
    case(
        "test_defaults_are_valid",
        "none that cannot be written",
        made("loss", SOUND, fields={"x": (float | None, option(default=1.0, help="a number"))}),
        "may be None, but a spec that leaves it out gets 1.0",
    ),
    case(
        "test_speaks_the_kinds_language",
        "needs that wants an argument",
        made("loss", SOUND, needs=lambda self, ctx: []),
        "Faulty.needs cannot be called with no argument",
    ),
    case(
        "test_names_what_it_needs",
        "needs that imports",
        made("loss", SOUND, needs=imports_what_it_names),
        r"Faulty.needs\(\) imports colorsys; name it",
    ),
    case(
        "test_names_what_it_needs",
        "a need in words",
        made("loss", SOUND, needs=lambda self: ["colorsys"]),
        "TypeError: 'colorsys' is no Requirement",
    ),
    case(
        "test_survives_toml",
        "a converter that moves the value",
        made("loss", SOUND, fields={"x": (float, attrs.field(default=1.0, converter=lambda value: value + 1))}),
        "x changed on the way through TOML",
    ),
    case(
        "test_build_reads_every_field",
        "an option without effect",
        made("loss", SOUND, fields={"x": number()}),
        "nothing reads x",
    ),
    case(
        "test_build_reads_every_field",
        "build changes the component",
        made("loss", changes_itself, fields={"gamma": number()}),
        "build changes the component: gamma",
    ),
    case(
        "test_same_seed_gives_the_same_result",
        "noise of the system",
        made("loss", gives(noise)),
        "two runs from one seed differ",
    ),
]
CASES = [
    *EVERY_KIND,
    *faulty_training.CASES,
    *faulty_models.CASES,
    *faulty_decisions.CASES,
    *faulty_exporters.CASES,
    *faulty_leaderboards.CASES,
]


@pytest.mark.parametrize("fault", CASES, ids=ids)
def test_the_kit_refuses(fault: Case) -> None:
    fault.run()


def test_every_check_of_every_contract_has_a_fault_that_it_refuses() -> None:
    tried = {(case.contract, case.check) for case in CASES} | {(ComponentContract, case.check) for case in EVERY_KIND}
    checks = {
        (owner, name)
        for owner in (ComponentContract, *CONTRACT_CLASSES.values())
        for name in vars(owner)
        if name.startswith("test_")
    }
    # The load in a process of its own needs an installed package: tested below.
    assert checks - tried == {(ComponentContract, "test_loads_without_heavy_libraries")}


def test_the_kit_refuses_a_plugin_that_loads_a_heavy_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sklearn.py").write_text("")
    body = (
        "import sklearn\nfrom roadwork_core import component, hookimpl\n"
        "@component('loss', 'heavy')\nclass Heavy:\n  def build(self, ctx): return None\n"
        "@hookimpl\ndef roadwork_components(): return [Heavy]\n"
    )
    write_plugin(tmp_path, "heavy_plugin", body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("roadwork_core.testing.contract._installed", _load_now)
    with pytest.raises(ConformanceError, match="loading the plugin imports sklearn; import them in build"):
        type("UnderTest", (LossContract,), {"component": "heavy_plugin/heavy"})().test_loads_without_heavy_libraries()


def test_a_third_party_loss_passes_and_is_advised_to_document_its_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, "acme_losses")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("roadwork_core.testing.contract._installed", _load_now)
    monkeypatch.setattr("roadwork_core.testing.contract._with", lambda cls: _load_now())
    settings = {"component": "acme/focal", "variants": ({"alpha": 0.25},)}
    contract = type("UnderTest", (LossContract,), settings)()
    for name in dir(contract):
        if name == "test_is_documented":
            with pytest.warns(ConformanceWarning, match="gamma, alpha would be documented by option"):
                contract.test_is_documented()
        elif name.startswith("test_"):
            getattr(contract, name)()


def _load_now() -> Any:
    from roadwork_core.plugins import Plugins

    return Plugins.load()
