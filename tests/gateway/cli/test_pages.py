"""Walking pages: by their cursors, to the head that the log had, with a word now and then about how far it is."""

from typing import Any, Unpack

import msgspec

from gateway.cli.pages import going_on, pages
from gateway.control import Asked, GatewayClient


class Gateway(GatewayClient):
    """Answers pages of ten positions of a log that grows with each."""

    def __init__(self) -> None:
        self.head = 35
        self.asked: list[list[tuple[str, str | int]]] = []

    async def call(self, method: str, path: str, **asked: Unpack[Asked]) -> bytes:
        query = asked.get("query", ())
        self.asked.append(list(query))
        reached = min(10 * len(self.asked), self.head)
        page = {"next": reached, "head": self.head, "complete": reached == self.head, "cursor": f"c{reached}"}
        self.head += 10
        return msgspec.json.encode(page)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.5
        return self.now


async def walk(gateway: Gateway, *, every: bool, said: list[str]) -> list[dict[str, Any]]:
    query: list[tuple[str, str | int]] = [("type", "session.*"), ("limit", 10)]
    walked = pages(gateway, "/events", query, headers={}, walk=every, say=said.append, clock=Clock())
    return [page async for _, page in walked]


async def test_a_walk_ends_at_the_head_of_its_first_page() -> None:
    """The log grows as fast as it is read here: who ran after its end would never arrive."""
    gateway, said = Gateway(), list[str]()
    assert [page["next"] for page in await walk(gateway, every=True, said=said)] == [10, 20, 30, 40]
    assert gateway.asked[0] == [("type", "session.*"), ("limit", 10)]
    assert gateway.asked[1:] == [[("cursor", f"c{reached}"), ("limit", 10)] for reached in (10, 20, 30)]
    assert said == ["looked at 20 of 35 positions"]


async def test_without_walking_it_is_one_page() -> None:
    gateway = Gateway()
    assert len(await walk(gateway, every=False, said=[])) == 1


def test_the_last_line_says_whether_there_may_be_more() -> None:
    page = {"complete": False, "cursor": "abc", "head": 9}
    assert going_on(page, "event", 0) == "0 events; there may be more: go on with --cursor abc, or take --all."
    assert going_on(page | {"complete": True}, "event", 1200) == "1,200 events, up to the end of the log at position 9."
    assert going_on(page | {"complete": True}, "event", 1).startswith("1 event, up to")
