"""Sessions while the log is away, as a frontend sees them over HTTP."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from events.errors import StoreUnavailable
from events.sealing import SubjectKey
from tests.gateway.faulty import faulty, spooling_log
from tests.gateway.world import eventually
from tests.gateway_fixtures import WAIT, start_gateway


async def test_a_stop_is_answered_without_the_persons_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been done: that its owner cannot be shown just now is no reason to say 503."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        session = await gateway.open({"owner": "ada"})
        path = f"/sessions/{session.session_id}"
        assert (await gateway.client.get(path)).json()["owner"] == "ada"
        store = gateway.services.store
        faulty(store).away = True
        await eventually(lambda: not store.status.available)

        async def away(ids: Iterable[str]) -> dict[str, SubjectKey]:
            if set(ids):
                raise StoreUnavailable("keys cannot be reached")
            return {}

        with monkeypatch.context() as patch:
            patch.setattr(gateway.services.keyring, "keys", away)
            answer = await gateway.client.delete(path, headers=WAIT)
            assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
            assert (answer.json()["owner"], answer.json()["metadata"]) == (None, None)
            assert (await gateway.client.get(path)).status_code == 503
        assert (await gateway.client.get(path)).json()["owner"] == "ada"
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        assert len(await gateway.log("session.stopped")) == 1


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
