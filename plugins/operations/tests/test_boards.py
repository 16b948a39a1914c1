"""Leaderboards as servers and files show them: where the entries lie, and what is no leaderboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from roadwork_operations.boards import File, Http, Metagraph
from roadwork_operations.layouts import parse_csv, parse_json

from roadwork_core.errors import DataError, RoadworkError, UsageError
from roadwork_core.kinds import Entry, LeaderboardContext
from roadwork_core.testing.stand_in_board import ENTRIES, StandInBoard, stand_in_board


@pytest.fixture
def board() -> Iterator[StandInBoard]:
    with stand_in_board() as made:
        yield made


def read(component: Any, **environ: str) -> list[Entry]:
    return list(component.build(LeaderboardContext(environ=environ)).read())


def answers(board: StandInBoard, *documents: Any) -> None:
    bodies = [json.dumps(document).encode() for document in documents]
    board.answers = [lambda request, body=body: request.say(200, body) for body in bodies]  # type: ignore[misc]


def test_entries_are_found_where_they_are_said_to_be() -> None:
    content = b'{"data": {"rows": [{"who": {"id": 7}, "points": 2}]}}'
    found = parse_json(content, entries="data.rows", name="who.id", score="points")
    assert found == [Entry(name="7", score=2.0)]
    assert parse_json(b"[]") == []
    assert parse_json(b'[{"a.b": "x", "score": 1}]', name="a.b") == [Entry(name="x", score=1.0)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "did not answer with JSON"),
        (b"<html>", "did not answer with JSON"),
        (b"\xff\xfe\xfa", "did not answer with JSON"),
        (b"[" * 100_000, "did not answer with JSON"),
        (b"{}", "not an array"),
        (b"[1]", "entry 0"),
        (b'[{"name": "a"}]', "entry 0"),
        (b'[{"name": "", "score": 1}]', "entry 0"),
        (b'[{"name": null, "score": 1}]', "entry 0"),
        (b'[{"name": "a", "score": null}]', "entry 0"),
        (b'[{"name": "a", "score": "1"}]', "no finite score"),
        (b'[{"name": "a", "score": NaN}]', "no finite score"),
        (b'[{"name": "a", "score": 1e999}]', "no finite score"),
        (b'[{"name": "a", "score": 1' + b"0" * 400 + b"}]", "no finite score"),
        (b'[{"name": "a", "score": true}]', "no finite score"),
        (b'[{"name": "\\ud800", "score": 1}]', "is no text"),
        (b'[{"name": "a", "score": 1}, {"name": "a", "score": 2}]', "twice"),
        (b'[{"name": 1, "score": 1}, {"name": "1", "score": 2}]', "twice"),
    ],
)
def test_any_other_answer_is_one_clear_error(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        parse_json(content)
    assert len(str(caught.value)) < 200


def test_a_csv_file_has_a_header_and_its_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "board.CSV"
    path.write_text("\ufeffwho,other,points\na,x,1\nb,x,2.5\n", encoding="utf-8")
    component = File(path=str(path), name="who", score="points")
    assert read(component) == [Entry(name="a", score=1.0), Entry(name="b", score=2.5)]
    for content, said in (
        (b"name,score\na,high\n", "entry 2"),
        (b"name\na\n", 'no column "score"'),
        (b"\xff", "UTF-8"),
    ):
        with pytest.raises(DataError, match=said):
            parse_csv(content)


def test_an_error_about_a_file_names_it(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_text("{}")
    with pytest.raises(DataError, match=r"board\.json: the leaderboard's entries"):
        read(File(path=str(path)))
    with pytest.raises(DataError, match=r"nowhere\.json: the leaderboard cannot be read"):
        read(File(path=str(tmp_path / "nowhere.json")))


def test_a_server_is_only_read_and_given_the_token_as_it_wants_it(board: StandInBoard) -> None:
    assert read(Http(url=board.url)) == list(ENTRIES)
    read(Http(url=board.url, token_env="T"), T="s3cret\n")
    read(Http(url=board.url, token_env="T", authorization="plain"), T="s3cret")
    assert [request.headers["Authorization"] for request in board.requests] == [None, "Bearer s3cret", "s3cret"]
    assert {request.method for request in board.requests} == {"GET"}


@pytest.mark.parametrize(
    ("environ", "said"), [({}, "T.*is not set"), ({"T": "a b"}, "T holds"), ({"T": "ü"}, "T holds")]
)
def test_a_token_that_is_not_there_or_cannot_be_sent_is_named_by_its_variable(
    environ: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Http(url="https://example.org/", token_env="T").build(LeaderboardContext(environ=environ))


@pytest.mark.parametrize("url", ["http://example.org/", "https://me:pw@example.org/", "file:///etc/passwd"])
def test_an_address_that_would_show_the_token_is_refused_before_it_is_asked(url: str) -> None:
    for component in (Http, Metagraph):
        with pytest.raises(ValueError, match=r"^url (is not https|holds a password)"):
            component(url=url)


def test_a_query_is_asked_and_not_shown(board: StandInBoard) -> None:
    component = Http(url=f"{board.url}?key=s3cret")
    read(component)
    assert board.requests[0].path == "/board?key=s3cret"
    assert "s3cret" not in component.source


def miner(hotkey: str, incentive: str, dividends: str = "0", netuid: int = 72) -> dict[str, Any]:
    return {"hotkey": {"ss58": hotkey, "hex": "0x"}, "incentive": incentive, "dividends": dividends, "netuid": netuid}


def pagination(following: Any) -> dict[str, Any]:
    return {"pagination": {"current_page": 1, "per_page": 200, "next_page": following, "prev_page": None}}


def test_the_explorer_is_asked_page_by_page_and_validators_are_left_out(board: StandInBoard) -> None:
    answers(
        board,
        {**pagination(2), "data": [miner("5A", "0.25"), miner("5V", "0", "0.5")]},
        {**pagination(None), "data": [miner("5B", "0.00152"), miner("5C", "0")]},
    )
    found = read(Metagraph(url=board.url), TAOSTATS_API_KEY="k")
    assert [(entry.name, entry.score) for entry in found] == [("5A", 0.25), ("5B", 0.00152), ("5C", 0.0)]
    assert [request.path for request in board.requests] == [
        "/board?netuid=72&limit=200&page=1",
        "/board?netuid=72&limit=200&page=2",
    ]
    assert board.requests[0].headers["Authorization"] == "k"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"data": [miner("5A", "1", netuid=34)]}, "of subnet 34, not of 72"),
        ({"netuid": 34, "uids": []}, "of subnet 34, not of 72"),
        ({"data": [miner("5A", "much")]}, "no finite score"),
        ({"data": [{"hotkey": "5A", "incentive": "1"}]}, "entry 0"),
        ({**pagination(1), "data": []}, "next page 1"),
        ({**pagination("2"), "data": []}, "next page '2'"),
        ({**pagination(10_000), "data": []}, "next page 10000"),
        ({"rows": []}, "no metagraph"),
        ([], "no metagraph"),
    ],
)
def test_another_layout_or_subnet_is_one_clear_error(document: Any, said: str, board: StandInBoard) -> None:
    answers(board, document)
    with pytest.raises(RoadworkError, match=said):
        read(Metagraph(url=board.url, attempts=1), TAOSTATS_API_KEY="k")


def test_pages_that_go_in_a_circle_end(board: StandInBoard) -> None:
    answers(board, {**pagination(2), "data": []})
    with pytest.raises(DataError, match="circle"):
        read(Metagraph(url=board.url, attempts=1), TAOSTATS_API_KEY="k")
    assert len(board.requests) == 2


def test_what_btcli_wrote_needs_no_key(tmp_path: Path) -> None:
    path = tmp_path / "metagraph.json"
    row = {"uid": 3, "stake": 1.0, "emissions": 0.1, "coldkey": "5K", "identity": "~"}
    rows = [
        {**row, "hotkey": "5A", "incentive": 0.3, "dividends": 0.0},
        {**row, "hotkey": "5V", "incentive": 0.0, "dividends": 0.2},
    ]
    path.write_text(json.dumps({"netuid": 72, "name": ": StreetVision", "uids": rows}))
    assert read(Metagraph(file=str(path))) == [Entry(name="5A", score=0.3)]
