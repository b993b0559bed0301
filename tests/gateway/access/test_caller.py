"""Who calls a control route: what a key's holder may see, and what is told of those who may not."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.requests import Request

from events.catalogue import AccessDenied, ApiKeyCreated
from events.codec import NO_CAUSE, decode, decode_actor
from events.envelope import KEYS, ActorKind
from events.errors import StoreUnavailable
from events.keyring import MemoryKeyring
from events.sealing import SubjectKey
from gateway.access.caller import MAX_PERSON_CHARACTERS, Access, Caller, bearer
from gateway.access.keys import new_key, revoked
from gateway.access.roles import EVERYONE, READERS, SESSION_USERS, Role
from gateway.access.tokens import sha256
from gateway.errors import Refused
from gateway.outages import STRANGERS, Outages
from gateway.recorder import Recorder, Who, utc_now
from projections.session_state import SessionState
from projections.views import Views
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.world import eventually

OPERATOR = Who(kind=ActorKind.OPERATOR, id="test")


def connection(key: str | None = None, *more: tuple[bytes, bytes]) -> Request:
    lines = [(b"authorization", f"Bearer {key}".encode("latin-1"))] if key else []
    return Request({"type": "http", "headers": [*lines, *more]})


class Door:
    """Access on a log in memory. ``tell`` writes what the view has not seen yet, as another process does."""

    def __init__(self) -> None:
        self.store = FaultyStore()
        self.views = Views(self.store, poll_seconds=0.01)
        self.recorder = Recorder(self.store, MemoryKeyring())
        self.unseen = 0.0
        self.outages = Outages(self.recorder, "g1", stale_limit=900.0, unseen=lambda: self.unseen)
        self.access = Access(self.recorder, self.views, lambda: NO_CAUSE, self.outages)

    async def tell(self, payload: object) -> None:
        await self.recorder.fact(KEYS, payload, who=OPERATOR)  # type: ignore[arg-type]  # key events

    async def key(self, role: Role = Role.FRONTEND, name: str = "chat") -> str:
        made = new_key(name, role)
        await self.tell(made.created)
        await self.views.load()
        return made.key

    async def refusal(self, key: str | None, allowed: frozenset[Role] = EVERYONE) -> Refused:
        with pytest.raises(Refused) as raised:
            await self.access.caller(connection(key), allowed)
        return raised.value


@pytest.mark.parametrize(
    ("value", "credential"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"BEARER abc", "abc"),
        (b"Basic abc", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"abc", None),
        (b"", None),
        (b"Bearer a b", "a b"),
    ],
)
def test_a_credential_is_a_bearer(value: bytes, credential: str | None) -> None:
    assert bearer(Request({"type": "http", "headers": [(b"authorization", value)]})) == credential


def test_no_cookie_and_no_query_is_a_credential() -> None:
    """A browser sends cookies by itself, and queries are written into logs on the way."""
    scope = {
        "type": "http",
        "query_string": b"access_token=x&token=x",
        "headers": [(b"cookie", b"authorization=Bearer x")],
    }
    assert bearer(Request(scope)) is None


def test_frontends_see_what_they_opened_and_others_see_all() -> None:
    state = SessionState(session_id="s", opened_by="k1")
    assert [
        Caller(key_id=key, name="n", role=role).may_see(state)
        for role, key in [(Role.FRONTEND, "k1"), (Role.FRONTEND, "k2"), (Role.AUDITOR, "k2"), (Role.OPERATOR, "k2")]
    ] == [True, False, True, True]


async def test_a_key_of_another_process_is_known_at_once() -> None:
    """Made a moment ago, not in this view yet: a look at the log's head before anybody is refused."""
    door = Door()
    made = new_key("chat", Role.FRONTEND)
    await door.tell(made.created)
    following = asyncio.create_task(door.views.run())
    try:
        caller = await door.access.caller(connection(made.key), SESSION_USERS)
    finally:
        following.cancel()
    assert (caller.name, caller.role, caller.key_id) == ("chat", Role.FRONTEND, made.created.key_id)


async def test_the_wrong_role_is_told_the_right_ones() -> None:
    door = Door()
    refusal = await door.refusal(await door.key(Role.FRONTEND), READERS)
    assert (refusal.slug, refusal.status) == ("wrong-role", 403)
    assert refusal.detail == "The role frontend may not do that; auditor or operator may."


async def test_a_role_of_a_later_release_opens_nothing_here() -> None:
    """A key that a newer gateway made on the same log: refused like any other role, not a fault of ours."""
    door, key = Door(), "gwk_k1_" + "s" * 43
    await door.tell(ApiKeyCreated(key_id="k1", name="new", role="curator", sha256=sha256(key)))
    await door.views.load()
    assert (await door.refusal(key)).slug == "wrong-role"


async def test_a_person_is_sealed_found_and_erased_by_the_same_name() -> None:
    """Bytes are UTF-8, in the header as in a body: else the name in the log is another one than the operator erases."""
    door = Door()
    key = await door.key()
    caller = await door.access.caller(connection(key, (b"x-on-behalf-of", "Zoë".encode())), EVERYONE)
    assert caller.who.person == "Zoë"
    assert (await door.access.caller(connection(key, (b"x-on-behalf-of", b"")), EVERYONE)).person is None


@pytest.mark.parametrize("person", [b"\xff", b"Zo\xeb", b"x" * (MAX_PERSON_CHARACTERS + 1)])
async def test_a_person_that_cannot_be_one_is_refused(person: bytes) -> None:
    door = Door()
    key = await door.key()
    with pytest.raises(Refused) as raised:
        await door.access.caller(connection(key, (b"x-on-behalf-of", person)), EVERYONE)
    assert raised.value.slug == "bad-request"
    most = connection(key, (b"x-on-behalf-of", ("ë" * MAX_PERSON_CHARACTERS).encode()))
    assert (await door.access.caller(most, EVERYONE)).person == "ë" * MAX_PERSON_CHARACTERS


async def test_only_who_proves_a_key_appears_as_its_holder() -> None:
    """A revoked key's holder is named; whoever only knows an id, which stands in the log, is nobody."""
    door = Door()
    key = await door.key(name="chat")
    key_id = key.split("_")[1]
    await door.tell(revoked(key_id))
    await door.views.load()
    assert door.access.presumed(connection(key)) == Who(kind=ActorKind.KEY, id="chat", key_id=key_id)
    for presented in (None, f"gwk_{key_id}_guess", "gwt_x", "\x80\xff"):
        assert door.access.presumed(connection(presented)) == Who(kind=ActorKind.ANONYMOUS, id="unknown")


async def test_a_denial_is_an_event_with_the_address_sealed() -> None:
    """One key a day for addresses of nobody we know, so that a day can be erased."""
    door = Door()
    refusal = Refused("bad-credential", "no")
    await door.access.deny(refusal, method="GET", route="/x", who=OPERATOR, session_id="s1", client="192.0.2.7")
    (event,) = await door.store.read_log()
    assert b"192.0.2.7" not in event.payload
    assert decode_actor(event).id == "test"
    day = f"unattributed:{utc_now():%Y-%m-%d}"
    assert await door.recorder.keyring.erase(day) != ()
    assert timedelta(0) <= utc_now() - event.occurred_at < timedelta(minutes=1)


async def test_a_denial_without_the_log_is_no_other_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The caller is refused all the same, and the security log has it."""
    door = Door()
    door.store.away = True
    await door.access.deny(Refused("bad-credential", "no"), method="GET", route="/x", who=OPERATOR, client="192.0.2.7")
    assert [record.name for record in caplog.records] == ["session_gateway.security"] * 2
    assert "192.0.2.7" not in caplog.text


async def test_strangers_are_told_of_in_an_outage_up_to_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can be refused as often as he likes: the spool is for what happened to sessions. The security log has
    all of them, and who showed a key that we know is told as ever."""
    inner = FaultyStore()
    async with spooled(inner, tmp_path) as store:
        recorder, views = Recorder(store, MemoryKeyring()), Views(store)
        outages = Outages(recorder, "g1", stale_limit=900.0, unseen=lambda: 0.0)
        store.on_change(outages.changed)
        access = Access(recorder, views, lambda: NO_CAUSE, outages)

        async def deny(who: Who, times: int) -> int:
            before = store.status.spooled_units
            for _ in range(times):
                await access.deny(Refused("no-credential", "no"), method="GET", route="/x", who=who)
            return store.status.spooled_units - before

        stranger = Who(kind=ActorKind.ANONYMOUS, id="unknown")
        for _ in range(2):
            inner.away = True
            assert await deny(OPERATOR, 1) == 1
            assert await deny(stranger, STRANGERS + 50) == STRANGERS
            assert await deny(OPERATOR, 1) == 1
            inner.away = False
            await eventually(lambda: store.status.available)
        assert len(await inner.read_log(limit=10_000)) == 2 * (STRANGERS + 2)
    assert len([line for line in caplog.records if line.message.startswith("access denied")]) == 2 * (STRANGERS + 52)
    assert len([line for line in caplog.records if "security log alone" in line.message]) == 2


class Keyless(MemoryKeyring):
    """The subjects' keys are away with the log."""

    async def key_for(self, subject: str) -> SubjectKey:
        raise StoreUnavailable("keys cannot be reached")


async def test_a_denial_does_not_wait_for_the_key_of_the_day() -> None:
    """Told without the client's address rather than not at all, and never with the address in clear."""
    door = Door()
    door.recorder.keyring = Keyless()
    await door.access.deny(Refused("bad-credential", "no"), method="GET", route="/x", who=OPERATOR, client="192.0.2.7")
    (event,) = await door.store.read_log()
    denied = decode(event)
    assert isinstance(denied, AccessDenied)
    assert (denied.reason, denied.client) == ("bad_credential", None)


async def test_what_newer_events_could_lift_is_not_decided_without_the_log() -> None:
    """A key that was made a moment ago elsewhere: 503 says come again, 401 would say never. It is a denial all the
    same: who tries keys during an outage is in the log."""
    door = Door()
    await door.key()
    door.store.away = True
    refusal = await door.refusal("gwk_k9_" + "s" * 43)
    assert (refusal.slug, refusal.status, refusal.retry_after) == ("store-unavailable", 503, 1)
    assert refusal.denial == "bad_credential"
    with pytest.raises(Refused) as raised:
        await door.access.session("ses_x", Caller(key_id="k1", name="n", role=Role.OPERATOR))
    assert (raised.value.slug, raised.value.denial) == ("store-unavailable", None)


async def test_what_is_final_is_refused_without_the_log() -> None:
    """No event lifts a revocation: who was revoked is told so, outage or not."""
    door = Door()
    key = await door.key()
    await door.tell(revoked(key.split("_")[1]))
    await door.views.load()
    door.store.away = True
    assert (await door.refusal(key)).slug == "revoked-credential"


async def test_a_key_that_may_be_revoked_unseen_opens_nothing_but_what_is_always_allowed() -> None:
    """Beyond STALE_LIMIT; it ends at once when the log is seen again."""
    door = Door()
    key = await door.key()
    door.unseen = 900.0
    await door.access.caller(connection(key), EVERYONE)
    door.unseen = 900.1
    refusal = await door.refusal(key)
    assert (refusal.slug, refusal.status, refusal.retry_after, refusal.denial) == ("view-stale", 503, 5, None)
    assert (await door.access.caller(connection(key), EVERYONE, always=True)).name == "chat"
    door.unseen = 0.1
    assert (await door.access.caller(connection(key), EVERYONE)).name == "chat"


async def test_nobody_learns_whose_session_it_is() -> None:
    """Another frontend's session and none at all: one answer to the caller, two words in the log."""
    door = Door()
    caller = Caller(key_id="k2", name="n", role=Role.FRONTEND)
    states = door.views.sessions
    assert isinstance(states, dict)
    states["s1"] = SessionState(session_id="s1", opened_by="k1")
    told = []
    for session_id in ("s1", "s2"):
        with pytest.raises(Refused) as raised:
            await door.access.session(session_id, caller)
        told.append((raised.value.slug, raised.value.detail, raised.value.status, raised.value.denial))
    assert told[0][:3] == told[1][:3]
    assert [denial for *_, denial in told] == ["not_owner", None]
