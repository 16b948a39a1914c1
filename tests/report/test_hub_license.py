"""The licence in a card's front matter is one that the Hugging Face hub takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadwork_core.bundle import license as of_bundle
from roadwork_core.report.hub_license import KNOWN, hub_license


@pytest.mark.parametrize("license", of_bundle.KNOWN)
def test_what_a_bundle_knows_by_its_spdx_identifier_the_hub_knows(license: str) -> None:
    assert hub_license(license) == {"license": license.lower()}


@pytest.mark.parametrize(
    ("license", "named"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("APACHE-2.0", "apache-2.0"),
        ("CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0"),
        ("AGPL-3.0-only", "agpl-3.0"),
        ("GPL-2.0-or-later", "gpl-2.0"),
        ("ODC-By-1.0", "odc-by"),
        ("LPPL-1.3c", "lppl-1.3c"),
        ("llama3.1", "llama3.1"),
    ],
)
def test_identifiers_are_compared_without_case(license: str, named: str) -> None:
    assert hub_license(license) == {"license": named}


@pytest.mark.parametrize(
    ("license", "named"),
    [
        ("proprietary", "proprietary"),
        ("House terms 3.1", "house-terms-3.1"),
        ("DINOv3 License", "dinov3-license"),
        ("LicenseRef-Street", "licenseref-street"),
        ("CC-BY-NC-5.0", "cc-by-nc-5.0"),
        ("other", "other"),
        ("\u8def", "custom"),
    ],
)
def test_any_other_is_other_with_a_name_and_the_file(license: str, named: str) -> None:
    assert hub_license(license) == {"license": "other", "license_name": named, "license_link": "LICENSE"}


@given(st.text(max_size=80))
def test_whatever_it_is_called_the_hub_takes_it(license: str) -> None:
    found = hub_license(license)
    assert found["license"] in KNOWN | {"other"}
    assert ("license_name" in found) == (found["license"] == "other")
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", found.get("license_name", "x"))
