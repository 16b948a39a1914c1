"""`roadwork plugins`: what it prints, its exit codes, and that it never imports torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli

from roadwork_core.cli import main
from tests.plugins.sites import place, roadwork, write_plugin


def test_list_gives_provenance_and_components(tmp_path: Path) -> None:
    done = roadwork("plugins", "list", "--json", site=place(tmp_path, "acme_losses"))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "roadwork.plugins/1"
    acme = next(plugin for plugin in document["plugins"] if plugin["name"] == "acme")
    assert {key: acme[key] for key in ("distribution", "version", "api", "status", "cause")} == {
        "distribution": "acme-losses",
        "version": "1.2.0",
        "api": 1,
        "status": "ok",
        "cause": None,
    }
    (component,) = acme["components"]
    assert (component["kind"], component["name"], component["use"]) == ("loss", "focal", "acme/focal")
    file, _, line = component["source"].rpartition(":")
    assert Path(file) == tmp_path / "acme_losses" / "__init__.py"
    assert int(line) > 0


def test_list_shows_broken_plugins_with_their_cause_and_exits_0(tmp_path: Path) -> None:
    done = roadwork("plugins", "list", site=place(tmp_path, "broken_import", "broken_exit", "broken_api"))
    assert done.returncode == 0
    assert "ModuleNotFoundError: No module named 'a_library_that_is_not_installed'" in done.stdout
    assert "SystemExit: 3" in done.stdout
    assert "component API 99" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_what_a_plugin_prints_while_it_loads_is_not_in_the_results(tmp_path: Path) -> None:
    done = roadwork("plugins", "list", "--json", site=place(tmp_path, "broken_import"))
    assert "must not reach" not in done.stdout
    assert json.loads(done.stdout)


@pytest.mark.parametrize("action", [["list"], ["show"], ["show", "loss/focal"], ["check"]])
def test_no_action_imports_torch(action: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "heavy = {'torch', 'transformers', 'torchvision', 'sklearn', 'matplotlib'}\n"
        "atexit.register(lambda: print('heavy:', sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
    )
    done = roadwork("plugins", *action, site=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "heavy: []" in done.stderr


def test_show_documents_a_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "loss/focal"]) == 0
    text = capsys.readouterr().out
    assert "Focal loss" in text
    assert "gamma: number, >= 0, default 2.0" in text
    assert "alpha: number (or absent), >= 0, <= 1, default absent" in text
    table = tomli.loads(text[text.index("[loss]") :])
    assert table["loss"]["use"] == "focal"
    assert table["loss"]["gamma"] == 2.0


def test_show_json_is_the_same_for_each_way_to_name_a_component(capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for name in ("loss/focal", "loss/losses/focal", "losses/focal", "roadwork-losses/focal"):
        assert main(["plugins", "show", name, "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert all(document == documents[0] for document in documents)
    (component,) = documents[0]["components"]
    gamma = next(field for field in component["fields"] if field["name"] == "gamma")
    assert gamma["required"] is False
    assert (gamma["type"], gamma["default"], gamma["bounds"]) == ("number", 2.0, ">= 0")
    assert gamma["help"]


def test_show_a_kind_lists_its_components(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "loss"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(name for name in names if name.startswith("loss/"))
    assert {"loss/cross_entropy", "loss/focal"} <= set(names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loss/focl", 'did you mean "focal"?'),
        ("focal", 'did you mean "loss/focal"?'),
        ("los/focal", 'did you mean "loss/focal"?'),
        ("nothing_like_it", "lists everything"),
    ],
)
def test_show_an_unknown_name_is_one_line_with_the_nearest(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "show", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert said in captured.err


def test_show_an_ambiguous_name_lists_both(tmp_path: Path) -> None:
    done = roadwork("plugins", "show", "loss/focal", site=place(tmp_path, "acme_losses"))
    assert done.returncode == 2
    assert 'write "acme/focal" or "losses/focal"' in done.stderr
    assert roadwork("plugins", "show", "loss/acme/focal", site=tmp_path).returncode == 0


def test_show_tells_earlier_names_of_options(tmp_path: Path) -> None:
    done = roadwork("plugins", "show", "loss/rival/focal", site=place(tmp_path, "rival_losses"))
    assert "focus: earlier name of gamma" in done.stdout


def test_check_passes_on_the_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check"]) == 0
    assert capsys.readouterr().out.startswith("ok: ")


def test_check_of_a_broken_plugin_is_4_and_of_another_0(tmp_path: Path) -> None:
    site = place(tmp_path, "broken_exit", "acme_losses")
    done = roadwork("plugins", "check", "--json", site=site)
    assert done.returncode == 4
    document = json.loads(done.stdout)
    assert document["ok"] is False
    assert document["failures"] == [{"plugin": "broken_exit", "component": None, "problems": ["SystemExit: 3"]}]
    assert roadwork("plugins", "check", "acme", site=site).returncode == 0
    assert roadwork("plugins", "check", "broken_exit", site=site).returncode == 4


def test_check_of_a_component_that_does_not_conform_is_4_and_says_why(tmp_path: Path) -> None:
    body = (
        "from roadwork_core import component, hookimpl, option\n"
        "@component('loss', 'sloppy')\nclass Sloppy:\n"
        "  gamma: int = option(default=2.5)\n"
        "  def build(self, ctx): return None\n"
        "@hookimpl\ndef roadwork_components(): return [Sloppy]\n"
    )
    done = roadwork("plugins", "check", site=write_plugin(tmp_path, "sloppy_plugin", body))
    assert done.returncode == 4
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: sloppy_plugin: ")]
    assert any("has no docstring" in line for line in lines)
    assert any("gamma has no help" in line for line in lines)
    assert any("2.5" in line for line in lines)


def test_check_of_what_is_not_installed_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "loses"]) == 2
    assert 'did you mean "losses"?' in capsys.readouterr().err


def test_a_restriction_is_said_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ROADWORK_PLUGINS", "losses")
    assert main(["plugins", "list"]) == 0
    captured = capsys.readouterr()
    assert "ROADWORK_PLUGINS restricts" in captured.err
    assert [line.split()[0] for line in captured.out.splitlines() if not line.startswith(" ")] == ["plugin", "losses"]


def test_new_writes_a_package_and_says_what_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", "loss", "my_loss", "--dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    written = [Path(line) for line in captured.out.splitlines()]
    assert tmp_path / "my_loss" / "pyproject.toml" in written
    assert all(path.is_file() for path in written)
    assert "pytest" in captured.err
    assert main(["plugins", "new", "loss", "my_loss", "--dir", str(tmp_path)]) == 2
    assert "already there" in capsys.readouterr().err
