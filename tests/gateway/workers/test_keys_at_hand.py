"""Keys at hand: what an outage needs to seal with is here before it begins, and what was erased never is."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from events.catalogue import AdmissionGranted, SessionRequested, SubjectErased
from events.envelope import ADMISSION, SYSTEM, Sealed, session_stream
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.sealing import SubjectKey
from gateway import lifespan, sealed_purpose
from gateway.recorder import Recorder, session_subject, unattributed, utc_now
from gateway.workers.keys_at_hand import KeysAtHand, wanted
from projections.lifecycle import SEATED, Phase
from projections.session_state import SessionState
from projections.views import Views
from tests.factories import payload
from tests.gateway.faulty import FarKeyring
from tests.gateway.proxy.recording import exchange, result
from tests.gateway.world import ORIGIN, eventually, world

NEW_YEARS_EVE = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
DAYS = frozenset({"unattributed:2026-12-31", "unattributed:2027-01-01"})


def state(phase: Phase = Phase.READY, *, owner: str | None = None, metadata: str | None = None) -> SessionState:
    def sealed(key_id: str | None) -> Sealed | None:
        return None if key_id is None else Sealed(key_id, "n", "c")

    return SessionState(session_id="ses_a", phase=phase, owner=sealed(owner), metadata=sealed(metadata))


def test_denials_of_this_night_can_be_sealed() -> None:
    """Midnight does not wait for the log: tomorrow's key is made today."""
    assert wanted([], (), NEW_YEARS_EVE).made == DAYS


@pytest.mark.parametrize("phase", Phase)
def test_only_live_sessions_need_keys(phase: Phase) -> None:
    needed = wanted([state(phase, owner="k1")], (), NEW_YEARS_EVE)
    assert needed.ids == ({"k1"} if phase in SEATED else frozenset())
    assert (needed.subjects, needed.made) == (frozenset[str](), DAYS)


def test_a_session_without_an_owner_is_its_own_subject() -> None:
    """Its exchanges are sealed with a key of the session."""
    assert wanted([state()], (), NEW_YEARS_EVE).subjects == {session_subject("ses_a")}
    needed = wanted([state(metadata="k2")], (), NEW_YEARS_EVE)
    assert (needed.ids, needed.subjects) == (frozenset({"k2"}), frozenset({session_subject("ses_a")}))


@pytest.mark.parametrize("live", [state(owner="k1", metadata="k1"), state(metadata="k1")])
def test_what_was_erased_is_not_kept_alive(live: SessionState) -> None:
    """A session may outlive its subject; no key of it is fetched, and none made in its name."""
    needed = wanted([live], ("k1",), NEW_YEARS_EVE)
    assert (needed.ids, needed.subjects, needed.made) == (frozenset[str](), frozenset[str](), DAYS)


class Asked(MemoryKeyring):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: set[str] = set()
        self.ids: set[str] = set()

    async def key_for(self, subject: str) -> SubjectKey:
        self.subjects.add(subject)
        return await super().key_for(subject)

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        self.ids |= (asked := set(ids))
        return await super().keys(asked)


async def test_a_round_fetches_what_the_views_show() -> None:
    """And after an erasure that the views have seen, no round asks for the key again."""
    store, keyring = MemoryEventStore(), Asked()
    recorder, views = Recorder(store, keyring), Views(store)
    owner = await recorder.sealed("ada", "ada", session_stream("ses_a"), "session.requested", "owner")
    requested = payload(SessionRequested, session_id="ses_a", owner=owner, metadata=None)
    await recorder.fact(session_stream("ses_a"), requested, who=ORIGIN.who)
    granted = payload(AdmissionGranted, session_id="ses_a", generation=1)
    await recorder.fact(ADMISSION, granted, who=ORIGIN.who)
    await views.load()
    keyring.subjects.clear()
    at_hand = KeysAtHand(keyring, views, lambda: NEW_YEARS_EVE)
    await at_hand.run_once()
    assert (keyring.ids, keyring.subjects) == ({owner.k}, set(DAYS))
    await recorder.fact(SYSTEM, payload(SubjectErased, key_ids=(owner.k,)), who=ORIGIN.who)
    await views.load()
    keyring.ids.clear()
    await at_hand.run_once()
    assert keyring.ids == set()


async def test_every_process_has_the_key_as_soon_as_it_sees_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for a round: an outage may begin a second after the session was opened elsewhere."""
    monkeypatch.setattr(lifespan, "KEYS_SECONDS", 3600.0)
    async with world(tmp_path) as earth, earth.gateway() as one:
        keyring = FarKeyring(earth.keyring, lambda: False)
        async with earth.gateway(keyring=keyring):
            last = await earth.keyring.key_for(unattributed(utc_now() + timedelta(days=1)))
            await eventually(lambda: last.id in keyring.known([last.id]))  # the first round is over
            key = await one.services.keyring.key_for("session:" + (await one.open()).session_id)
            await eventually(lambda: keyring.known([key.id]) == {key.id: key})


async def test_a_process_that_starts_knows_what_was_erased_before(tmp_path: Path) -> None:
    """Its sessions are served on when the log goes away: no key of theirs is asked for."""
    async with world(tmp_path) as earth, earth.gateway() as one:
        erased = payload(SubjectErased, key_ids=("sk_gone",))
        await one.services.recorder.fact(SYSTEM, erased, who=ORIGIN.who)
        keyring = FarKeyring(earth.keyring, lambda: False)
        async with earth.gateway(keyring=keyring):
            assert keyring.known(["sk_gone"]) == {"sk_gone": None}


async def test_a_session_of_nobody_that_was_erased_stays_so_on_every_process(tmp_path: Path) -> None:
    """It lives on: what it does, and why somebody reads it, is sealed for nobody to open; no round makes a key."""
    async with world(tmp_path) as earth:
        rings = [FarKeyring(earth.keyring, lambda: False) for _ in range(2)]
        async with earth.gateway(keyring=rings[0]) as one, earth.gateway(keyring=rings[1]) as other:
            session = await one.open()
            await other.reaches(session.session_id, Phase.READY)
            gone = await earth.keyring.erase(session_subject(session.session_id))
            assert len(gone) == 1
            told = await one.services.recorder.fact(SYSTEM, payload(SubjectErased, key_ids=gone), who=ORIGIN.who)
            for gateway, ring in zip((one, other), rings, strict=True):
                await gateway.views.catch_up(told or 0)
                await KeysAtHand(ring, gateway.views, lambda: NEW_YEARS_EVE).run_once()
                asked = exchange(session.container, session_id=session.session_id)
                gateway.services.exchanges.ended(asked, result(), 200, was_opened=False)
                assert await gateway.services.exchanges.flush(5)
                why = await sealed_purpose.sealed(gateway.services.recorder, "a complaint", session)
                assert isinstance(why, Sealed) and await earth.keyring.keys([why.k]) == {}
            done = await earth.payloads("exchange.completed")
            assert len(done) == 2
            assert await earth.keyring.keys([each.path.k for each in done] + [each.client.k for each in done]) == {}
            assert await earth.keyring.erase(session_subject(session.session_id)) == ()
