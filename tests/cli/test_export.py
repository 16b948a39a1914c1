"""What `roadwork export` measured is read by people: a line for each table, a figure with its interval."""

from __future__ import annotations

from roadwork_core.cli.export import _lines


def test_a_flat_table_is_one_line() -> None:
    assert list(_lines("parity", {"network": 1.5e-8, "golden": 8})) == ["parity   network 1.5e-08, golden 8"]
    assert list(_lines("sizes", [[64, 64], [32, 32]])) == ["sizes    64x64 32x32"]


def test_tables_in_a_table_stand_below_it_and_a_figure_has_its_interval() -> None:
    mcc = {"first": 0.03, "difference": {"value": -0.007, "low": -0.02, "high": None, "level": 0.95}}
    found = {"scheme": "int8", "policies": {"scrc": {"agreement": 1.0, "mcc": mcc}}}
    assert list(_lines("quantization", found)) == [
        "quantization scheme int8",
        "  policies",
        "    scrc     agreement 1",
        "      mcc      first 0.03, difference -0.007 [-0.02, none]",
    ]
