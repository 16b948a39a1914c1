"""`roadwork leaderboard` against a server that misbehaves: what it prints, keeps, sends and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.cli import main
from roadwork_core.feedback import FeedbackStore, Label, Seen
from roadwork_core.kinds import Entry
from roadwork_core.metrics.reward import expected_reward
from roadwork_core.testing.stand_in_board import Request, StandInBoard, stand_in_board

Run = Callable[..., tuple[int, str, str]]
SPEC = """\
name = "watched"
[data]
use = "synthetic_roadwork"
[backbone]
use = "small_cnn"
[leaderboard]
use = "http"
attempts = 1
timeout = 5.0
entry = "mine"
alert_drop = 1
"""


@pytest.fixture
def board() -> Iterator[StandInBoard]:
    with stand_in_board() as made:
        yield made


@pytest.fixture
def run(
    board: StandInBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.toml").write_text(f'{SPEC}url = "{board.url}"\n')

    def call(action: str, *arguments: str) -> tuple[int, str, str]:
        code = main(["leaderboard", action, "w.toml", *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def place(board: StandInBoard, rank: int) -> None:
    others = [Entry(name=f"<i>{place}\x1b[31m", score=float(-place)) for place in (1, 2, 3)]
    board.shows([*others, Entry(name="mine", score=0.5 - rank)])


def test_one_look_prints_where_the_entry_stands_and_changes_nothing_there(run: Run, board: StandInBoard) -> None:
    code, out, _ = run("watch")
    assert code == 0
    assert re.fullmatch(
        r"\S+Z  rank 2 of 4 \(shared with 1\)  score 0\.25  to the leader -0\.25  to the next -0\.25  percentile 50\n",
        out,
    )
    assert [request.method for request in board.requests] == ["GET"]


def test_a_drop_is_exit_code_4_once_and_stands_in_the_report(run: Run, board: StandInBoard, tmp_path: Path) -> None:
    codes = []
    for rank in (1, 2, 2, 1):
        place(board, rank)
        codes.append(run("watch")[0])
    assert codes == [0, 4, 0, 0]
    code, out, _ = run("report", "--json", "--out", "page.html")
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == "roadwork.leaderboard/1"
    assert [poll["rank"] for poll in document["history"]] == [1, 2, 2, 1]
    assert [alert["kind"] for alert in document["alerts"]] == ["drop"]
    assert (document["best_rank"], document["worst_rank"], document["now"]["percentile"]) == (1, 2, 100.0)
    page = (tmp_path / "page.html").read_text()
    assert "<i>1" not in page, "a stranger's name is escaped"
    assert not re.search(r"(src|href)=[\"']?http", page), "the page needs nothing else"
    assert page.count("<svg") == 2
    run("report", "--json", "--out", "again.html")
    assert (tmp_path / "again.html").read_text() == page, "the same history gives the same page"


def test_a_board_that_cannot_be_read_is_exit_code_1_and_kept(run: Run, board: StandInBoard) -> None:
    board.answers = [lambda request: request.say(500)]
    code, out, err = run("watch", "--json")
    assert code == 1
    assert "HTTP 500" in json.loads(out)["error"]
    assert "error: " in err
    board.shows([])
    code, out, _ = run("watch")
    assert (code, "absent from 0 entries" in out) == (0, True)
    code, out, _ = run("report")
    assert code == 0
    assert "HTTP 500" in out


def test_again_and_again_goes_on_after_failures_and_ends_with_the_worst(run: Run, board: StandInBoard) -> None:
    place(board, 1)
    good = board.answers[0]
    place(board, 3)
    board.answers = [good, lambda request: request.say(503), board.answers[0]]
    code, out, _ = run("watch", "--every", "0.05", "--count", "3", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 4
    assert [(line["rank"], line["error"] is None) for line in lines] == [(1, True), (None, False), (3, True)]
    assert [alert["kind"] for line in lines for alert in line["alerts"]] == ["drop"]


def test_a_stranger_commands_no_terminal(run: Run, board: StandInBoard) -> None:
    board.answers = [lambda request: request.say(200, json.dumps([{"name": "\x1b[2J", "score": "x"}]).encode())]
    _, out, err = run("watch")
    assert "\x1b" not in out + err


def hook_of(monkeypatch: pytest.MonkeyPatch, board: StandInBoard, code: int = 204) -> list[dict[str, Any]]:
    """Answers to POST beside the board itself; what was posted."""
    posted: list[dict[str, Any]] = []
    shows = board.answers[0]

    def answer(request: Request) -> None:
        if request.method == "POST":
            posted.append(json.loads(request.body))
            request.say(code, b"")
        else:
            shows(request)

    board.answers = [answer]
    monkeypatch.setenv("HOOK", f"{board.url}/s3cret")
    return posted


def test_a_webhook_is_told_only_where_the_spec_names_one(
    run: Run, board: StandInBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(board, 3)
    posted = hook_of(monkeypatch, board)
    alarm = ("--set", "leaderboard.alert_rank=2")
    assert run("watch", *alarm)[0] == 4
    assert posted == []
    assert run("watch", *alarm, "--history", "other.sqlite", "--set", 'leaderboard.webhook_env="HOOK"')[0] == 4
    assert [one["kind"] for one in posted] == ["rank"]


def test_a_webhook_that_fails_is_told_and_the_look_is_kept(
    run: Run, board: StandInBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(board, 3)
    hook_of(monkeypatch, board, 403)
    options = ("--set", 'leaderboard.webhook_env="HOOK"', "--set", "leaderboard.alert_rank=2")
    code, out, err = run("watch", *options)
    assert code == 4
    assert "rank 3 of 4" in out
    assert "the webhook was not told" in err
    assert "s3cret" not in err + out
    assert json.loads(run("report", "--json")[1])["unsent"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "leaderboard.pathh=1"), 'unknown key "pathh"'),
        (
            ("--set", 'leaderboard.url="http://example.org/"'),
            r"leaderboard\.url: url is not https",
        ),
        (("--set", "leaderboard.alert_drop=0"), "alert_drop: must be at least 1"),
        (("--unset", "leaderboard.entry"), r"w\.toml:6 leaderboard\.entry: whose standing is not said"),
        (("--unset", "leaderboard"), r"has no table \[leaderboard\]"),
        (("--set", 'leaderboard.token_env="NOT_SET_ANYWHERE"'), "NOT_SET_ANYWHERE, which is to hold the token, is not"),
        (("--set", 'leaderboard.webhook_env="NOT_SET_ANYWHERE"'), "NOT_SET_ANYWHERE, which is to hold the webhook"),
        (("--every", "0"), "must be above 0"),
        (("--every", "nan"), "must be above 0"),
        (("--count", "2"), "goes with --every"),
        (("--every", "1", "--count", "0"), "at least 1"),
        (("--history", "w.toml"), "is not a leaderboard history"),
    ],
)
def test_wrong_use_is_exit_code_2_and_says_where(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run("watch", *arguments)
    assert code == 2
    assert re.search(said, err), err


def test_the_webhooks_address_must_be_safe_and_is_not_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://example.org/s3cret")
    code, _, err = run("watch", "--set", 'leaderboard.webhook_env="HOOK"')
    assert code == 2
    assert "HOOK: the address is not https" in err
    assert "s3cret" not in err


def test_a_page_where_a_folder_lies_is_said_by_the_name_that_was_given(run: Run, tmp_path: Path) -> None:
    run("watch")
    (tmp_path / "pages").mkdir()
    code, _, err = run("report", "--out", "pages")
    assert (code, err) == (1, "error: pages: Is a directory\n")


def test_a_report_needs_no_token_and_no_server(run: Run, board: StandInBoard) -> None:
    run("watch")
    seen = len(board.requests)
    code, out, _ = run("report", "--set", 'leaderboard.token_env="NOT_SET_ANYWHERE"')
    assert (code, "rank 2 of 4" in out, len(board.requests)) == (0, True, seen)
    assert run("report", "--history", "nowhere.sqlite")[0] == 2
    code, out, _ = run("report", "--entry", "somebody")
    assert (code, "nothing was seen yet" in out) == (0, True)
    assert run("report", "--since", "0")[0] == 2
    assert "rank 2 of 4" in run("report", "--since", "1")[1]


def test_the_page_of_nobody_is_a_page(run: Run, tmp_path: Path) -> None:
    run("watch", "--entry", "nobody")
    assert run("report", "--entry", "nobody", "--out", "page.html")[0] == 0
    assert "it was not among the 4 entries" in (tmp_path / "page.html").read_text()


def test_the_own_estimate_is_the_reward_of_the_labelled_answers(run: Run, tmp_path: Path) -> None:
    run("watch")
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        for number in range(250):
            truth, said = number % 2, number % 2 if number % 10 else 1 - number % 2
            common = {"time": 1e10, "bundle_id": "b", "policy": "p", "score": 0.5}
            label = None if number % 50 == 49 else ("no_roadwork", "roadwork")[said]
            store.add([Seen(key=str(number), label=label, **common)])  # type: ignore[arg-type]
            store.label([Label(key=str(number), label=("no_roadwork", "roadwork")[truth], time=1.0)])
    code, out, _ = run("report", "--feedback", "f.sqlite", "--json", "--out", "page.html")
    own = json.loads(out)["estimate"]
    assert code == 0
    assert (own["n"], own["positives"], own["abstained"], own["last"]["n"]) == (245, 120, 5, 100)
    recall, specificity = 1.0, 100 / 125
    assert own["reward"]["value"] == pytest.approx(float(expected_reward(recall, specificity)[0]), abs=1e-12)
    assert own["reward"]["low"] < own["reward"]["value"] < own["reward"]["high"]
    assert "Own estimate of the reward" in (tmp_path / "page.html").read_text()
    code, out, _ = run("report", "--feedback", "f.sqlite", "--positive", "no_roadwork")
    assert re.search(r"own      expected reward 0\.\d{3}  \[0\.\d{3}, 0\.\d{3}\]  of 245 labelled answers", out)
    assert run("report", "--feedback", "f.sqlite", "--positive", "elephant")[0] == 1
    assert run("report", "--feedback", "nowhere.sqlite")[0] == 2


def test_logits_are_cut_at_one_half_and_a_tie_is_no_positive(run: Run, tmp_path: Path) -> None:
    run("watch")
    rows = ["logit_0,logit_1,label", "0,1,1", "0,0,1", "1,0,0", "0,0,0"]
    (tmp_path / "s.csv").write_text("\n".join(rows) + "\n")
    own = json.loads(run("report", "--scores", "s.csv", "--json")[1])["estimate"]
    assert own["accuracy"] == 0.75
    assert own["reward"]["value"] == pytest.approx(float(expected_reward(0.5, 1.0)[0]), abs=1e-12)
    (tmp_path / "three.csv").write_text("logit_0,logit_1,logit_2,label\n0,1,2,1\n")
    assert run("report", "--scores", "three.csv")[0] == 2
