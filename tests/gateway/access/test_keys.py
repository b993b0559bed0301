"""API keys: made once, recognised by their hash, refused for what is wrong with them and for nothing else."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import KEYS, ActorKind
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from gateway.access import keys
from gateway.access.keys import NewKey, check, in_force, key_id_of, new_key, proved, revoked, write_key_file
from gateway.access.roles import Role
from gateway.access.tokens import sha256
from gateway.errors import Refused
from gateway.recorder import Recorder, Who, utc_now
from projections.views import Views


class Known:
    """Keys in a log, and the view of it."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.views = Views(self.store)
        self.recorder = Recorder(self.store, MemoryKeyring())

    async def tell(self, *payloads: object) -> None:
        for payload in payloads:
            await self.recorder.fact(KEYS, payload, who=Who(kind=ActorKind.OPERATOR, id="test"))  # type: ignore[arg-type]  # key events
        await self.views.load()


async def known(*made: NewKey) -> Known:
    it = Known()
    await it.tell(*(key.created for key in made))
    return it


def slug(found: object) -> str | None:
    return found.slug if isinstance(found, Refused) else None


def test_the_log_never_holds_a_key() -> None:
    """Whoever reads the log, or its backup, cannot use what stands there."""
    made = new_key("chat", Role.FRONTEND)
    assert made.key.split("_", 2)[2] not in repr(made.created)
    assert made.created.sha256 == sha256(made.key)
    assert made.created.key_id == key_id_of(made.key)


def test_keys_are_long_and_never_the_same() -> None:
    """43 characters of six bits: 256 bits that nobody guesses."""
    made = [new_key("chat", Role.FRONTEND).key for _ in range(200)]
    assert {len(key.split("_", 2)[2]) for key in made} == {43}
    assert len(set(made)) == len({key_id_of(key) for key in made}) == 200


async def test_a_key_is_recognised() -> None:
    made = new_key("chat", Role.FRONTEND)
    it = await known(made, new_key("other", Role.OPERATOR))
    found = check(made.key, it.views, utc_now())
    assert not isinstance(found, Refused)
    assert (found.name, found.role, found.key_id) == ("chat", "frontend", made.created.key_id)


@pytest.mark.parametrize("change", ["", "x", " ", "\n", "_"])
async def test_a_known_id_proves_nothing(change: str) -> None:
    """Ids stand in the log and in answers: only the whole key opens."""
    made = new_key("chat", Role.OPERATOR)
    it = await known(made)
    presented = f"{keys.PREFIX}{made.created.key_id}_{change}" if not change.strip() else made.key + change
    assert slug(check(presented, it.views, utc_now())) == "bad-credential"
    assert proved(presented, it.views) is None


@given(st.text(max_size=60), st.sampled_from(["", "gwk_", "gwt_", "GWK_"]))
def test_whatever_is_presented_is_answered(text: str, prefix: str) -> None:
    """Any header value a client can send, surrogates of bytes that are no text included."""
    views = Views(MemoryEventStore())
    assert slug(check(prefix + text, views, utc_now())) == "bad-credential"


async def test_a_revoked_key_opens_nothing_but_proves_who_it_was() -> None:
    made = new_key("chat", Role.FRONTEND)
    it = await known(made)
    await it.tell(revoked(made.created.key_id))
    assert slug(check(made.key, it.views, utc_now())) == "revoked-credential"
    shown = proved(made.key, it.views)
    assert shown is not None and shown.name == "chat"


async def test_a_key_expires_to_the_moment() -> None:
    now = utc_now()
    made = new_key("chat", Role.FRONTEND, now)
    it = await known(made)
    assert slug(check(made.key, it.views, now - timedelta(microseconds=1))) is None
    assert slug(check(made.key, it.views, now)) == "expired-credential"


async def test_revoked_says_more_than_expired() -> None:
    """Somebody meant it."""
    now = utc_now()
    made = new_key("chat", Role.FRONTEND, now)
    it = await known(made)
    await it.tell(revoked(made.created.key_id))
    assert slug(check(made.key, it.views, now)) == "revoked-credential"


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """0600 also when it replaces one that everybody could read; nothing stays beside it."""
    file = tmp_path / "deep" / "operator.key"
    write_key_file(file, "gwk_one")
    file.chmod(0o644)
    write_key_file(file, "gwk_two")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("gwk_two\n", 0o600)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["operator.key"]


def test_a_key_file_that_cannot_be_placed_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "operator.key" / "taken").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_key_file(tmp_path / "operator.key", "gwk_one")
    assert [path.name for path in tmp_path.iterdir()] == ["operator.key"]


async def test_a_key_is_in_force_until_it_is_revoked_or_expires() -> None:
    """What goes on after the key was recognised looks again."""
    now = utc_now()
    made = [new_key("a", Role.AUDITOR), new_key("b", Role.AUDITOR, now + timedelta(hours=1))]
    first, second = (key.created.key_id for key in made)
    it = await known(*made)
    assert in_force(first, it.views, now) and in_force(second, it.views, now)
    assert not in_force(second, it.views, now + timedelta(hours=1))
    await it.tell(revoked(first))
    assert not in_force(first, it.views, now)
