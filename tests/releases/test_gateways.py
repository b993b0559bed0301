"""Whole gateways of two releases on one database, under requests: N-1, N beside it, N-1 alone, N-1 started anew."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from events import schema
from events.embedded import EmbeddedPostgres
from gateway import RELEASE
from tests.event_fixtures import APP_USER, LogDatabase, as_user, ensure_role, open_store, until
from tests.gateway_fixtures import WAIT, Session
from tests.releases.inside import whole
from tests.releases.products import CURRENT, RELEASED, Product, released
from tests.walks import process
from tests.walks.process import SERVE, GatewayProcess, payloads

pytestmark = [pytest.mark.postgres, pytest.mark.patient]
REQUESTS = 25  # of each client in each part
SECRETS = {"SESSION_TOKEN_SECRET": "s" * 40, "SEALING_SECRET": "t" * 40}  # both gateways' own


@pytest_asyncio.fixture
async def places(tmp_path: Path) -> AsyncIterator[list[Path]]:
    """Two data directories; nothing of the gateways on them stays."""
    made = [tmp_path / "former", tmp_path / "later"]
    yield made
    for place in made:
        for left in process.using(place):
            left.kill()
            left.wait(5)
        await process.forget(place)


@asynccontextmanager
async def serving(product: Product, place: Path, log: LogDatabase) -> AsyncIterator[GatewayProcess]:
    environment = {**process.LOCAL, **process.settings(place), **process.on_database(log), **SECRETS}
    gateway = await process.launch(SERVE, environment, data_dir=place, cwd=product.root)
    try:
        await gateway.listening()
        yield gateway
    finally:
        await gateway.close()


class Load:
    """Requests to a session through a gateway, one after the other; ``answered`` counts those with 200."""

    def __init__(self, client: httpx.AsyncClient, session: Session) -> None:
        self.answered = 0
        self.others: list[int] = []
        self._ending = False
        self._task = asyncio.create_task(self._run(client, session))

    async def _run(self, client: httpx.AsyncClient, session: Session) -> None:
        while not self._ending:
            answer = await client.get(session.path("echo"), headers=session.headers)
            if answer.status_code == 200:
                self.answered += 1
            else:
                self.others.append(answer.status_code)

    async def goes_on(self) -> None:
        wanted = self.answered + REQUESTS

        async def enough() -> bool:
            assert not self._task.done() and not self.others, self.others
            return self.answered >= wanted

        await until(enough, 60)

    async def end(self) -> None:
        self._ending = True
        await self._task
        assert self.others == []


@pytest.mark.timeout(300)
async def test_gateways_of_two_releases_serve_the_same_sessions(
    database: str, postgres_server: EmbeddedPostgres, tmp_path: Path, places: list[Path]
) -> None:
    """Every request that was answered is one event, whoever served it."""
    await ensure_role(postgres_server.admin_dsn, APP_USER)
    log = LogDatabase(database, as_user(database, APP_USER))
    number = RELEASED[-1]
    former = released(number, tmp_path)
    expected: Counter[str] = Counter()
    async with serving(former, places[0], log) as one, one.client() as mine:
        first = await one.open(mine)
        load = Load(mine, first)
        await load.goes_on()
        async with serving(CURRENT, places[1], log) as two, two.client() as theirs:
            second = await two.open(theirs)
            across = [Load(theirs, first), Load(mine, second), Load(theirs, second)]
            for each in (*across, load):
                await each.goes_on()
            for each in across:
                await each.end()
            expected[first.session_id] += across[0].answered
            expected[second.session_id] += across[1].answered + across[2].answered
            assert await two.stop() == 0
        await load.goes_on()
        await load.end()
        expected[first.session_id] += load.answered
        assert await one.stop() == 0
    async with serving(former, places[0], log) as again, again.client() as mine:
        resumed = await mine.post(f"/sessions/{first.session_id}/resume", headers=WAIT)
        assert resumed.status_code == 201, resumed.text
        load = Load(mine, Session(first.session_id, resumed.json()["token"]))
        await load.goes_on()
        await load.end()
        expected[first.session_id] += load.answered
        assert await again.stop() == 0
    assert (await schema.status(database, APP_USER)).verdict == "up to date"
    async with open_store(log.app_dsn) as store:
        found = await whole(store)
    assert [event.position for event in found] == list(range(1, len(found) + 1))
    done = [each for each in payloads(found, "exchange.completed") if each.status == 200]
    assert Counter(each.session_id for each in done) == expected, "none lost, none twice"
    assert payloads(found, "exchange.summarized", "gateway.crashed", "container.lost") == []
    assert [each.release for each in payloads(found, "gateway.started")] == [number, RELEASE, number]
