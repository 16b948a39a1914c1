"""The level `schema`: every document of a bundle has its shape, and they agree with one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from ..errors import Problem
from . import format as fmt
from .inventory import at, read_bytes
from .strict_json import MalformedJson, parse_json


@frozen
class Documents:
    """The parsed documents of a bundle; one that could not be read or is misshapen is None or absent."""

    model: Any = None
    golden: Any = None
    policies: Mapping[str, Any] = {}


def read_document(root: Path, path: str, limit: int = fmt.MAX_DOCUMENT_BYTES) -> tuple[Any, Problem | None]:
    """The JSON value of a file in the bundle, or the problem that it has."""
    try:
        return parse_json(read_bytes(root, path, limit)), None
    except MalformedJson as error:
        return None, Problem(f"cannot be read: {error}", origin=at(path))
    except OSError as error:
        return None, Problem(f"cannot be read: {error.strerror}", origin=at(path))


def check(root: Path, manifest: Mapping[str, Any], present: set[str]) -> tuple[Documents, list[Problem]]:
    """Reads and checks every document that the manifest, itself of the right shape, speaks of.

    `present` are the plain files that were found; links are never opened.
    """
    problems = list(_manifest_agrees(manifest))
    documents = Documents()

    def load(path: str, shape: Any) -> Any:
        if path not in present:
            problems.append(Problem("is missing", origin=at(path)))
            return None
        document, problem = read_document(root, path)
        found = [problem] if problem else fmt.problems_of(shape, document, at(path))
        problems.extend(found)
        return None if found else document

    documents = evolve(
        documents,
        model=load(fmt.MODEL, fmt.MODEL_SHAPE),
        golden=load(fmt.GOLDEN_EXPECTED, fmt.GOLDEN_SHAPE),
        policies={name: load(fmt.policy_path(name), fmt.POLICY_SHAPE) for name in manifest["policies"]},
    )
    if documents.model is not None:
        problems += _model_agrees(manifest, documents.model)
        problems += _onnx_agrees(manifest, documents.model)
    for name, policy in documents.policies.items():
        if policy is not None:
            problems += _policy_agrees(name, policy, manifest, documents.model)
    problems += _member_cycles({name: doc["members"] for name, doc in documents.policies.items() if doc is not None})
    if documents.golden is not None:
        problems += _golden_agrees(documents.golden, manifest)
    for path in sorted(present):
        if path.endswith(".safetensors"):
            problems += _safetensors_problems(root, path)
    unreadable = {str(problem.origin) for problem in problems}
    if documents.golden is not None and fmt.GOLDEN_INPUTS in present - unreadable:
        problems += _pictures_agree(root, len(documents.golden["logits"]))
    return documents, problems


def _manifest_agrees(manifest: Mapping[str, Any]) -> Iterator[Problem]:
    origin = at(fmt.MANIFEST)
    files, policies, labels = manifest["files"], manifest["policies"], manifest["labels"]
    for path in fmt.REQUIRED:
        if path not in files:
            yield Problem(f"{path} is not among the files", "files", origin)
    for path in files:
        if path != fmt.LICENSE and Path(path).suffix not in fmt.SUFFIXES:
            yield Problem("is of a kind of file that no bundle holds", origin=at(path))
        if path.startswith("policies/") and path not in {fmt.policy_path(name) for name in policies}:
            yield Problem("is not a policy that bundle.json names", origin=at(path))
    for name, entry in policies.items():
        if entry["file"] != fmt.policy_path(name):
            yield Problem(f"must be {fmt.policy_path(name)}", f"policies.{name}.file", origin)
        elif entry["file"] not in files:
            yield Problem(f"{entry['file']} is not among the files", f"policies.{name}.file", origin)
        for member in entry["members"]:
            if member not in policies:
                yield Problem(f"needs the policy {member!r}, which is not here", f"policies.{name}.members", origin)
    for key in ("active", "fallback"):
        if manifest[key] is not None and manifest[key] not in policies:
            yield Problem(f"names the policy {manifest[key]!r}, which is not here", key, origin)
    for mode, name in manifest["modes"].items():
        if name not in policies:
            yield Problem(f"names the policy {name!r}, which is not here", f"modes.{mode}", origin)
        elif policies[name]["mode"] != mode:
            yield Problem(f"{name!r} is of mode {policies[name]['mode']}", f"modes.{mode}", origin)
    active = policies.get(manifest["active"])
    if active is not None and active["mode"] != manifest["mode"]:
        yield Problem(f"must be the mode of the active policy, {active['mode']!r}", "mode", origin)
    if manifest["positive"] not in labels:
        yield Problem("is not one of the labels", "positive", origin)
    for name in manifest["evidence"]:
        if name not in policies:
            yield Problem(f"speaks of the policy {name!r}, which is not here", "evidence", origin)
    if manifest["signature"]["output"]["shape"][1] != len(labels):
        yield Problem(f"must end in {len(labels)}, the number of labels", "signature.output.shape", origin)


def _model_agrees(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[Problem]:
    origin = at(fmt.MODEL)
    if model["classes"] != manifest["labels"]:
        yield Problem("differ from the labels of bundle.json", "classes", origin)
    elif model["positive"] >= len(model["classes"]):
        yield Problem("is not the index of a class", "positive", origin)
    elif model["classes"][model["positive"]] != manifest["positive"]:
        yield Problem("is not the positive label of bundle.json", "positive", origin)
    if model["preprocessing"] != manifest["preprocessing"]:
        yield Problem("differs from bundle.json", "preprocessing", origin)
    tta = model["tta"]
    if tta["digest"] != fmt.tta_digest(tta):
        yield Problem("is not that of its use, options and state", "tta.digest", origin)


def _onnx_agrees(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[Problem]:
    listed = sorted(path for path in manifest["files"] if path.endswith(".onnx"))
    for path in listed:
        if path != fmt.ONNX:
            yield Problem(f"is not {fmt.ONNX}, the only ONNX file that a bundle holds", origin=at(path))
    if (fmt.ONNX in listed) != ("onnx" in model):
        there, lacking = (fmt.ONNX, fmt.MODEL) if fmt.ONNX in listed else (fmt.MODEL, fmt.ONNX)
        yield Problem(f"speaks of a network in ONNX, and {lacking} does not", "onnx", at(there))


def _policy_agrees(
    name: str, policy: Mapping[str, Any], manifest: Mapping[str, Any], model: Mapping[str, Any] | None
) -> Iterator[Problem]:
    origin = at(fmt.policy_path(name))
    entry = manifest["policies"][name]
    if policy["name"] != name:
        yield Problem(f"must be {name!r}, the file's own name", "name", origin)
    if policy["use"] != entry["use"]:
        yield Problem(f"is {policy['use']!r}, bundle.json says {entry['use']!r}", "use", origin)
    if sorted(policy["members"]) != sorted(entry["members"]):
        yield Problem("differ from bundle.json", "members", origin)
    for member in policy["members"]:
        if member not in manifest["policies"]:
            yield Problem(f"needs the policy {member!r}, which is not in the bundle", "members", origin)
    if policy["classes"] != manifest["labels"]:
        yield Problem("differ from the labels of bundle.json", "classes", origin)
    elif policy["positive"] != manifest["labels"].index(
        manifest["positive"] if _known(manifest) else policy["classes"][0]
    ):
        yield Problem("is not the index of the positive label of bundle.json", "positive", origin)
    digest = policy.get("tta")
    if digest is not None and model is not None and digest != model["tta"]["digest"]:
        yield Problem("was fitted on logits of another test-time augmentation than the model's", "tta", origin)


def _known(manifest: Mapping[str, Any]) -> bool:
    return manifest["positive"] in manifest["labels"]


def _member_cycles(members: Mapping[str, list[str]]) -> Iterator[Problem]:
    done: set[str] = set()
    for start in members:
        chain: list[str] = []
        pending = [(start, 0)]
        while pending:
            name, depth = pending.pop()
            del chain[depth:]
            if name in chain:
                loop = " -> ".join([*chain[chain.index(name) :], name])
                yield Problem(f"needs itself: {loop}", "members", at(fmt.policy_path(name)))
                return
            if name in done or name not in members:
                continue
            chain.append(name)
            pending += [(member, depth + 1) for member in members[name]]
        done.add(start)


def _golden_agrees(golden: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[Problem]:
    origin = at(fmt.GOLDEN_EXPECTED)
    n, labels = len(golden["logits"]), manifest["labels"]
    if any(len(row) != len(labels) for row in golden["logits"]):
        yield Problem(f"must have {len(labels)} columns", "logits", origin)
    if golden["decisions"].keys() != manifest["policies"].keys():
        yield Problem("must hold the decisions of each policy of bundle.json", "decisions", origin)
    for name, rows in golden["decisions"].items():
        if len(rows) != n:
            yield Problem(f"must have {n} items, one per picture", f"decisions.{name}", origin)
        for index, row in enumerate(rows):
            named = ([] if row["label"] is None else [row["label"]]) + row["set"]
            if not set(named) <= set(labels):
                yield Problem("names a label that bundle.json does not", f"decisions.{name}.{index}", origin)
            if row["abstain"] != (row["label"] is None):
                yield Problem("has both a label and an abstention, or neither", f"decisions.{name}.{index}", origin)


def _safetensors_problems(root: Path, path: str) -> Iterator[Problem]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(root / path, framework="numpy") as file:
            if not file.keys():
                yield Problem("holds no tensor", origin=at(path))
    except (SafetensorError, OSError, ValueError) as error:
        yield Problem(f"is not a safetensors file: {error}", origin=at(path))


def _pictures_agree(root: Path, n: int) -> Iterator[Problem]:
    from safetensors import safe_open

    origin = at(fmt.GOLDEN_INPUTS)
    with safe_open(root / fmt.GOLDEN_INPUTS, framework="numpy") as file:
        names = sorted(file.keys())
        if names != [f"image_{index:04d}" for index in range(n)]:
            yield Problem(f"must hold image_0000 to image_{n - 1:04d}, as many as expected.json has", origin=origin)
            return
        for name in names:
            part = file.get_slice(name)
            shape = part.get_shape()
            if part.get_dtype() != "U8" or len(shape) != 3 or shape[0] != 3 or min(shape) < 1:
                yield Problem(f"must be uint8 (3, H, W), is {part.get_dtype()} {shape}", name, origin)
