"""Who looks after the neighbours sees one that is cut off, refused or kept waiting; a walk on a daemon relies on it."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.walks import neighbours
from tests.walks.neighbours import NOTHING, Neighbours

HOG = "hog"
Answer = Callable[[], Awaitable[httpx.Response]]


async def cut() -> httpx.Response:
    raise httpx.ReadError("connection reset")


async def refused() -> httpx.Response:
    return httpx.Response(502)


async def slow() -> httpx.Response:
    await asyncio.sleep(0.2)
    return httpx.Response(200)


async def well() -> httpx.Response:
    return httpx.Response(200)


@pytest.mark.parametrize(
    ("answer", "word"), [(cut, "connection reset"), (refused, "502"), (slow, "more than"), (well, "")]
)
async def test_harm_is_seen_in_the_stage_where_it_was_done(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, word: str
) -> None:
    monkeypatch.setattr(neighbours, "PAUSE", 0.001)
    monkeypatch.setattr(neighbours, "RELATIVE", 0.1)
    stage = NOTHING

    async def handle(request: httpx.Request) -> httpx.Response:
        return await (answer if (request.url.path, stage) == ("/a", HOG) else well)()

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://x") as client,
        Neighbours(client, [("/a", {}), ("/b", {})]).asked() as asked,
    ):
        async with asked.during(NOTHING):
            pass
        async with asked.during(HOG):
            stage = HOG
        stage = NOTHING
        async with asked.during("later"):
            pass
    found = asked.harm()
    assert bool(found) == bool(word)
    assert all(line.startswith(f"{HOG}: /a: ") and word in line for line in found)
