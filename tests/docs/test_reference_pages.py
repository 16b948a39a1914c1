"""What the reference pages list is what there is, neither less nor more."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.bundle.format import ONNX, REQUIRED, SUFFIXES, Level
from roadwork_core.cli import COMMANDS, main
from roadwork_core.errors import ExitCode
from roadwork_core.policies import read_scores
from roadwork_core.runs.fingerprint import WITHOUT_EFFECT
from roadwork_core.spec import SPLITS
from roadwork_core.stages import STAGES
from tests.plugins.test_reference import generator

from .pages import ROOT, blocks
from .shell import Line, Shell

REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The table below a heading: what its first cells name in code, and their further cells."""
    part = re.split(r"^#{2,3} ", text.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found: dict[str, list[str]] = {}
    for line in part.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and "`" in cells[0]:
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = cells[1:]
    return found


@pytest.mark.parametrize("name", ["cli.md", "spec.md", "run-directory.md"])
def test_what_is_generated_is_current(name: str) -> None:
    assert page(name) == generator().pages()[REFERENCE / name], "run python docs/generate.py"


def test_defaults_are_told_and_not_how_they_would_be() -> None:
    assert re.findall(r"%\(\w+\)s", page("cli.md")) == []


def test_every_command_has_its_section_and_every_json_its_row() -> None:
    text = page("cli.md")
    headings = re.findall(r"^#{2,3} roadwork (.+)$", text, flags=re.MULTILINE)
    assert set(COMMANDS) <= {heading.split()[0] for heading in headings}
    described = rows(text, "JSON documents")
    for heading in headings:
        section = re.split(r"^#{2,3} ", text.partition(f" roadwork {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        assert ("--json" in section) == (heading in described), (
            f"{heading}: its JSON needs a row under JSON documents in docs/reference/cli.md, or has one and prints none"
        )


def test_the_exit_codes_are_those_of_the_program() -> None:
    part = page("cli.md").partition("# Exit codes\n")[2].partition("\n## ")[0]
    listed = {int(code): name for code, name in re.findall(r"^\| (\d+) \| (\w*) ?\|", part, flags=re.MULTILINE)}
    assert {code: name for code, name in listed.items() if code < 128} == {
        int(code): code.name.lower() for code in ExitCode
    }
    assert [code for code in listed if code > 128] == [130, 141]


def test_the_files_and_keys_of_a_bundle_are_those_of_a_real_one(shell: Shell) -> None:
    text = page("bundle.md")
    bundle = shell.folder / "runs" / "quickstart" / "bundle" / "quickstart"
    listed = set(rows(text, "Files"))
    assert set(REQUIRED) | {"bundle.json", ONNX, "policies/<name>.json"} == listed
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {re.sub(r"policies/[^/]+\.json", "policies/<name>.json", path) for path in there} == listed
    assert set(re.findall(r"`(\.\w+)`", text.partition("Files may end in")[2].partition("\n")[0])) == SUFFIXES
    assert set(rows(text, "bundle.json")) - {"evidence"} >= set(json.loads((bundle / "bundle.json").read_bytes())) - {
        "evidence"
    }
    assert list(rows(text, "Verification")) == [str(level) for level in Level]


def test_the_folders_and_files_of_a_run_are_listed(shell: Shell) -> None:
    tree = page("run-directory.md").partition("```")[2].partition("```")[0]
    run = shell.folder / "runs" / "quickstart"
    assert all(f"{stage.name}/" in tree for stage in STAGES)
    for path in run.rglob("*"):
        inside = path.relative_to(run).as_posix()
        if path.is_dir() or inside.startswith((".", "bundle/")) or path.name in ("manifest.json",):
            continue
        name = re.sub(r"^(train|val_select|val_calib|test)\.", "<split>.", path.name)
        name = re.sub(r"^threshold\.", "<name>.", name)
        assert name in tree or path.suffix == ".png", inside


def test_the_keys_of_a_manifest_are_listed(shell: Shell) -> None:
    manifest = json.loads((shell.folder / "runs" / "quickstart" / "train" / "manifest.json").read_bytes())
    assert set(rows(page("run-directory.md"), "Stages")) == set(manifest)


def test_the_keys_without_effect_are_named() -> None:
    line = next(line for line in page("run-directory.md").splitlines() if "keys have no effect" in line)
    assert re.findall(r"`([^`]+)`", line) == list(WITHOUT_EFFECT)


def test_the_keys_of_a_policy_and_of_a_decision_are_listed(shell: Shell) -> None:
    text = page("policy-files.md")
    assert shell.run(Line(0, "roadwork policy fit hybrid --scores logits.csv --out p.json", 0)) == 0
    document = json.loads((shell.folder / "p.json").read_bytes())
    assert set(rows(text, "The policy document")) == set(document)
    shell.output = ""
    assert shell.run(Line(0, "roadwork policy apply p.json --scores logits.csv --json", 0)) == 0
    decision = json.loads(shell.output.splitlines()[0])
    assert set(rows(text, "Applying a policy")) == set(decision)


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("run specs/quickstart.toml --json", ("run_dir", "bundle_dir", "report", "status", "stages", "metrics")),
        ("run specs/quickstart.toml --dry-run --json", ("run_dir", "status", "stages")),
        ("spec check specs/quickstart.toml --json", ("ok", "name", "components", "warnings")),
        ("spec diff specs/quickstart.toml specs/quickstart.toml --json", ("a", "b", "differences")),
        ("plugins list --json", ("schema", "plugins")),
        ("plugins show loss/focal --json", ("schema", "components")),
        ("plugins check losses --json", ("schema", "ok", "checked", "failures")),
        ("runs list --json", ("schema", "runs")),
        (
            "runs show quickstart --json",
            ("name", "run_dir", "status", "finished", "bundle_dir", "mcc", "sweep", "pruned", "challenge", "stages"),
        ),
        (
            "data preview specs/quickstart.toml --set data.n=200 --set data.workers=0 --json",
            ("out", "split", "size", "augmentations", "samples"),
        ),
        (
            "bundle verify runs/quickstart/bundle/quickstart --level files --json",
            ("bundle", "bundle_id", "ok", "level", "backends", "levels", "failures", "warnings"),
        ),
        (
            "bundle diff runs/quickstart/bundle/quickstart runs/quickstart/bundle/quickstart --json",
            ("before", "after", "identical", "differences"),
        ),
    ],
)
def test_the_json_of_a_command_is_as_described(command: str, keys: tuple[str, ...], shell: Shell) -> None:
    assert shell.run(Line(0, f"roadwork {command}", 0)) == 0, shell.output
    document: Any = json.loads(shell.output.strip().splitlines()[-1])
    assert set(keys) | {"schema"} >= set(document) >= set(keys)
    row = rows(page("cli.md"), "JSON documents")[" ".join(command.split()[:2]) if command[:4] != "run " else "run"]
    assert "schema" not in document or document["schema"] in row[0]


def test_the_lines_of_predict_are_as_described(shell: Shell) -> None:
    (shell.folder / "new-pictures" / "3.png").write_text("no picture")
    predict = "roadwork predict runs/quickstart/bundle/quickstart new-pictures --json -q"
    assert shell.run(Line(0, predict, 0)) == ExitCode.FAILED
    lines = [json.loads(line) for line in shell.output.splitlines() if line.startswith("{")]
    good, failed = rows(page("cli.md"), "JSON documents")["predict"][0].split("; or ")
    assert re.findall(r"`(\w+)`", good) == list(lines[0])
    assert re.findall(r"`(\w+)`", failed) == list(lines[2])
    assert len(lines) == 3


def test_the_scores_file_on_the_page_can_be_read(tmp_path: Path) -> None:
    block = next(block for block in blocks(REFERENCE / "policy-files.md") if block.language == "csv")
    (tmp_path / "scores.csv").write_text(block.text)
    scores = read_scores(tmp_path / "scores.csv")
    assert len(scores) == 3
    assert scores.groups is not None
    assert set(rows(page("policy-files.md"), "The scores file")) >= set(block.text.split("\n", 1)[0].split(","))


def test_an_infeasible_guarantee_says_so(shell: Shell) -> None:
    shell.run(Line(0, "head -n 17 logits.csv > few.csv", 0))
    assert shell.run(Line(0, "roadwork policy fit scrc --scores few.csv --out few.json", 0)) == ExitCode.FAILED
    assert re.search(r"INFEASIBLE.*at least \d+", shell.output)
    assert not (shell.folder / "few.json").exists()


def test_an_error_in_json_is_as_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", "check", "nowhere.toml", "--json"]) == ExitCode.USAGE
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"status", "errors", "exit_code"}
    keys = ", ".join(f'"{key}"' for key in document["errors"][0])
    assert '`{"status": "error", "errors": [{' + keys + "}" in page("cli.md")


@pytest.mark.parametrize("split", SPLITS)
def test_who_sees_a_split_is_said_rightly(split: str) -> None:
    table = rows("# Four splits\n" + (ROOT / "docs" / "explanation" / "splits.md").read_text(), "Four splits")
    files = (f"prepare/samples/{split}.jsonl", f"score/{split}.csv")
    seen = [stage.name for stage in STAGES if any(file in stage.reads for file in files)]
    assert re.findall(r"`(\w+)`", table[split][-1]) == seen


RULES = 'name = "x"\n[data]\nuse = "image_folder"\nroot = "pictures"\n[backbone]\nuse = "small_cnn"\n'


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("[train]\nepochs = 3.0\n", "expected an integer"),
        ('[train]\nepochs = "3"\n', "expected an integer"),
        ("[train]\ncompile = 1\n", "expected true or false"),
        ("[train]\nclip_norm = nan\n", "must be a finite number"),
        ('extends = "nowhere.toml"\n', "does not exist"),
        ('unset = ["loss"]\n', "is not set"),
        ('description = "${env:SURELY_NOT_SET}"\n', "is not set"),
        ('description = "${train.epochs}"\n', "defaults"),
        ('description = "a ${data}"\n', "is a table"),
        ("spec_version = 2\n", "newer"),
    ],
)
def test_what_the_rules_of_a_spec_refuse(
    extra: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.toml"
    file.write_text(RULES + extra if extra.startswith("[") else extra + RULES)
    assert main(["spec", "check", str(file)]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def resolved(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["spec", "show", *arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_what_the_rules_of_a_spec_allow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "first.toml").write_text(f'description = "${{spec_dir}}"\n{RULES}[loss]\nlabel_smoothing = 0.1\n')
    (folder / "second.toml").write_text('seed = 1\nname = "second"\n[[augment]]\nuse = "horizontal_flip"\n')
    spec = tmp_path / "spec.toml"
    spec.write_text('extends = ["deep/first.toml", "deep/second.toml"]\n[train]\nepochs = "${seed}"\n')
    values = resolved(capsys, str(spec))
    assert values["name"] == "second", "later bases go over earlier ones"
    assert values["description"] == str(folder), "${spec_dir} is the folder of the file in which it is written"
    assert values["train"]["epochs"] == 1, "a variable alone keeps its type"
    assert values["loss"]["use"] == "cross_entropy", "a slot keeps its default component"
    assert values["loss"]["label_smoothing"] == 0.1
    set_after = resolved(capsys, str(spec), "--set", "seed=5", "--unset", "seed", "--set", "optimizer.lr=1")
    assert set_after["seed"] == 5, "every --unset is done before the first --set"
    assert set_after["optimizer"]["lr"] == 1.0, "an integer may stand for a number"
    replaced = resolved(capsys, str(spec), "--set", 'loss={use="cross_entropy"}', "--set", "augment.0.p=0.25")
    assert replaced["loss"]["label_smoothing"] == 0.0, "a table that is set replaces the whole table"
    assert replaced["augment"][0]["p"] == 0.25
    placed = resolved(capsys, str(spec), "--set", 'data.root="${spec_dir}/x"')
    assert placed["data"]["root"] == f"{tmp_path}/x", "after --set it is the folder of the spec"


def test_a_relative_path_is_relative_to_the_current_folder(shell: Shell, tmp_path: Path) -> None:
    (shell.folder / "x").mkdir()
    (shell.folder / "x" / "x.toml").write_text(RULES)
    assert shell.run(Line(0, "roadwork run x/x.toml --dry-run", 0)) == 0, shell.output
    shell.folder = shell.folder / "x"
    assert shell.run(Line(0, "roadwork run x.toml --dry-run", 0)) == ExitCode.FAILED
    assert "pictures: no such folder" in shell.output


def test_the_first_levels_of_verification_import_no_torch_and_no_plugin(shell: Shell) -> None:
    code = (
        "import sys; from roadwork_core.cli import main; "
        "code = main(['bundle', 'verify', 'runs/quickstart/bundle/quickstart', '--level', 'schema']); "
        "print([m for m in sys.modules if m == 'torch' or m.startswith(('roadwork_losses', 'roadwork_policies'))])"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shell.folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    with contextlib.chdir(shell.folder):
        assert main(["bundle", "verify", "runs/quickstart/bundle/quickstart", "--level", "schema"]) == 0
