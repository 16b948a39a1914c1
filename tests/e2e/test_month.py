"""A month: serve, collect, label, mine, retrain, refuse, promote, deploy, go back; and nothing is lost by a kill."""

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


def outcome(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says, but for where and when."""
    kept = {name: record[name] for name in ("promoted", "reason", "comparison")}
    return {**kept, **{name: record[name]["bundle_id"] for name in ("champion", "challenger")}}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_month_in_which_every_command_is_killed_ends_as_one_that_was_left_alone(
    roadwork: Server, tmp_path: Path
) -> None:
    known = draw_known(tmp_path / "known", share=0.2)
    plain, killed = (Site.make(tmp_path / name, roadwork, known, epochs=1) for name in ("plain", "killed"))
    first = Path(plain.json("run", "month.toml")["bundle_dir"])
    shutil.copytree(plain.folder / "runs", killed.folder / "runs")

    # What the first model says of new pictures, with what is true of them.
    new = tmp_path / "new"
    new.mkdir()
    for number, one in enumerate(streets(60, 20)):
        (new / f"{number}.png").write_bytes(one.content)
    truths(new / "truths.csv", streets(60, 20))
    said = plain.run("predict", first, new, "--json").stdout()
    (new / "said.jsonl").write_text(said)

    mine = ("mine", "feedback.sqlite", "--bundle", "live/current", "--agreement", 0, "--out", "mined")
    retrain = (
        "retrain",
        "month.toml",
        "--champion",
        "live/current",
        "--hard-negatives",
        MINED,
        "--record",
        "record.json",
    )
    kills = 0
    for site, moments in ((plain, ()), (killed, (1, 4, 12, 30))):
        bundle = site.folder / first.relative_to(plain.folder)
        kills += site.killed("deploy", bundle, "--to", "live", before=moments)
        for name in ("said.jsonl", "truths.csv"):
            kills += site.killed("feedback", "import", "feedback.sqlite", new / name, before=moments[:1])
        kills += site.killed(*mine, before=[*moments[:2], *(range(5, 9) if moments else ())])
        kills += site.killed(*retrain, before=[*moments, 60, 120, 240] if moments else (), code=4)
        challenger = json.loads((site.folder / "record.json").read_bytes())["challenger"]["bundle_dir"]
        kills += site.killed("deploy", challenger, "--to", "live", before=moments)
        back = json.loads((bundle / "bundle.json").read_bytes())["bundle_id"][:12]
        kills += site.killed("deploy", "--to", "live", "--rollback", back, before=moments[:3])
    assert kills >= 15

    records = [outcome(json.loads((site.folder / "record.json").read_bytes())) for site in (plain, killed)]
    assert records[0] == records[1]
    for name in (MINED, "mined/review.csv", "mined/sheet.jpg"):
        assert (plain.folder / name).read_bytes() == (killed.folder / name).read_bytes()
    assert killed.history() == plain.history()
    assert killed.served() == plain.served()
    kept = []
    for site in (plain, killed):
        with FeedbackStore(site.folder / "feedback.sqlite") as opened:
            kept.append([(one.seen.sha256, one.seen.label, one.truth) for one in opened.read()])
    assert kept[0] == kept[1]
    assert len(kept[0]) == 60
    left = {path.name for folder in ("live", "live/versions", "mined") for path in (killed.folder / folder).glob(".*")}
    assert left == {".lock"}
