"""A licence in the words of the Hugging Face hub, which refuses a model card whose `license` it does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping

_IDENTIFIERS = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
#: What its check of a card accepts beside `other` (huggingface.co/docs/hub/repositories-licenses, as of May 2026). It
#: offers no list to ask: a later identifier is written as `other` with its name, which it accepts as well.
KNOWN = frozenset(_IDENTIFIERS.split())
#: SPDX identifiers under which the hub has another word for the same licence.
_HUB_OF_SPDX = {
    f"{name}{suffix}": name
    for name in ("agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0")
    for suffix in ("-only", "-or-later", "+")
} | {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}


def hub_license(license: str) -> Mapping[str, str]:
    """The keys of a card's front matter that say `license`, an SPDX identifier or any other name.

    One that the hub does not know is `other`, with a name as the hub's specification of cards asks for it, lower case
    without spaces, and a link to the file LICENSE, which lies beside the card.
    """
    name = license.strip().lower()
    name = _HUB_OF_SPDX.get(name, name)
    if name in KNOWN:
        return {"license": name}
    own = re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")
    return {"license": "other", "license_name": own or "custom", "license_link": "LICENSE"}
