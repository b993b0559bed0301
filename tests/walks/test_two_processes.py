"""Two gateways on one log, each a process: what was written on one is true at once on the other, without sleeping.

What is not there yet is looked for at the head before it is refused; what is not there any more is refused within the
second that is promised, since a token that opens is not looked up.
"""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from events.envelope import KEYS
from gateway.access.keys import NewKey, new_key, revoked
from gateway.access.roles import Role
from tests.counts import Tell
from tests.event_fixtures import LogDatabase, open_store
from tests.factories import write
from tests.gateway_fixtures import WAIT
from tests.walks.mock_process import two_gateways

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
AT_ONCE: Final = 16
# Seconds after which what has ended on one process is refused on every other, and how much longer a test allows them.
REFUSED_WITHIN: Final = 1.0
ALLOWED: Final = 5
Clients = tuple[httpx.AsyncClient, httpx.AsyncClient]


class Both:
    """A client of each process, and what they were answered: (where, status, slug of a problem)."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.seen: Counter[tuple[str, int, str]] = Counter()
        self.slowest_end = 0.0
        self._turns = itertools.count()

    def turn(self) -> Clients:
        """Each process is by turns the one that is written on."""
        return self.clients if next(self._turns) % 2 else self.clients[::-1]

    async def ask(self, client: httpx.AsyncClient, what: str, method: str, path: str, **more: Any) -> httpx.Response:
        answer = await client.request(method, path, **more)
        problem = answer.headers.get("content-type") == "application/problem+json"
        slug = answer.json()["type"].removeprefix("/problems/") if problem else ""
        self.seen[what, answer.status_code, slug] += 1
        return answer

    async def refused(self, ask: Callable[[], Awaitable[httpx.Response]]) -> None:
        """Ask until it is refused; ``slowest_end``: how long after an end a request was sent that was accepted."""
        loop = asyncio.get_running_loop()
        began = sent = loop.time()
        while (answer := await ask()).status_code == 200:
            self.slowest_end = max(self.slowest_end, sent - began)
            sent = loop.time()
            assert sent - began < REFUSED_WITHIN * ALLOWED, "what has ended is still accepted"
        assert answer.status_code == 401, answer.text


@pytest_asyncio.fixture
async def both(tmp_path: Path, empty_log: LogDatabase) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        one, other = await stack.enter_async_context(two_gateways(tmp_path, empty_log))
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=each.url, headers=one.key, timeout=60, trust_env=False, limits=limits)
            )
            for each in (one, other)
        ]
        yield Both((clients[0], clients[1]))


async def many(times: int, work: Callable[[int], Awaitable[None]]) -> None:
    """``work`` so many times, AT_ONCE at once."""
    numbers = iter(range(times))

    async def one_after_another() -> None:
        for number in numbers:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def created_then_read(both: Both, number: int) -> None:
    """Open on one; read, and use the token, on the other; end it there; it is refused on the one.

    Every other one is waited for until it is ready: then the token must open. Every third read names the position.
    """
    one, other = both.turn()
    waited = number % 2 == 0
    opened = (await both.ask(one, "create", "POST", "/sessions", headers=WAIT if waited else {})).json()
    path, token = f"/sessions/{opened['session_id']}", bearer(opened["token"])
    least = {"min_position": opened["position"]} if number % 3 == 0 else {}
    shown = (await both.ask(other, "read", "GET", path, params=least)).json()
    assert shown["session_id"] == opened["session_id"] and shown["position"] >= least.get("min_position", 0)
    used = await both.ask(other, "use", "GET", f"/s/{opened['session_id']}/x", headers=token)
    assert used.status_code == 200 or not waited
    if not waited:
        await both.ask(other, "use while it boots", "GET", f"/s/{opened['session_id']}/x", headers=token)
    ended = await both.ask(other, "stop", "DELETE", path, headers=WAIT)
    assert ended.json()["phase"] == "stopped"
    await both.refused(lambda: one.get(f"/s/{opened['session_id']}/x", headers=token))


async def read_your_writes(both: Both, times: int, tell: Tell) -> None:
    await many(times, lambda number: created_then_read(both, number))
    for (what, status, slug), count in both.seen.items():
        assert status not in (401, 403, 404, 409), (what, status, slug, count)
        assert status < 300 or slug == "session-not-ready", (what, status, slug, count)
    told = ", ".join(f"{what} {status} x {count}" for (what, status, _), count in sorted(both.seen.items()))
    tell(f"{times} sessions read on the other process: {told}; accepted there {both.slowest_end:.3f} s after an end")
    assert sum(count for (what, *_), count in both.seen.items() if what == "read") == times


async def test_what_one_process_wrote_the_other_reads(both: Both, tell: Tell) -> None:
    """Never a 401 or 404 for what an answer has told, with a position or without."""
    await read_your_writes(both, 200, tell)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_what_one_process_wrote_the_other_reads_ten_thousand_times(both: Both, tell: Tell) -> None:
    await read_your_writes(both, 10_000, tell)


async def test_a_session_that_both_processes_end_and_resume(both: Both, tell: Tell) -> None:
    """Ended on one, resumed at once on the other, and so on: no move is refused for what the other one did before.

    The newest token opens on both at once, and every earlier one is refused on both.
    """

    async def ping_pong(_: int) -> None:
        one, other = both.turn()
        opened = (await both.ask(one, "create", "POST", "/sessions", headers=WAIT)).json()
        path, proxied = f"/sessions/{opened['session_id']}", f"/s/{opened['session_id']}/x"
        for _ in range(4):
            former = bearer(opened["token"])
            await both.ask(other, "stop", "DELETE", path, headers=WAIT)
            opened = (await both.ask(one, "resume", "POST", f"{path}/resume", headers=WAIT)).json()
            for each in (other, one):
                used = await both.ask(each, "use", "GET", proxied, headers=bearer(opened["token"]))
                assert used.status_code == 200
                assert (await each.get(proxied, headers=former)).status_code == 401
            one, other = other, one

    await many(AT_ONCE, ping_pong)
    assert {status for _, status, _ in both.seen} <= {200, 201}, both.seen
    tell(f"sessions ended and resumed by turns on two processes: {sum(both.seen.values())} answers, none refused")


async def test_both_processes_told_to_end_and_to_resume_at_once(both: Both) -> None:
    """Whoever loses the race is told so (409) or finds it done; afterwards both show one and the same session."""

    async def race(_: int) -> None:
        opened = (await both.ask(both.clients[0], "create", "POST", "/sessions", headers=WAIT)).json()
        path = f"/sessions/{opened['session_id']}"
        for _ in range(3):
            ends = [both.ask(each, "stop", "DELETE", path, headers=WAIT) for each in both.clients]
            assert {answer.status_code for answer in await asyncio.gather(*ends)} == {200}
            resumes = [both.ask(each, "resume", "POST", f"{path}/resume", headers=WAIT) for each in both.clients]
            answers = await asyncio.gather(*resumes)
            assert sorted(answer.status_code for answer in answers) == [201, 409], [each.text for each in answers]
            least = max(answer.json().get("position", 0) for answer in answers)
            shown = [(await each.get(path, params={"min_position": least})).json() for each in both.clients]
            assert shown[0] == shown[1] and shown[0]["phase"] == "ready"

    await many(AT_ONCE, race)


async def test_a_key_opens_on_both_at_once_and_is_refused_within_a_second(
    both: Both, empty_log: LogDatabase, tell: Tell
) -> None:
    """Keys are made past every process, in the log itself."""
    async with open_store(empty_log.app_dsn) as store:

        async def key(number: int) -> None:
            made: NewKey = new_key(f"k{number}", Role.FRONTEND)
            await store.append(write(KEYS, made.created))
            for each in both.clients:
                used = await both.ask(each, "list", "GET", "/sessions", headers=bearer(made.key))
                assert used.status_code == 200, used.text
            await store.append(write(KEYS, revoked(made.created.key_id)))
            for each in both.clients:
                await both.refused(functools.partial(each.get, "/sessions", headers=bearer(made.key)))

        await many(100, key)
    assert set(both.seen) == {("list", 200, "")}
    tell(f"100 keys used at once on two processes; accepted {both.slowest_end:.3f} s after their end at most")
