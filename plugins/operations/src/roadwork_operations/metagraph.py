"""The public record of a Bittensor subnet: what each miner earns of its reward, as the chain states it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from roadwork_core.errors import DataError
from roadwork_core.kinds import Entry

from .layouts import at, entries_of, number, read_json

#: What an explorer gives at a time, and how many pages of that a subnet may have (it has at most 256 keys).
PAGE = 200
MOST_PAGES = 20


@frozen
class Page:
    """The entries of one document, and the number of the next page where it has one."""

    entries: list[Entry]
    following: int | None


def parse_page(content: bytes, netuid: int) -> Page:
    """The miners of a document in either public layout, by hotkey, with their incentive.

    `btcli subnets show --netuid N --json-output` writes `netuid` and `uids`, an array of objects with `hotkey`,
    `incentive` and `dividends`. The explorer's `/api/metagraph/latest/v1` answers with `data`, an array of the same
    with `hotkey.ss58`, numbers as strings and `netuid` in each, and `pagination.next_page`. A key that earns
    dividends and no incentive validates and is left out. Raises DataError for another layout or another subnet.
    """
    document = read_json(content)
    if not isinstance(document, dict):
        raise DataError("this is no metagraph: neither uids nor data", hint="see docs/how-to/watch-a-leaderboard.md")
    if isinstance(document.get("uids"), list):
        of = document.get("netuid")
        if of is not None and of != netuid:
            raise DataError(f"this is the metagraph of subnet {of}, not of {netuid}")
        return Page(_miners(document["uids"], "hotkey", None), None)
    if isinstance(document.get("data"), list):
        following = at(document, "pagination.next_page")
        if following is not None and (type(following) is not int or not 1 < following <= MOST_PAGES):
            raise DataError(f"the metagraph has a next page {following!r:.40}")
        return Page(_miners(document["data"], "hotkey.ss58", netuid), following)
    raise DataError("this is no metagraph: neither uids nor data", hint="see docs/how-to/watch-a-leaderboard.md")


def _miners(items: list[Any], hotkey: str, netuid: int | None) -> list[Entry]:
    found = []
    for index, item in enumerate(items):
        of = at(item, "netuid")
        if netuid is not None and of is not None and of != netuid:
            raise DataError(f"this is the metagraph of subnet {of!r:.40}, not of {netuid}")
        incentive, dividends = number(at(item, "incentive")), number(at(item, "dividends"))
        if incentive == 0 and isinstance(dividends, int | float) and dividends > 0:
            continue
        found.append((index, {"hotkey": at(item, hotkey), "incentive": incentive}))
    return entries_of(found, "hotkey", "incentive")
