"""`roadwork policy fit` and `policy apply` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roadwork_core.cli import main

pytest.importorskip("roadwork_policies")


def write_scores(
    path: Path, n: int, *, seed: int = 0, classes: int = 2, groups: bool = True, labels: bool = True
) -> Path:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), y] += 2
    header = [f"logit_{index}" for index in range(classes)] + ["label"] * labels + ["group"] * groups
    rows = [[*map(repr, (2 * logits[i]).tolist())] + [str(y[i])] * labels + [f"s{i // 4}"] * groups for i in range(n)]
    path.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "scores.csv", 400)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_fit_prints_the_cut_the_sample_value_marked_so_and_the_cross_fitted_estimate(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "fit", "threshold", "--scores", str(scores), "--out", str(tmp_path / "t.json")]) == 0
    out, err = capsys.readouterr()
    assert "threshold (threshold), fitted to 400 samples in 100 groups" in out
    for figure in (
        "threshold: ",
        "threshold probability: ",
        "in sample:",
        "optimistic, not a result",
        "cross fitted: 0.",
    ):
        assert figure in out
    assert "(95 %)" in out
    assert "wrote" in err
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["schema"] == "roadwork.policy/1"
    assert document["fitted_on"]["n"] == 400
    assert document["fitted_on"]["groups"] == 100


def test_apply_prints_one_object_a_row_with_the_keys_of_the_contract(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, new = tmp_path / "s.json", write_scores(tmp_path / "new.csv", 50, seed=1, labels=False, groups=False)
    assert main(["policy", "fit", "scrc", "--scores", str(scores), "--out", str(policy), "-q"]) == 0
    capsys.readouterr()
    assert main(["policy", "apply", str(policy), "--scores", str(new), "--json"]) == 0
    rows = lines(capsys.readouterr().out)
    assert [row["row"] for row in rows] == list(range(50))
    for row in rows:
        assert list(row) == ["row", "label", "abstain", "score", "set", "reason"]
        assert row["abstain"] == (row["label"] is None)
        assert 0 <= row["score"] <= 1
        assert set(row["set"]) <= {0, 1}
    assert {row["abstain"] for row in rows} == {True, False}


def test_apply_agrees_with_the_cut_that_fit_reports(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "t.json"
    arguments = ["policy", "fit", "threshold", "--scores", str(scores), "--out", str(policy), "--json"]
    assert main([*arguments, "--set", 'method="empirical"', "--set", "target_prior=0.3"]) == 0
    document = lines(capsys.readouterr().out)[0]
    assert document["options"]["target_prior"] == 0.3
    assert main(["policy", "apply", str(policy), "--scores", str(scores), "--json"]) == 0
    table = np.loadtxt(scores, delimiter=",", skiprows=1, usecols=(0, 1))
    expected = (table[:, 1] - table[:, 0] >= document["summary"]["threshold"]).astype(int)
    assert [row["label"] for row in lines(capsys.readouterr().out)] == expected.tolist()


def test_a_hybrid_file_holds_its_members_and_decides_alone(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, given = tmp_path / "h.json", tmp_path / "s.json"
    fit = ["policy", "fit", "scrc", "--scores", str(scores), "--set", "alpha=0.2", "--out", str(given), "-q"]
    assert main(fit) == 0
    arguments = ["policy", "fit", "hybrid", "--scores", str(scores), "--member", str(given), "--out", str(policy)]
    assert main([*arguments, "--set", "target_error=0.0"]) == 0
    given.unlink()
    document = json.loads(policy.read_text())
    assert sorted(document["member_policies"]) == ["scrc", "threshold"]
    assert document["member_policies"]["scrc"]["options"]["alpha"] == 0.2
    capsys.readouterr()
    assert main(["policy", "apply", str(policy), "--scores", str(scores), "--json"]) == 0
    assert len(lines(capsys.readouterr().out)) == 400


def test_classes_and_the_positive_one_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, policy = write_scores(tmp_path / "three.csv", 300, classes=3), tmp_path / "t.json"
    arguments = ["policy", "fit", "threshold", "--scores", str(scores), "--out", str(policy), "-q"]
    assert main([*arguments, "--classes", "car, works,tree", "--positive", "works"]) == 0
    document = json.loads(policy.read_text())
    assert (document["classes"], document["positive"]) == (["car", "works", "tree"], 1)
    capsys.readouterr()
    assert main(["policy", "apply", str(policy), "--scores", str(scores)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 300
    assert {line.split()[1] for line in out.splitlines()} == {"car", "works", "tree"}
    assert "answered 300 of 300" in err
    assert main([*arguments, "--positive", "dog"]) == 2
    assert main([*arguments, "--classes", "a,b"]) == 2


def test_the_same_fit_writes_the_same_bytes(scores: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main(["policy", "fit", "hybrid", "--scores", str(scores), "--out", str(tmp_path / name), "-q"]) == 0
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the single line on stderr."""
    capsys.readouterr()
    code = main(arguments)
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    return code, err[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["threshold", "--set", "metrc=1"], 2, 'did you mean "metric"?'),
        (["threshold", "--set", 'metric="mmc"'], 2, "metric"),
        (["threshold", "--set", "metric=mcc"], 2, "a string needs quotes"),
        (["threshold", "--set", "metric"], 2, "is not KEY=VALUE"),
        (["threshold", "--set", "target_prior=1.0"], 2, "must be below 1"),
        (["treshold"], 2, 'did you mean "threshold"?'),
        (["scrc", "--set", "alpha=0.001"], 1, "INFEASIBLE: coverage 0.999 cannot be promised"),
        (["threshold", "--seed", "-1"], 2, "--seed must not be negative"),
        (["threshold", "--member", "none.json"], 2, "none.json: cannot read the policy"),
    ],
)
def test_a_fit_that_cannot_be_is_one_clear_line(
    arguments: list[str], code: int, message: str, scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    got, line = failure(["policy", "fit", *arguments, "--scores", str(scores), "--out", str(out)], capsys)
    assert got == code
    assert message in line
    assert not out.exists()


def test_a_bad_cell_is_named_by_file_line_and_column(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = scores.read_text().splitlines()
    text[6] = "oops" + text[6][text[6].index(",") :]
    scores.write_text("\n".join(text))
    code, line = failure(
        ["policy", "fit", "threshold", "--scores", str(scores), "--out", str(tmp_path / "t.json")], capsys
    )
    assert code == 2
    assert line == f"error: {scores}:7: column logit_0: 'oops' is not a number"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "policy.json:1: is not JSON"),
        ("[]", "is not a roadwork.policy/1 document but 'list'"),
        ('{"schema": "roadwork.policy/1"}', "name is not a string"),
        ("[" * 100_000, "is not a policy file"),
    ],
)
def test_what_is_no_policy_file_is_one_clear_line(
    content: str, message: str, scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.json"
    path.write_text(content)
    code, line = failure(["policy", "apply", str(path), "--scores", str(scores)], capsys)
    assert code == 2
    assert message in line


def test_logits_of_another_number_of_classes_are_refused(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, three = tmp_path / "t.json", write_scores(tmp_path / "three.csv", 20, classes=3)
    assert main(["policy", "fit", "threshold", "--scores", str(scores), "--out", str(policy), "-q"]) == 0
    code, line = failure(["policy", "apply", str(policy), "--scores", str(three)], capsys)
    assert code == 2
    assert "has 3 logits per row, the policy decides between 2 classes" in line


def test_errors_are_json_where_json_was_asked_for(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["policy", "fit", "scrc", "--set", "alpha=0.001", "--scores", str(scores), "--json"]
    assert main([*arguments, "--out", str(tmp_path / "s.json")]) == 1
    document = lines(capsys.readouterr().out)[0]
    assert document["exit_code"] == 1
    assert "INFEASIBLE" in document["errors"][0]["message"]


def _grouped(path: Path, wrong: set[int], *, groups: int = 30, size: int = 20, named: bool = True) -> Path:
    """Groups of `size` rows that stand and fall together; the cut of `_cut_at_zero` errs on all rows of `wrong`."""
    rows = [f"0.0,{1.0 if group in wrong else -1.0},0,g{group}" for group in range(groups) for _ in range(size)]
    header = f"logit_0,logit_1,label,{'group' if named else 'other'}"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _interval(err: str) -> tuple[float, float]:
    low, high = err.split("error of the answers", 1)[1].split("[", 1)[1].split("]", 1)[0].split(",")
    return float(low), float(high)


def test_the_error_of_answers_in_groups_is_as_unsure_as_the_groups_are_few(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "t.json"
    assert main(["policy", "fit", "threshold", "--scores", str(scores), "--out", str(policy)]) == 0
    document = json.loads(policy.read_text())
    document["state"]["threshold"] = 0.0
    policy.write_text(json.dumps(document))
    seen = {}
    for name, wrong, named in (("tied", {1, 2, 3}, True), ("free", {1, 2, 3}, False), ("none", set(), True)):
        capsys.readouterr()
        file = _grouped(tmp_path / f"{name}.csv", wrong, named=named)
        assert main(["policy", "apply", str(policy), "--scores", str(file)]) == 0
        seen[name] = capsys.readouterr().err
    # 3 of 30 groups: about 0.1 +- 2 sqrt(0.1 * 0.9 / 30); 60 independent rows of 600 would be 0.1 +- 0.024.
    low, high = _interval(seen["tied"])
    assert "bootstrap of 30 groups" in seen["tied"]
    assert low < 0.04
    assert high > 0.18
    assert _interval(seen["free"]) == pytest.approx((0.0772, 0.1268), abs=1e-4)  # scipy's binomtest(60, 600)
    assert "(95 %, exact; " in seen["free"]
    assert _interval(seen["none"]) == pytest.approx((0.0, 0.1157), abs=1e-4)  # scipy's binomtest(0, 30)


def test_fit_names_a_folder_that_was_given_as_the_file_to_write(
    scores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "fit", "threshold", "--scores", str(scores), "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "is a folder" in err
    assert "policy.json" in err
