"""A sound bundle passes every level; every single damage is found, and named where it lies."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from roadwork_core.bundle import Level, Verification, verify
from roadwork_core.errors import Problem, UsageError, VerificationError

from . import toy

FILES = (
    "bundle.json",
    "spec.toml",
    "README.md",
    "LICENSE",
    "model/weights.safetensors",
    "model/model.json",
    "policies/threshold.json",
    "policies/careful.json",
    "golden/inputs.safetensors",
    "golden/expected.json",
)


def check(bundle: Path, level: str = "replay") -> Verification:
    return verify(bundle, level, toy.plugins())


def messages(found: Verification) -> list[str]:
    return [str(problem) for problem in found.failures]


def assert_fails(found: Verification, level: str, pattern: str) -> None:
    assert found.levels[Level(level)] == "failed", (found.levels, messages(found))
    assert any(re.search(pattern, message) for message in messages(found)), messages(found)


def forge(bundle: Path, path: str, change: Callable[[Any], None]) -> None:
    """Changes a document and hides it from the level `files`."""
    toy.edit(bundle / path, change)
    toy.reseal(bundle)


def test_a_sound_bundle_holds_just_its_files(pristine: Path) -> None:
    found = {path.relative_to(pristine).as_posix() for path in pristine.rglob("*") if path.is_file()}
    assert found == set(FILES)
    assert set(json.loads((pristine / "bundle.json").read_bytes())["files"]) == set(FILES) - {"bundle.json"}


@pytest.mark.parametrize("level", list(Level))
def test_a_sound_bundle_passes(pristine: Path, level: Level) -> None:
    found = check(pristine, level)
    assert found.ok
    assert set(found.levels.values()) == {"ok"}
    assert list(found.levels)[-1] == level


@pytest.mark.parametrize("path", FILES)
def test_every_changed_byte_is_found(bundle: Path, path: str) -> None:
    content = (bundle / path).read_bytes()
    places = sorted({0, 1, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1})
    for place in places:
        for flip in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[place] ^= flip
            (bundle / path).write_bytes(damaged)
            found = check(bundle, "files")
            assert not found.ok, f"byte {place} of {path} ^ {flip:#x}"
            assert any(path in message for message in messages(found))
    (bundle / path).write_bytes(content)
    assert check(bundle, "files").ok


def test_every_byte_of_the_manifest_counts(bundle: Path) -> None:
    """Also one that leaves the JSON value as it is, such as a space that becomes a tab."""
    content = (bundle / "bundle.json").read_bytes()
    for place in range(0, len(content), 31):
        damaged = bytearray(content)
        damaged[place] = 0x09 if damaged[place] == 0x20 else damaged[place] ^ 0x02
        (bundle / "bundle.json").write_bytes(damaged)
        assert not check(bundle, "files").ok, place


@pytest.mark.parametrize("path", FILES)
def test_every_missing_file_is_found(bundle: Path, path: str) -> None:
    (bundle / path).unlink()
    assert_fails(check(bundle), "files", rf"{path}: is missing")
    assert messages(verify(bundle, "schema", toy.plugins())).count(f"{path}: is missing") == 1


@pytest.mark.parametrize("path", FILES)
def test_every_truncated_and_lengthened_file_is_found(bundle: Path, path: str) -> None:
    content = (bundle / path).read_bytes()
    for damaged in (content[:-1], content + b"\n", b""):
        (bundle / path).write_bytes(damaged)
        assert not check(bundle, "files").ok


@pytest.mark.parametrize("path", ["extra.json", "model/extra.safetensors", ".hidden", "policies/other.json"])
def test_an_added_file_is_found(bundle: Path, path: str) -> None:
    (bundle / path).write_bytes(b"{}")
    assert_fails(check(bundle), "files", f"{re.escape(path)}: is not listed")


@pytest.mark.parametrize("path", ["empty", "model/empty", "a/b"])
def test_an_added_empty_folder_is_found(bundle: Path, path: str) -> None:
    (bundle / path).mkdir(parents=True)
    assert_fails(check(bundle), "files", f"{path}: is an empty folder")


@pytest.mark.parametrize(
    ("one", "other"),
    [("policies/threshold.json", "policies/careful.json"), ("README.md", "LICENSE"), ("model/model.json", "spec.toml")],
)
def test_swapped_files_are_found(bundle: Path, one: str, other: str) -> None:
    first, second = (bundle / one).read_bytes(), (bundle / other).read_bytes()
    (bundle / one).write_bytes(second)
    (bundle / other).write_bytes(first)
    found = messages(check(bundle, "files"))
    assert [path for path in (one, other) if any(path in message for message in found)] == [one, other]


@pytest.mark.parametrize("path", FILES)
def test_a_symbolic_link_is_refused_though_its_target_has_the_right_bytes(bundle: Path, path: str) -> None:
    outside = bundle.parent / "outside"
    shutil.move(bundle / path, outside)
    (bundle / path).symlink_to(outside)
    assert_fails(check(bundle), "files", f"{path}: is a symbolic link")


def test_a_linked_folder_is_refused(bundle: Path) -> None:
    shutil.move(bundle / "model", bundle.parent / "model")
    (bundle / "model").symlink_to(bundle.parent / "model")
    assert_fails(check(bundle), "files", "model: is a symbolic link")


@pytest.mark.parametrize("path", FILES)
def test_a_hard_link_to_the_outside_is_refused(bundle: Path, path: str) -> None:
    os.link(bundle / path, bundle.parent / "outside")
    assert_fails(check(bundle), "files", f"{path}: is hard-linked")


@pytest.mark.parametrize("path", ["bundle.json", "model/weights.safetensors", "policies/careful.json"])
def test_a_pipe_is_refused_and_not_waited_for(bundle: Path, path: str) -> None:
    (bundle / path).unlink()
    os.mkfifo(bundle / path)
    assert_fails(check(bundle), "files", f"{path}: is not a plain file")


def test_a_link_to_the_bundle_itself_is_followed(bundle: Path) -> None:
    """Deployments switch versions by such a link."""
    link = bundle.parent / "current"
    link.symlink_to(bundle)
    assert check(link, "files").ok


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("../outside.json", "leads out of the bundle"),
        ("model/../../outside.json", "leads out of the bundle"),
        ("/etc/passwd", "is not a relative path"),
        ("model\\weights.bin", "is not a relative path"),
        ("C:/weights.bin", "is not a relative path"),
        ("./spec.toml", "is not a plain path"),
        ("model//model.json", "is not a plain path"),
        ("spec\n.toml", "is not a plain path"),
        ("", "is not a plain path"),
    ],
)
def test_a_listed_path_that_leads_elsewhere_is_refused(bundle: Path, path: str, pattern: str) -> None:
    (bundle.parent / "outside.json").write_text("{}")

    def add(manifest: dict[str, Any]) -> None:
        from roadwork_core.bundle.format import bundle_id

        manifest["files"][path] = {"sha256": "0" * 64, "size": 2}
        manifest["bundle_id"] = bundle_id(manifest)

    toy.edit(bundle / "bundle.json", add)
    assert_fails(check(bundle), "files", pattern)


def test_every_failure_is_reported_at_once(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    (bundle / "extra").write_text("x")
    (bundle / "policies/threshold.json").write_text("{}")
    found = messages(check(bundle))
    for path in ("README.md", "extra", "policies/threshold.json"):
        assert any(path in message for message in found), path


def test_later_levels_are_not_begun_on_a_damaged_bundle(bundle: Path) -> None:
    (bundle / "README.md").write_text("changed")
    plugin = toy.ToyPlugin()
    found = verify(bundle, "replay", toy.plugins(plugin))
    assert found.levels == {
        Level.FILES: "failed",
        Level.SCHEMA: "ok",
        Level.PLUGINS: "skipped",
        Level.LOAD: "skipped",
        Level.REPLAY: "skipped",
    }
    assert plugin.seen == []


def test_an_edited_manifest_does_not_have_its_id(bundle: Path) -> None:
    toy.edit(bundle / "bundle.json", lambda manifest: manifest.update(license="MIT"))
    assert_fails(check(bundle), "files", "bundle_id: is not that of this content")


@pytest.mark.parametrize(
    ("path", "change", "pattern"),
    [
        ("bundle.json", lambda d: d.update(active="nobody"), "active.*'nobody'"),
        ("bundle.json", lambda d: d.update(fallback="nobody"), "fallback.*'nobody'"),
        ("bundle.json", lambda d: d.update(mode="hybrid"), "mode.*'accurate'"),
        ("bundle.json", lambda d: d.update(positive="other"), "positive"),
        ("bundle.json", lambda d: d["modes"].update(hybrid="careful"), "modes.hybrid"),
        ("bundle.json", lambda d: d["evidence"].update(nobody=d["evidence"]["careful"]), "nobody"),
        ("bundle.json", lambda d: d["policies"]["careful"].update(members=["nobody"]), "'nobody', which is not here"),
        ("policies/careful.json", lambda d: d.update(members=["nobody"]), "'nobody', which is not in the bundle"),
        ("policies/careful.json", lambda d: d.update(classes=["a", "b"]), "classes.*differ"),
        ("policies/careful.json", lambda d: d.update(positive=0), "positive"),
        ("policies/careful.json", lambda d: d.update(tta="1" * 64), "another test-time augmentation"),
        ("policies/careful.json", lambda d: d.pop("state"), "state.*is missing"),
        ("model/model.json", lambda d: d.update(classes=["a", "b"]), "classes.*differ"),
        ("model/model.json", lambda d: d.update(positive=7), "positive"),
        ("model/model.json", lambda d: d["preprocessing"].update(fit="stretch"), "preprocessing.*differs"),
        ("model/model.json", lambda d: d["backbone"].update(use="os.system"), "backbone.use"),
        ("model/model.json", lambda d: d["tta"].update(use="other"), "tta.digest"),
        ("golden/expected.json", lambda d: d["decisions"].pop("careful"), "decisions"),
        ("golden/expected.json", lambda d: d["decisions"]["careful"].pop(), "decisions.careful"),
        ("golden/expected.json", lambda d: d["logits"].pop(), "image_0000 to image_0004"),
        ("golden/expected.json", lambda d: d["decisions"]["careful"][0].update(label="x"), "names a label"),
    ],
)
def test_documents_that_disagree_fail_the_schema(
    bundle: Path, path: str, change: Callable[[Any], None], pattern: str
) -> None:
    forge(bundle, path, change)
    found = check(bundle)
    assert found.levels[Level.FILES] == "ok"
    assert_fails(found, "schema", pattern)


def test_a_policy_that_needs_itself_is_found(bundle: Path) -> None:
    for path, change in (
        ("policies/threshold.json", lambda d: d.update(members=["careful"])),
        ("bundle.json", lambda d: d["policies"]["threshold"].update(members=["careful"])),
    ):
        forge(bundle, path, change)
    assert_fails(check(bundle), "schema", "needs itself: .*threshold.*careful|needs itself: .*careful.*threshold")


def test_a_pickle_is_never_opened_as_one(bundle: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(bundle.parent / "exploded"),))

    (bundle / "model/weights.safetensors").write_bytes(pickle.dumps(Bomb()))
    toy.reseal(bundle)
    assert_fails(check(bundle), "schema", "weights.safetensors: is not a safetensors file")
    assert not (bundle.parent / "exploded").exists()


@pytest.mark.parametrize("path", ["model/code.py", "model/weights.bin", "model/weights.pt", "notes"])
def test_files_of_other_kinds_are_refused_even_when_listed(bundle: Path, path: str) -> None:
    (bundle / path).write_text("x")
    toy.reseal(bundle)
    assert_fails(check(bundle), "schema", f"{path}: is of a kind of file")


@pytest.mark.parametrize(
    ("path", "change", "pattern"),
    [
        ("model/model.json", lambda d: d["backbone"].update(use="mean_color"), 'did you mean "mean_colour"'),
        ("model/model.json", lambda d: d["head"]["options"].update(nope=1), "nope"),
        ("model/model.json", lambda d: d["head"].update(use="unknown"), "unknown"),
        ("policies/careful.json", lambda d: d["options"].update(member=3), "member"),
    ],
)
def test_an_unknown_component_or_option_fails_the_plugins(
    bundle: Path, path: str, change: Callable[[Any], None], pattern: str
) -> None:
    forge(bundle, path, change)
    found = check(bundle)
    assert found.levels[Level.SCHEMA] == "ok", messages(found)
    assert_fails(found, "plugins", pattern)
    assert all(str(problem.origin) == path for problem in found.failures)


def test_an_unknown_policy_component_fails_the_plugins(bundle: Path) -> None:
    toy.edit(bundle / "policies/careful.json", lambda d: d.update(use="nowhere"))
    forge(bundle, "bundle.json", lambda d: d["policies"]["careful"].update(use="nowhere"))
    assert_fails(check(bundle), "plugins", 'unknown policy "nowhere"')


def test_a_plugin_may_refuse_a_bundle(pristine: Path) -> None:
    plugin = toy.ToyPlugin([Problem("too large for the edge")])
    found = verify(pristine, "replay", toy.plugins(plugin))
    assert_fails(found, "plugins", "too large for the edge")
    assert [seen.path for seen in plugin.seen] == [pristine.resolve()]
    assert plugin.seen[0].policies.keys() == {"threshold", "careful"}


def rewrite_weights(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(bundle / "model/weights.safetensors")
    change(tensors)
    save_file(tensors, bundle / "model/weights.safetensors")
    toy.reseal(bundle)


def test_weights_that_do_not_fit_fail_to_load(bundle: Path) -> None:
    rewrite_weights(bundle, lambda tensors: tensors.pop("head.bias"))
    assert_fails(check(bundle), "load", "missing head.bias")


def test_weights_that_are_not_finite_fail_to_load(bundle: Path) -> None:
    rewrite_weights(bundle, lambda tensors: tensors["head.bias"].fill(float("nan")))
    assert_fails(check(bundle), "load", "head.bias")


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_weights_of_another_dtype_fail_to_load(bundle: Path, dtype: str) -> None:
    rewrite_weights(bundle, lambda tensors: tensors.update({"head.bias": tensors["head.bias"].astype(dtype)}))
    found = check(bundle)
    assert_fails(found, "load", f"weights.safetensors: .*head.bias is {dtype}, not float32")


@pytest.mark.parametrize(
    ("architecture", "reason"), [({}, "'width' is missing"), ({"width": 5}, "the width must be 4")]
)
def test_an_architecture_that_cannot_be_built_is_the_fault_of_the_model_document(
    bundle: Path, architecture: dict[str, int], reason: str
) -> None:
    forge(bundle, "model/model.json", lambda d: d["backbone"].update(architecture=architecture))
    found = check(bundle)
    assert_fails(found, "load", "the backbone mean_colour cannot be built as it is described: " + reason)
    assert [str(problem.origin) for problem in found.failures] == ["model/model.json"]
    assert "Error" not in " ".join(messages(found))


def test_a_policy_that_cannot_be_restored_fails_to_load(bundle: Path) -> None:
    forge(bundle, "policies/careful.json", lambda d: d["state"].pop("cut"))
    assert_fails(check(bundle), "load", "careful.json: cannot be restored")


def test_other_weights_fail_the_replay(bundle: Path) -> None:
    """The forger has resealed the bundle; only what the model does gives it away."""
    rewrite_weights(bundle, lambda tensors: tensors["head.weight"].__imul__(1.01))
    found = check(bundle)
    assert found.levels[Level.LOAD] == "ok"
    assert_fails(found, "replay", "the logits are .* from the expected ones")


def test_a_moved_cut_fails_the_replay(bundle: Path) -> None:
    forge(bundle, "policies/threshold.json", lambda d: d["state"].update(cut=1.0))
    assert_fails(check(bundle), "replay", "threshold decides no_roadwork, not roadwork")


def test_other_golden_decisions_fail_the_replay(bundle: Path) -> None:
    def change(document: Any) -> None:
        row = document["decisions"]["careful"][0]
        row.update(label=None, abstain=True)

    forge(bundle, "golden/expected.json", change)
    assert_fails(check(bundle), "replay", "careful decides no_roadwork, not to abstain")


def test_a_bundle_of_a_later_format_says_so(bundle: Path) -> None:
    toy.edit(bundle / "bundle.json", lambda d: d.update(format_version=2))
    assert_fails(check(bundle), "files", "is of format 2, which this roadwork does not know .use a newer roadwork")


def test_a_version_that_differs_is_a_warning(bundle: Path) -> None:
    forge(bundle, "bundle.json", lambda d: d["provenance"]["plugins"]["toy"].update(version="9"))
    found = check(bundle)
    assert found.ok
    assert found.warnings == ("made with (in memory) 9, 0 is installed",)


def test_what_is_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such bundle"):
        verify(tmp_path / "nowhere", "files", toy.plugins())
    (tmp_path / "file").write_text("x")
    assert not verify(tmp_path / "file", "files", toy.plugins()).ok
    assert messages(verify(tmp_path, "schema", toy.plugins())) == ["bundle.json: is missing"]


def test_failures_name_the_whole_path(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    with pytest.raises(VerificationError) as raised:
        check(bundle).raise_for_failures()
    assert str(raised.value) == f"{bundle}/README.md: is missing"
    assert raised.value.exit_code == 4
