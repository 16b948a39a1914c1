"""What a stage's result depends on, as one digest: its part of the spec, its inputs, the plugins it uses."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from roadwork_core import __version__
from roadwork_core.component import component_info, is_component
from roadwork_core.files import digest_json
from roadwork_core.plugins import Plugins

if TYPE_CHECKING:
    from roadwork_core.spec import ResolvedSpec

#: Keys that change how fast or where a run works, never what comes out.
WITHOUT_EFFECT = ("data.workers", "tracker")


def spec_part(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Those dotted keys of the resolved spec's plain values; keys without effect on results are left out."""
    part: dict[str, Any] = {}
    for key in keys:
        value: Any = values
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            value = {name: item for name, item in value.items() if f"{key}.{name}" not in WITHOUT_EFFECT}
        if key not in WITHOUT_EFFECT:
            part[key] = value
    return part


def components_in(value: Any) -> Iterator[Any]:
    """Every component instance in a spec, a section, or a collection of them."""
    if is_component(value):
        yield value
    if attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from components_in(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from components_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from components_in(item)


def components_of_run(resolved: ResolvedSpec) -> Iterator[Any]:
    """Every component instance in the tables of a spec that a run reads."""
    return components_in([getattr(resolved.spec, table) for table in resolved.experiment])


def plugin_versions(components: Sequence[Any], plugins: Plugins) -> dict[str, str]:
    """Version of each distribution that supplies one of these components."""
    owners = [plugins.owner(component) for component in components]
    return {owner.distribution: owner.version for owner in owners}


def outside_state(components: Sequence[Any]) -> dict[str, Any]:
    """What components say of files outside the run: those with a `fingerprint()` method (local weights)."""
    state = {}
    for component in components:
        if callable(getattr(component, "fingerprint", None)):
            info = component_info(component)
            state[f"{info.kind}/{info.name}"] = component.fingerprint()
    return state


def fingerprint(
    *, stage: str, part: Mapping[str, Any], inputs: Mapping[str, str], versions: Mapping[str, str], outside: Any
) -> str:
    """sha256 in hex over everything that the stage's outputs depend on."""
    return digest_json(
        {
            "stage": stage,
            "spec": part,
            "inputs": inputs,
            "plugins": versions,
            "roadwork": __version__,
            "outside": outside,
        }
    )


def library_versions() -> dict[str, str]:
    """Versions of Python and the libraries that results may depend on, without importing them."""
    versions = {"python": platform.python_version(), "roadwork": __version__}
    for name in ("torch", "torchvision", "accelerate", "transformers", "peft", "numpy", "scikit-learn", "pillow"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_state() -> dict[str, Any] | None:
    """Commit of the current directory's git checkout and whether it has changes, or None outside of one."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(status.strip())}
