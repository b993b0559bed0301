"""A backup is restored under a gateway and between two: it refuses, it does not start, and it goes on once told to."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from gateway.cli.exits import Exit
from gateway.forks import MARK_FILE
from tests.event_fixtures import open_store, until
from tests.factories import events, new_stream, write
from tests.restored_cluster import Cluster, cluster_of
from tests.walks import process
from tests.walks.process import SERVE, GatewayProcess

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]  # seven processes, one after another
ACCEPT = (*SERVE[:-1], "log", "accept")
REFUSED = (503, "/problems/log-forked")


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path / "cluster") as made:
        yield made


async def append(cluster: Cluster, count: int) -> int:
    """What others write; the position of the last."""
    async with open_store(cluster.log.app_dsn) as store:
        await store.append(write(new_stream(), *events(count)))
        return (await store.head()).position


async def seen(gateway: GatewayProcess, client: httpx.AsyncClient, position: int) -> None:
    """Wait until the gateway has read that far, and has kept it."""

    async def kept() -> bool:
        view = (await client.get("/health")).json()["log"]["view"]
        file = gateway.data_dir / MARK_FILE
        return view >= position and f"[{position}," in file.read_text()

    await until(kept)


async def test_a_restored_backup_is_served_only_when_an_operator_accepts_it(cluster: Cluster, data_dir: Path) -> None:
    environment = process.on_database(cluster.log)
    async with process.serving(data_dir, environment) as first:
        backup = await append(cluster, 5)
        assert await first.stop() == 0
    await cluster.back_up()

    async with process.serving(data_dir, environment) as gateway, gateway.client() as client:
        session = await gateway.open(client)
        assert (await client.get(session.path("session"), headers=session.headers)).status_code == 200
        lost = await append(cluster, 5)
        await seen(gateway, client, lost)
        await cluster.restore()
        await append(cluster, lost)  # it has grown past what was read

        async def refused() -> bool:
            answer = await client.get(session.path("session"), headers=session.headers)
            return answer.status_code == 503 and answer.json()["type"] == REFUSED[1]

        await until(refused)
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["type"]) == REFUSED
        assert (await client.get("/health")).json()["status"] == "forked"
        (line,) = [line for line in gateway.lines if line["level"] == "CRITICAL"]
        assert "has forked at position " in line["message"]
        position = line["position"]
        assert backup < position <= lost
        assert await gateway.stop() == 0

    for _ in range(2):  # asking again is no answer
        ended = await process.run({**process.LOCAL, **process.settings(data_dir), **environment})
        assert ended.code == Exit.LOG_UNAVAILABLE
        assert f"has forked at position {position}:" in ended.err and "`python -m gateway log accept`" in ended.err
    looked = await process.run({**process.settings(data_dir), **environment}, command=(*ACCEPT, "--dry-run"))
    assert (looked.code, f"position {position}:" in looked.out) == (Exit.OK, True)
    accepted = await process.run({**process.settings(data_dir), **environment}, command=(*ACCEPT, "--yes"))
    assert accepted.code == Exit.OK, accepted.err
    again = await process.run({**process.settings(data_dir), **environment}, command=(*ACCEPT, "--yes"))
    assert again.code == Exit.NEGATIVE

    async with process.serving(data_dir, environment) as gateway, gateway.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        log = await process.read_log(gateway)
    (told,) = process.payloads(log, "log.fork_accepted")
    assert (told.same_until, told.differs_from) == (position - 1, position) and told.known_until >= lost
