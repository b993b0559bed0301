"""Sessions while the log is away, as a frontend sees them over HTTP."""

from pathlib import Path

import pytest

from events.errors import StoreUnavailable
from events.sealing import SubjectKey
from tests.gateway.faulty import FarKeyring, faulty, spooling_log
from tests.gateway.world import eventually
from tests.gateway_fixtures import WAIT, Gateway, start_gateway


def far(gateway: Gateway) -> FarKeyring:
    keyring = gateway.services.keyring
    assert isinstance(keyring, FarKeyring)
    return keyring


async def test_a_stop_is_answered_without_the_persons_key(tmp_path: Path) -> None:
    """It has been done: that its owner cannot be shown just now is no reason to say 503."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        session = await gateway.open({"owner": "ada", "metadata": {"a": 1}})
        path, store = f"/sessions/{session.session_id}", gateway.services.store
        faulty(store).away = True
        await eventually(lambda: not store.status.available)
        far(gateway).start_anew()
        answer = await gateway.client.delete(path, headers=WAIT)
        assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
        assert (answer.json()["owner"], answer.json()["metadata"]) == ("[unavailable]", "[unavailable]")
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        assert (await gateway.client.get(path)).json()["owner"] == "ada"
        assert len(await gateway.log("session.stopped")) == 1


async def test_ended_sessions_are_listed_without_their_owners_keys(tmp_path: Path) -> None:
    """A process that has started since has never needed them: no reason to show no session at all, nor to call them
    erased. What is known to be erased is told as such."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        store = gateway.services.store
        ended = [await gateway.open({"owner": owner}) for owner in ("ada", "grace")]
        for each in ended:
            await gateway.stop(each)
        nobody = await gateway.open()
        erased = gateway.services.views.sessions[ended[1].session_id].owner
        assert erased is not None
        far(gateway).start_anew()
        far(gateway).forget([erased.k])
        faulty(store).away = True
        await eventually(lambda: not store.status.available)
        listed = (await gateway.client.get("/sessions")).json()["sessions"]
        assert [each["owner"] for each in listed] == ["[unavailable]", "[erased]", None]
        assert (await gateway.client.get(f"/sessions/{nobody.session_id}")).json()["status"] == "running"
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        listed = (await gateway.client.get("/sessions")).json()["sessions"]
        assert [each["owner"] for each in listed] == ["ada", "[erased]", None]


async def test_a_session_is_not_opened_without_the_key_of_its_exchanges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is open it is served whether the log is there or not, and each exchange is sealed."""

    async def away(subject: str) -> SubjectKey:
        raise StoreUnavailable("keys cannot be reached")

    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        monkeypatch.setattr(gateway.services.keyring, "key_for", away)
        answer = await gateway.client.post("/sessions")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
        assert await gateway.services.store.read_log(types=["session.requested"]) == []


async def test_a_look_back_that_fails_is_not_told_as_one(tmp_path: Path) -> None:
    """Who reads the log is recorded; what was not read was not."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        session = await gateway.open()
        store = gateway.services.store
        faulty(store).away = True
        await eventually(lambda: not store.status.available)
        for path in ("/sessions?as_of=2", f"/sessions/{session.session_id}?as_of=2"):
            assert (await gateway.client.get(path)).status_code == 503
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        assert await gateway.log("log.read") == []
