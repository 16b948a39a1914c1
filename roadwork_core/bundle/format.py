"""The bundle's format: its files, the keys of its documents, and a bundle that has been read."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from attrs import frozen

from ..errors import Problem, UsageError
from ..files import digest_json
from .shape import anything, array, exactly, integer, mapping, nullable, number, one_of, table, text

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
SPEC = "spec.toml"
CARD = "README.md"
LICENSE = "LICENSE"
WEIGHTS = "model/weights.safetensors"
MODEL = "model/model.json"
#: The network once more, for ONNX Runtime, where a bundle carries it.
ONNX = "model/model.onnx"
GOLDEN_INPUTS = "golden/inputs.safetensors"
GOLDEN_EXPECTED = "golden/expected.json"
REQUIRED = (SPEC, CARD, LICENSE, WEIGHTS, MODEL, GOLDEN_INPUTS, GOLDEN_EXPECTED)
#: What a file of a bundle may be: data, and a graph of standard operators.
SUFFIXES = frozenset({".json", ".toml", ".md", ".txt", ".safetensors", ".onnx"})
MODES = ("fast", "accurate", "hybrid")
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_DOCUMENT_BYTES = 256 * 2**20


class Level(StrEnum):
    """How far a verification goes; each level includes those before it."""

    FILES = "files"
    SCHEMA = "schema"
    PLUGINS = "plugins"
    LOAD = "load"
    REPLAY = "replay"

    def includes(self, other: Level) -> bool:
        order = list(Level)
        return order.index(other) <= order.index(self)


def policy_path(name: str) -> str:
    return f"policies/{name}.json"


def bundle_id(manifest: Mapping[str, Any]) -> str:
    """sha256 in hex of the manifest's canonical JSON without `bundle_id` itself."""
    return digest_json({key: value for key, value in manifest.items() if key != "bundle_id"})


def tta_digest(tta: Mapping[str, Any]) -> str:
    """The digest of a test-time augmentation: of its `use`, its `options` and, where it was fitted, its `state`."""
    return digest_json({key: tta[key] for key in ("use", "options", "state") if key in tta})


@frozen
class Bundle:
    """A bundle as read from its folder: `manifest` is bundle.json, `model` model/model.json, `policies` the policy
    documents by name. Nothing is built yet."""

    path: Path
    manifest: Mapping[str, Any]
    model: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, Any]]

    @property
    def id(self) -> str:
        return str(self.manifest["bundle_id"])

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in order of their index."""
        return tuple(self.manifest["labels"])

    @property
    def positive(self) -> int:
        """Index of the positive class."""
        return self.labels.index(self.manifest["positive"])

    @property
    def active(self) -> str:
        """The policy that decides when nobody says otherwise."""
        return str(self.manifest["active"])

    @property
    def fallback(self) -> str | None:
        """The policy that answers where another cannot, or must not abstain."""
        return None if self.manifest["fallback"] is None else str(self.manifest["fallback"])

    @property
    def carries_onnx(self) -> bool:
        """Whether the network is there in ONNX as well."""
        return "onnx" in self.model

    def policy_for(self, *, mode: str | None = None, policy: str | None = None) -> str:
        """The name of the policy that serves a request.

        Raises UsageError for both at once, an unknown policy, or a mode that no policy of this bundle serves.
        """
        if mode is not None and policy is not None:
            raise UsageError("a mode and a policy cannot both be chosen", hint="give one of them")
        if policy is not None:
            if policy not in self.policies:
                raise UsageError(f"this bundle has no policy {policy!r}", hint=f"it has {', '.join(self.policies)}")
            return policy
        if mode is None:
            return self.active
        modes: Mapping[str, str] = self.manifest["modes"]
        if mode not in modes:
            serves = ", ".join(f"{known} ({name})" for known, name in modes.items()) or "none"
            raise UsageError(f"this bundle cannot serve the mode {mode!r}", hint=f"it serves {serves}")
        return modes[mode]


_sha256 = text(r"[0-9a-f]{64}", what="a sha256 in hex")
_name = text(r"[A-Za-z0-9][A-Za-z0-9._-]*", what="a name of letters, digits, dots, hyphens and underscores")
_short = text(r"(?s).{1,4000}", what="a text of 1 to 4000 characters")
_use = text(r"([A-Za-z0-9_.-]+/)?[a-z][a-z0-9_]*", what="a component's name")
_component = {"use": _use, "options": mapping()}
_labels = array(_short, minimum=2, unique=True)
_colour = one_of("RGB")
_triple = array(number(), length=3)
#: The part `preprocessing` of bundle.json and model/model.json.
PREPROCESSING_SHAPE = table(
    {
        "colour": _colour,
        "size": array(integer(1), length=2),
        "mean": _triple,
        "std": array(number(1e-12), length=3),
        "interpolation": one_of("bilinear", "bicubic", "nearest"),
        "fit": one_of("crop", "stretch"),
        "size_multiple": integer(1),
        "min_side": integer(1),
    }
)
_signature = table(
    {
        "input": table(
            {
                "kind": exactly("image"),
                "dtype": exactly("uint8"),
                "shape": array(nullable(integer(1)), length=3),
                "range": array(integer(0), length=2),
                "colour": _colour,
                "min_side": integer(1),
                "max_pixels": integer(1),
            }
        ),
        "output": table(
            {"dtype": exactly("float64"), "shape": array(nullable(integer(1)), length=2), "meaning": _short}
        ),
    }
)
_provenance = table(
    {
        "roadwork": _short,
        "plugins": mapping(_short, table({"distribution": _short, "version": _short})),
        "data": table({"digest": nullable(_sha256), "splits": mapping(_short, integer(0))}),
        "spec": _sha256,
        "git_commit": nullable(_short),
    }
)

#: bundle.json.
MANIFEST_SHAPE = table(
    {
        "format_version": exactly(FORMAT_VERSION),
        "bundle_id": _sha256,
        "name": _name,
        "description": text(),
        "license": _short,
        "files": mapping(text(), table({"sha256": _sha256, "size": integer(0)}), minimum=1),
        "labels": _labels,
        "positive": _short,
        "signature": _signature,
        "preprocessing": PREPROCESSING_SHAPE,
        "score": table({"meaning": _short, "range": array(number(), length=2)}),
        "policies": mapping(
            _name,
            table({"file": _short, "use": _use, "mode": one_of(*MODES), "members": array(_name, unique=True)}),
            minimum=1,
        ),
        "active": _name,
        "fallback": nullable(_name),
        "mode": one_of(*MODES),
        "modes": mapping(one_of(*MODES), _name),
        "provenance": _provenance,
        "evidence": mapping(
            _name, table({"split": _short, "n": integer(0), "metrics": mapping(values=mapping())}, open=True)
        ),
    }
)

#: model/model.json.
MODEL_SHAPE = table(
    {
        "schema": exactly("roadwork.model/1"),
        "backbone": table({**_component, "architecture": mapping()}),
        "head": table(_component),
        "feature_dim": integer(1),
        "classes": _labels,
        "positive": integer(0),
        "preprocessing": PREPROCESSING_SHAPE,
        "tta": table({**_component, "digest": _sha256}, {"state": mapping()}),
    },
    {
        "onnx": table(
            {
                "opset": integer(1),
                "sizes": array(array(integer(1), length=2), minimum=1),
                "outputs": exactly(["logits", "features"]),
                "difference": number(0),
            }
        )
    },
    open=True,
)

#: policies/<name>.json. Written by the policy layer, which may add keys.
POLICY_SHAPE = table(
    {
        "schema": exactly("roadwork.policy/1"),
        "name": _name,
        "use": _use,
        "options": mapping(),
        "classes": _labels,
        "positive": integer(0),
        "state": mapping(),
        "summary": mapping(),
        "guarantee": nullable(mapping()),
        "members": array(_name, unique=True),
    },
    {"tta": nullable(_sha256), "fitted_on": anything},
    open=True,
)

_decision = table(
    {
        "label": nullable(_short),
        "abstain": one_of(True, False),
        "score": number(0),
        "set": array(_short, unique=True),
    }
)

#: golden/expected.json.
GOLDEN_SHAPE = table(
    {
        "schema": exactly("roadwork.golden/1"),
        "tolerance": number(0),
        "logits": array(array(number(), minimum=2), minimum=1),
        "decisions": mapping(_name, array(_decision)),
    }
)


def problems_of(shape: Any, document: Any, origin: Any) -> list[Problem]:
    """What `shape` finds wrong, each problem with its origin; at most 100."""
    found = []
    for problem in shape(document, ""):
        found.append(Problem(problem.message, problem.key or None, origin, problem.hint))
        if len(found) == 100:
            break
    return found
