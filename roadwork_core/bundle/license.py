"""The LICENSE file of a bundle: which terms its weights come under, in words."""

from __future__ import annotations

PROPRIETARY = "proprietary"
#: SPDX identifiers that weights commonly come under, with full names and where the text stands.
KNOWN = {
    "Apache-2.0": ("Apache License, Version 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "BSD-2-Clause": ("BSD 2-Clause License", "https://opensource.org/license/bsd-2-clause"),
    "BSD-3-Clause": ("BSD 3-Clause License", "https://opensource.org/license/bsd-3-clause"),
    "CC-BY-4.0": ("Creative Commons Attribution 4.0 International", "https://creativecommons.org/licenses/by/4.0/"),
    "CC-BY-NC-4.0": (
        "Creative Commons Attribution-NonCommercial 4.0 International",
        "https://creativecommons.org/licenses/by-nc/4.0/",
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/",
    ),
    "CC0-1.0": (
        "Creative Commons Zero 1.0 Universal (public domain dedication)",
        "https://creativecommons.org/publicdomain/zero/1.0/",
    ),
    "ISC": ("ISC License", "https://opensource.org/license/isc-license-txt"),
    "MIT": ("MIT License", "https://opensource.org/license/mit"),
}


def license_text(license: str) -> str:
    """The LICENSE file for `license`: an SPDX identifier, "proprietary", or any other name."""
    what = "The weights, policies and documents of this bundle"
    if license.casefold() == PROPRIETARY:
        return (
            f"{what} are proprietary: all rights reserved.\n\n"
            "No permission to use, copy, modify or distribute them is given by this file.\n"
        )
    if license in KNOWN:
        name, address = KNOWN[license]
        return f"SPDX-License-Identifier: {license}\n\n{what} are licensed under the\n{name}.\n\nIts text: {address}\n"
    return (
        f"{what} are licensed under the terms named\n\n    {license}\n\n"
        "Ask whoever gave you this bundle for their text.\n"
    )
