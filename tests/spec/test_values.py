"""Components to plain tables and back, outside any spec."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.errors import SpecError
from roadwork_core.spec import component_options, resolve_component, table_of
from roadwork_core.spec.compare import differences

from .toys import MINIMAL, Focal, OtherFocal, Scrc, Weighted, plugin, resolve, toys


@given(st.floats(0, 10), st.none() | st.floats(0.01, 0.99))
def test_a_component_survives_its_table(gamma: float, alpha: float | None) -> None:
    loss = Focal(gamma=gamma, alpha=alpha)
    assert component_options(loss) == {"gamma": gamma, "alpha": alpha}
    assert resolve_component("loss", table_of(loss), toys()) == loss


def test_null_in_a_document_is_none_also_where_that_is_not_the_default() -> None:
    plugins = toys(acme=plugin(Weighted))
    assert resolve_component("loss", {"use": "weighted", "path": None}, plugins).path is None
    with pytest.raises(SpecError, match="gamma: expected a number, got null"):
        resolve_component("loss", {"use": "focal", "gamma": None}, plugins)


def test_nested_components_keep_their_use() -> None:
    plugins = toys()
    policy = resolve_component("policy", {"use": "scrc"}, plugins)
    assert isinstance(policy, Scrc)
    options = component_options(policy)
    assert options["calibrator"] == {"use": "temperature", "limits": {"low": 0.1, "high": 10.0}}
    assert resolve_component("policy", {"use": "scrc", **options}, plugins) == policy


def test_a_name_that_two_plugins_supply_is_written_whole() -> None:
    plugins = toys(acme=plugin(OtherFocal))
    loss = resolve_component("loss", {"use": "acme/focal"}, plugins)
    assert table_of(loss, plugins)["use"] == "acme/focal"


def test_problems_of_a_document_are_all_said_with_its_name() -> None:
    with pytest.raises(SpecError) as caught:
        resolve_component("loss", {"use": "focal", "gamma": "x", "gama": 1}, toys(), source="model.json")
    assert str(caught.value) == (
        'model.json gama: unknown key "gama" of loss focal (did you mean "gamma"?)\n'
        'model.json gamma: expected a number, got the string "x"'
    )
    with pytest.raises(SpecError, match=r'^unknown loss "x"|^use: unknown loss "x"'):
        resolve_component("loss", {"use": "x"}, toys())


def test_differences_are_of_values_not_of_text() -> None:
    before = resolve(MINIMAL + "[train]\nepochs = 10\n").values
    assert differences(before, resolve(MINIMAL).values) == []
    text = (
        MINIMAL.replace('"toy"', '"other"') + "[train]\nema = 0.5\n[loss]\nuse = 'focal'\n[[augment]]\nuse = 'flip'\n"
    )
    found = {item.key: (item.before, item.after, item.change) for item in differences(before, resolve(text).values)}
    assert found == {
        "name": ("toy", "other", "changed"),
        "train.ema": (None, 0.5, "added"),
        "loss.use": ("cross_entropy", "focal", "changed"),
        "loss.gamma": (None, 2.0, "added"),
        "augment.0.use": (None, "flip", "added"),
        "augment.0.p": (None, 0.5, "added"),
        "augment.0.on": (None, "sample", "added"),
    }
    back = differences(resolve(text).values, before)
    assert {item.change for item in back} == {"changed", "removed"}
