"""A month: serve, collect, label, mine, retrain, refuse, promote, deploy, go back, watch; no kill loses anything."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.data.table import read_rows
from roadwork_core.feedback import FeedbackStore
from roadwork_core.files import sha256_file

from .forking import Server
from .month import Customers, Site, Street, draw_known, streets

#: A challenger that learns nothing.
CRIPPLED = ("--set", "train.epochs=1", "--set", "optimizer.lr=1e-9")
MINED = "mined/hard_negatives.csv"


def hours(start: float) -> str:
    """What to say to `--days`, so that what was served since `start` is meant."""
    return str((time.time() - start) / 86_400)


def truths(path: Path, pictures: list[Street]) -> None:
    """Labels as they come from elsewhere, by the digest of each picture's file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("sha256", "truth"), *((one.sha256, one.label) for one in pictures)])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_month(roadwork: Server, tmp_path: Path) -> None:
    site = Site.make(tmp_path / "site", roadwork, draw_known(tmp_path / "known"), epochs=14)
    store = site.folder / "feedback.sqlite"

    # The first model has seen clear weather, and little of it.
    made = site.json("run", "month.toml", "--set", "train.epochs=2")
    site.run("deploy", made["bundle_dir"], "--to", "live", "--why", "the first model")
    first = site.served()

    # It is served. Nothing is odd in a week like those of the evidence; then snow and fog come.
    drift = ("drift", "live/current", "--policy", "promise", "--scores", store)
    with site.serve() as live:
        usual = streets(160, 10)
        live.ask(usual)
        assert site.json(*drift)["guarantee"] == "stands"
        begin = time.time()
        wintry = streets(500, 11, ("snow", "fog"))
        keys = live.ask(wintry)
        noticed = site.json(*drift, "--days", hours(begin), code=4)
        assert "scores" in {check["check"] for check in noticed["checks"] if check["differs"]}
        assert noticed["guarantee"] == "unsupported"

        # Somebody says what was true of some of it, and the server dies at that moment.
        labelled = dict(zip(keys[:40], (one.label for one in wintry), strict=False))
        for key, label in labelled.items():
            live.label(key, label)
        live.kill()
    with FeedbackStore(store) as opened:
        found = {one.seen.key: one.truth for one in opened.read(features=False)}
    assert labelled.items() <= found.items()

    # The other labels come as a file, late.
    truths(site.folder / "truths.csv", [*usual, *wintry])
    site.run("feedback", "import", store, "truths.csv")
    mined = site.json("mine", store, "--bundle", "live/current", "--days", 30, "--out", "mined")
    assert mined["counts"]["labelled"] == len(usual) + len(wintry)
    assert mined["chosen"] > 100
    held_out = {
        row.sha256
        for split in ("val_select", "val_calib", "test")
        for row in read_rows(site.folder / "runs" / "month" / "prepare" / "samples" / f"{split}.jsonl")
    }
    with (site.folder / MINED).open(newline="") as file:
        chosen = {sha256_file(Path(row["path"])) for row in csv.DictReader(file)}
    assert chosen.isdisjoint(held_out)

    # A challenger that is worse goes nowhere.
    retrain = ("retrain", "month.toml", "--champion", "live/current", "--hard-negatives", MINED, "--margin", 0.02)
    worse = site.json(*retrain, "--record", "worse.json", *CRIPPLED, code=4)
    assert not worse["promoted"]
    gate = ("--to", "live", "--champion-gate")
    site.run("deploy", worse["challenger"]["bundle_dir"], *gate, "worse.json", code=4)
    assert site.served() == first

    # One that is better, beyond doubt and by more than the margin, takes over without a request being lost; and back.
    with site.serve() as live, Customers(live.url, usual[0]) as customers:
        better = site.json(*retrain, "--record", "better.json")
        difference = better["comparison"]["metrics"]["mcc"]["difference"]
        assert (difference["level"], difference["low"] > 0.02) == (0.95, True)
        second = better["challenger"]["bundle_id"]
        customers.until(first)
        site.run("deploy", better["challenger"]["bundle_dir"], *gate, "better.json", "--max-ms", 60_000)
        customers.until(second)
        site.run("deploy", "--to", "live", "--rollback")
        customers.until(first)
    assert customers.failures == []
    assert customers.bundles == [first, second, first]
    refused = worse["challenger"]["bundle_id"]
    assert site.history() == [("deploy", first), ("refused", refused), ("deploy", second), ("rollback", first)]
    with FeedbackStore(store) as opened:
        assert labelled.items() <= {one.seen.key: one.truth for one in opened.read(features=False)}.items()

    # The rank is watched: where it falls by two places, that is an alarm, once.
    watch = ("leaderboard", "watch", "month.toml")
    site.board("first", "mine", "third", "fourth")
    site.run(*watch)
    site.board("first", "third", "fourth", "mine")
    site.run(*watch, code=4)
    site.run(*watch)
    seen = site.json("leaderboard", "report", "month.toml", "--feedback", store)
    assert [poll["rank"] for poll in seen["history"]] == [2, 4, 4]
    assert [alert["kind"] for alert in seen["alerts"]] == ["drop"]
    assert seen["estimate"]["n"] >= mined["counts"]["labelled"]


def outcome(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says, but for where and when."""
    kept = {name: record[name] for name in ("promoted", "reason", "comparison")}
    return {**kept, **{name: record[name]["bundle_id"] for name in ("champion", "challenger")}}


def short_month(site: Site, new: Path, moments: tuple[int, ...]) -> int:
    """Every command of a month, each killed before its changes of a file with these numbers; how often it was."""
    bundle = site.folder / "runs" / "month" / "bundle" / "month"
    kills = site.killed("deploy", bundle, "--to", "live", before=moments[:4])
    for name in ("said.jsonl", "truths.csv"):
        kills += site.killed("feedback", "import", "feedback.sqlite", new / name, before=moments[:1])
    mine = ("mine", "feedback.sqlite", "--bundle", "live/current", "--agreement", 0, "--out", "mined")
    kills += site.killed(*mine, before=[moment for moment in moments if moment < 12])
    retrain = ("retrain", "month.toml", "--champion", "live/current", "--hard-negatives", MINED)
    kills += site.killed(*retrain, "--record", "record.json", before=moments, code=4)
    challenger = json.loads((site.folder / "record.json").read_bytes())["challenger"]["bundle_dir"]
    kills += site.killed("deploy", challenger, "--to", "live", before=moments[:4])
    back = json.loads((bundle / "bundle.json").read_bytes())["bundle_id"][:12]
    kills += site.killed("deploy", "--to", "live", "--rollback", back, before=moments[:3])
    for names, code in ((("first", "mine", "third", "fourth"), 0), (("first", "third", "fourth", "mine"), 4)):
        site.board(*names)
        kills += site.killed("leaderboard", "watch", "month.toml", before=moments[:1], code=code)
    return kills


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_month_in_which_every_command_is_killed_ends_as_one_that_was_left_alone(
    roadwork: Server, tmp_path: Path
) -> None:
    known = draw_known(tmp_path / "known", share=0.2)
    first = Site.make(tmp_path / "first", roadwork, known, epochs=1)
    bundle = first.json("run", "month.toml")["bundle_dir"]

    # What the first model says of new pictures, and what is true of them.
    new = tmp_path / "new"
    new.mkdir()
    pictures = streets(60, 20)
    for number, one in enumerate(pictures):
        (new / f"{number}.png").write_bytes(one.content)
    truths(new / "truths.csv", pictures)
    (new / "said.jsonl").write_text(first.run("predict", bundle, new, "--json").stdout())

    # One month after the other in one place, so that paths are no difference.
    done: list[Site] = []
    for name, moments in (("plain", ()), ("killed", (1, 5, 9, 30, 3, 7, 11, 60, 120, 240))):
        site = Site.make(tmp_path / "site", roadwork, known, epochs=1)
        shutil.copytree(first.folder / "runs", site.folder / "runs")
        assert short_month(site, new, moments) >= 1.5 * len(moments)
        done.append(Site(site.folder.rename(tmp_path / name), roadwork))

    plain, killed = done
    records = [outcome(json.loads((site.folder / "record.json").read_bytes())) for site in done]
    assert records[0] == records[1]
    for file in (MINED, "mined/review.csv", "mined/sheet.jpg"):
        assert (plain.folder / file).read_bytes() == (killed.folder / file).read_bytes()
    assert killed.history() == plain.history()
    assert killed.served() == plain.served()
    boards = [site.json("leaderboard", "report", "month.toml") for site in done]
    for board in boards:
        assert [poll["rank"] for poll in board["history"]] == [2, 4]
        assert [alert["kind"] for alert in board["alerts"]] == ["drop"]
    kept = []
    for site in done:
        with FeedbackStore(site.folder / "feedback.sqlite") as opened:
            kept.append([(one.seen.sha256, one.seen.label, one.truth) for one in opened.read()])
    assert kept[0] == kept[1]
    assert len(kept[0]) == len(pictures)
    left = {path.name for folder in ("live", "live/versions", "mined") for path in (killed.folder / folder).glob(".*")}
    assert left == {".lock"}
