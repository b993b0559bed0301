"""Two hundred who follow the log of a real gateway on Postgres, while others write, some are cut and one never reads.

Each gets every event that it asked for, once and in order, whether it began in the history or at the head, whether it
stayed or came back with its last id, here or at another gateway of the same log.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from events.catalogue import LogRead
from events.envelope import KEYS, SYSTEM, RecordedEvent
from events.filter import EventFilter
from events.ids import short
from events.postgres import PostgresEventStore
from gateway.access.keys import new_key
from gateway.access.roles import Role
from tests.counts import Tell
from tests.event_fixtures import LogDatabase, open_store
from tests.factories import event, write
from tests.gateway_fixtures import WAIT
from tests.walks.following import ALL, SECONDS, Follower, Seen, delays, following
from tests.walks.mock_process import two_gateways
from tests.walks.process import on_database, reached, serving
from tests.walks.writing import units, write_beside

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
FOLLOWERS: Final = 200
WRITERS: Final = 4
EVENTS: Final = 300  # of each writer
RATE: Final = 400.0  # events a second of all writers together
# Who does not read is cut off after this long; the product gives it ten seconds, and has no setting for it.
SEND_SECONDS: Final = 2.0
HASTY: Final = (
    sys.executable,
    "-c",
    "import sys; from gateway.api import sse; from gateway.__main__ import main; "
    f"sse.SEND_SECONDS = {SEND_SECONDS}; sys.exit(main(['serve']))",
)
FAT: Final = 65_000  # bytes; 128 such events are more than the buffers between a gateway and one who does not read


async def auditors(store: PostgresEventStore) -> Sequence[str]:
    """Two keys, made in the log itself."""
    made = [new_key(name, Role.AUDITOR) for name in ("one", "two")]
    await store.append(write(KEYS, *(each.created for each in made)))
    return [each.key for each in made]


async def history(store: PostgresEventStore, session_id: str) -> int:
    """What was before anybody followed; the position behind which all begin but who does not read."""
    fat = LogRead(what="test", actor="x" * FAT)
    for _ in range(8):
        await store.append(write(SYSTEM, *(event(fat) for _ in range(16))))
    behind = (await store.head()).position
    for unit in units(WRITERS, session_id, 100):
        await store.append(unit)
    return behind


def two_hundred(url: str, keys: Sequence[str], seen: Seen, session_id: str, behind: int) -> list[Follower]:
    """Of each key, with each filter, from the history and from now on; a tenth of them are cut again and again."""
    filters = [
        ALL,
        EventFilter(types=("health.*",)),
        EventFilter(types=("access.denied", "log.read")),
        EventFilter(session_id=session_id),
    ]
    kinds = itertools.cycle(itertools.product((behind, None), filters, keys))
    return [
        Follower([url], key, seen, wanted=wanted, after=after, cut_after=60 + number // 2 if number % 10 == 0 else None)
        for number, (after, wanted, key) in enumerate(itertools.islice(kinds, FOLLOWERS))
    ]


async def got_all(followers: Sequence[Follower], log: Sequence[RecordedEvent], seen: Seen) -> None:
    """Wait until each has got all that it asked for, up to the end of ``log``; there is nothing else among it."""
    asked = [each.asked_for(log) for each in followers]
    await reached(lambda: all(a[-1] <= each.reached for a, each in zip(asked, followers, strict=True)), SECONDS)
    for should, each in zip(asked, followers, strict=True):
        assert [position for position in each.positions if position <= log[-1].position] == should
    assert seen.told(log)


async def test_two_hundred_followers_of_a_process_on_postgres(
    data_dir: Path, empty_log: LogDatabase, tell: Tell
) -> None:
    """Four write beside the gateway; who does not read is cut off, and finds the rest when it reads at last."""
    session_id, seen, began = f"ses_{short()}", Seen(), time.monotonic()
    async with open_store(empty_log.app_dsn) as store:
        keys = await auditors(store)
        behind = await history(store, session_id)
        async with serving(data_dir, on_database(empty_log), command=HASTY) as gateway:
            process = psutil.Process(gateway.pid)
            followers = two_hundred(gateway.url, keys, seen, session_id, behind)
            stuck = Follower([gateway.url], keys[0], seen, after=0, receive_buffer=4096)
            async with stuck.connection() as unread, following(followers):
                first = (await store.head()).position
                used, started = process.cpu_times(), time.monotonic()
                await write_beside(empty_log.app_dsn, session_id, writers=WRITERS, events=EVENTS, rate=RATE)
                log = await store.read_log(limit=10_000)
                await got_all(followers, log, seen)
                took, then = time.monotonic() - started, process.cpu_times()
                memory = process.memory_info().rss
                await reached(lambda: any(line.get("operation") == "overrun" for line in gateway.lines), SECONDS)
                await stuck.read(unread)
                assert stuck.overruns == 1 and stuck.positions == stuck.asked_for(log)[: len(stuck.positions)]
                assert stuck.reached < behind, "it is cut off in the midst of what it did not read"
                async with following([stuck]):
                    await got_all([stuck], log, seen)
    late = delays(followers, {event.position: event.recorded_at.timestamp() for event in log[first:]})
    assert all(each.connected > 2 for each in followers[::10]), "a tenth was cut again and again"
    assert sum(each.connected == 1 for each in followers) == FOLLOWERS * 9 // 10, "nobody else was disturbed"
    resumed = sum(each.connected for each in followers) - FOLLOWERS
    spent = then.user + then.system - used.user - used.system
    middle, nearly_all = (late[int(len(late) * part)] * 1000 for part in (0.5, 0.99))
    tell(
        f"{len(log) - first} events, {WRITERS} writers, {FOLLOWERS} followers, {resumed} resumed: {len(late)} receipts"
        f" in {took:.1f} s, {middle:.0f} ms (p50) and {nearly_all:.0f} ms (p99) after the log had them; the gateway: "
        f"{spent:.1f} s of processor time, {memory / 2**20:.0f} MiB; {time.monotonic() - began:.1f} s with all else"
    )


async def test_followers_at_another_gateway_than_the_one_that_is_written_on(
    tmp_path: Path, empty_log: LogDatabase, tell: Tell
) -> None:
    """Sessions are opened and ended at the first; who is cut at one gateway goes on at the other."""
    seen, began = Seen(), time.monotonic()
    async with open_store(empty_log.app_dsn) as store, two_gateways(tmp_path, empty_log) as (one, other):
        keys, urls = await auditors(store), (other.url, one.url)
        followers = [
            Follower(
                urls if number % 2 else urls[:1],
                keys[number // 2 % 2],
                seen,
                wanted=EventFilter(types=("session.*", "token.*") if number % 3 == 0 else ()),
                after=0 if number % 5 == 0 else None,
                cut_after=60 + number if number % 2 else None,
            )
            for number in range(40)
        ]
        async with following(followers), one.client() as client:
            first = (await store.head()).position

            async def opened_and_ended(number: int) -> None:
                for _ in range(5):
                    answer = await client.post("/sessions", headers=WAIT, json={"owner": f"person {number}"})
                    assert answer.status_code == 201, answer.text
                    await ended(client, answer.json()["session_id"])

            await asyncio.gather(*map(opened_and_ended, range(8)))
            log = await store.read_log(limit=10_000)
            await got_all(followers, log, seen)
    assert sum(event.type == "session.stopped" for event in log) == 40
    assert any(b'"owner":"person 7"' in frame for frame in seen.frames.values()), "opened, at whichever gateway"
    assert all(each.connected > 1 for each in followers[1::2]), "cut, and gone on at the other one"
    resumed = sum(each.connected for each in followers) - len(followers)
    tell(
        f"{len(log) - first} events of one gateway, {len(followers)} followers at another, {resumed} resumed by turns: "
        f"{time.monotonic() - began:.1f} s"
    )


async def ended(client: httpx.AsyncClient, session_id: str) -> None:
    answer = await client.delete(f"/sessions/{session_id}", headers=WAIT)
    assert answer.json()["phase"] == "stopped", answer.text
