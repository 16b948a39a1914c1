"""What differs between two bundles, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from ..files import canonical_json
from .format import Bundle

_MISSING = object()


@frozen
class Difference:
    """A key of a document of both bundles with its value in each; `absent` values are not there."""

    document: str
    key: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"document": self.document, "key": self.key}
        if self.before is not _MISSING:
            value["before"] = self.before
        if self.after is not _MISSING:
            value["after"] = self.after
        return value

    def __str__(self) -> str:
        where = f"{self.document}  {self.key}".rstrip()
        if self.before is _MISSING:
            return f"+ {where} = {_short(self.after)}"
        if self.after is _MISSING:
            return f"- {where} = {_short(self.before)}"
        return f"~ {where}: {_short(self.before)} -> {_short(self.after)}"


def diff(before: Bundle, after: Bundle) -> list[Difference]:
    """Every difference of the manifests, the models and the policies; of other files, that their bytes differ."""
    found = list(_compare("bundle.json", "", _told(before.manifest), _told(after.manifest)))
    found += _compare("model/model.json", "", dict(before.model), dict(after.model))
    for name in sorted({*before.policies, *after.policies}):
        document = f"policies/{name}.json"
        if name in before.policies and name in after.policies:
            found += _compare(document, "", dict(before.policies[name]), dict(after.policies[name]))
    compared = {"model/model.json", *(f"policies/{name}.json" for name in {*before.policies, *after.policies})}
    old, new = before.manifest["files"], after.manifest["files"]
    for path in sorted({*old, *new}):
        if path not in old:
            found.append(Difference(path, "", _MISSING, f"{new[path]['size']} bytes"))
        elif path not in new:
            found.append(Difference(path, "", f"{old[path]['size']} bytes", _MISSING))
        elif path not in compared and old[path]["sha256"] != new[path]["sha256"]:
            found.append(
                Difference(path, "", f"sha256 {old[path]['sha256'][:12]}", f"sha256 {new[path]['sha256'][:12]}")
            )
    return found


def _told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    # The identity and the digests follow from what is compared by itself.
    return {key: value for key, value in manifest.items() if key not in ("bundle_id", "files")}


def _compare(document: str, key: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            inner = f"{key}.{name}" if key else name
            yield from _compare(document, inner, before.get(name, _MISSING), after.get(name, _MISSING))
    elif before is _MISSING or after is _MISSING or canonical_json(before) != canonical_json(after):
        yield Difference(document, key, before, after)


def _short(value: Any, limit: int = 60) -> str:
    text = value if isinstance(value, str) else canonical_json(value).decode()
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
