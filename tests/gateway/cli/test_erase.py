"""``erase``: a person's fields are gone for good, also when the first attempt was cut short; the log stays readable."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from events import codec
from events.catalogue import AccessDenied, ExchangeOpened, LogRead, SessionRequested, SubjectErased
from events.envelope import SYSTEM, ActorKind, RecordedEvent, container_stream, session_stream
from events.sealing import Place, SubjectKey, seal
from gateway import sealed_purpose
from gateway.cli import erase
from gateway.cli.direct import Direct, open_log
from gateway.cli.exits import Exit
from gateway.recorder import Who, unattributed
from tests.factories import payload
from tests.gateway.cli.conftest import run

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("database_variables")]


def on_log(work: Callable[[Direct], Awaitable[Any]]) -> Any:
    """What ``work`` gives of the log that the commands use."""

    async def opened() -> Any:
        async with open_log() as log:
            return await work(log)

    return asyncio.run(opened())


async def request(log: Direct, session_id: str, owner: str | None, folder: str | None = None) -> None:
    """A session, asked for in the name of ``owner``."""
    stream, recorder = session_stream(session_id), log.recorder
    subject = owner or f"session:{session_id}"

    async def sealed(clear: str, field: str) -> Any:
        return await recorder.sealed(subject, clear, stream, "session.requested", field)

    wanted = payload(
        SessionRequested,
        session_id=session_id,
        owner=None if owner is None else await sealed(owner, "owner"),
        metadata=await sealed('{"secret":"thing"}', "metadata"),
        host_dir=None if folder is None else await sealed(folder, "host_dir"),
        asked=None,
    )
    await recorder.fact(stream, wanted, who=Who(kind=ActorKind.KEY, id="chat", key_id="k1", person=owner))


@pytest.fixture
def log_of_two(database_variables: dict[str, str]) -> None:
    """Ada's session and Bob's, one of nobody, and a stranger's address."""

    async def write(log: Direct) -> None:
        await request(log, "ses_ada", "Ada")
        await request(log, "ses_bob", "Bob")
        await request(log, "ses_nobody", None)
        subject = unattributed(datetime.now(UTC))
        client = await log.recorder.sealed(subject, "192.0.2.1", SYSTEM, "access.denied", "client")
        denied = payload(AccessDenied, client=client, session_id=None)
        await log.recorder.fact(SYSTEM, denied, who=Who(kind=ActorKind.ANONYMOUS, id="unknown"))

    on_log(write)


def erasures() -> list[SubjectErased]:
    async def read(log: Direct) -> list[Any]:
        return [codec.decode(event) for event in await log.storage.store.read_log(types=("subject.erased",))]

    found: list[SubjectErased] = on_log(read)
    return found


def owners() -> dict[str, str | None]:
    return {one["session_id"]: one["owner"] for one in run("replay", "--json").document["sessions"]}


@pytest.mark.usefixtures("log_of_two")
def test_one_person_is_erased_and_nobody_else() -> None:
    ran = run("erase", "Ada", "--yes", "--reason", "letter 17", "--json")
    assert ran.code == Exit.OK
    done = ran.document
    assert (done["fields"], done["sessions"], done["told_late"]) == (3, ["ses_ada"], [])
    assert owners() == {"ses_ada": "[erased]", "ses_bob": "Bob", "ses_nobody": None}
    (told,) = erasures()
    assert (list(told.key_ids), told.reason) == (done["key_ids"], "letter 17")
    again = run("erase", "Ada", "--yes")
    assert (again.code, again.out) == (Exit.NEGATIVE, "")
    assert len(erasures()) == 1


@pytest.mark.usefixtures("log_of_two")
def test_what_one_run_tells_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be more keys than one event holds: here Ada's, and Bob's of an erasure that was cut short."""

    async def read(log: Direct) -> list[RecordedEvent]:
        return await log.storage.store.read_log(types=("subject.erased",))

    monkeypatch.setattr(erase, "KEYS_AN_EVENT", 1)
    on_log(lambda log: log.storage.keyring.erase("Bob"))
    assert run("erase", "Ada", "--yes").code == Exit.OK
    one, other = on_log(read)
    assert one.correlation_id == other.correlation_id is not None


@pytest.mark.usefixtures("log_of_two")
@pytest.mark.parametrize("subject", ["Ada", "session:ses_nobody", "today"])
def test_a_dry_run_foretells_what_is_done(subject: str) -> None:
    """Also for the subjects that the gateway names itself, of which no field says the name."""
    subject = unattributed(datetime.now(UTC)) if subject == "today" else subject
    foretold = run("erase", subject, "--dry-run", "--json").document
    assert len(foretold["key_ids"]) == 1
    assert erasures() == []
    assert owners()["ses_ada"] == "Ada"
    done = run("erase", subject, "--yes", "--json").document
    assert done | {"dry_run": True} == foretold


@pytest.mark.usefixtures("log_of_two")
def test_an_erasure_that_was_cut_short_is_told_by_the_next() -> None:
    """The keys went, and the process with them: no gateway was told, and nothing says any more whose they were."""
    (cut,) = on_log(lambda log: log.storage.keyring.erase("Ada"))
    ran = run("erase", "Ada", "--yes", "--json")
    assert ran.code == Exit.OK
    assert (ran.document["key_ids"], ran.document["told_late"]) == ([], [cut])
    assert [told.key_ids for told in erasures()] == [(cut,)]
    assert run("erase", "Ada", "--yes").code == Exit.NEGATIVE
    assert "cut short" not in run("erase", "Bob", "--yes").out


@pytest.mark.usefixtures("log_of_two")
def test_a_key_that_was_never_kept_is_no_erasure() -> None:
    """A session that lives on after an erasure seals what it does with keys that it throws away."""

    async def write(log: Direct) -> None:
        stream = container_stream("c1")
        path = seal(SubjectKey.new(), "/a", Place(stream, "exchange.opened", "path"))
        opened = payload(ExchangeOpened, session_id="ses_ada", path=path, client=None)
        await log.recorder.fact(stream, opened, who=Who(kind=ActorKind.SESSION, id="ses_ada"))
        why = seal(SubjectKey.new(), "complaint 4711", sealed_purpose.PLACE)
        read = LogRead(what="session", session_id="ses_ada", purpose=why)
        await log.recorder.fact(SYSTEM, read, who=Who(kind=ActorKind.KEY, id="eve"))

    on_log(write)
    assert run("erase", "Nobody", "--yes", "--json").document["told_late"] == []


def test_a_session_of_nobody_is_told_by_its_own_id() -> None:
    """It may have no field at all: a gateway finds whose files to remove by the id alone, at a repetition too."""

    async def write(log: Direct) -> None:
        for session_id in ("ses_plain", "ses_cut"):
            await log.storage.keyring.key_for(f"session:{session_id}")
            nothing = dict.fromkeys(("owner", "metadata", "asked", "host_dir"))
            wanted = payload(SessionRequested, session_id=session_id, **nothing)
            await log.recorder.fact(session_stream(session_id), wanted, who=Who(kind=ActorKind.KEY, id="chat"))
        await request(log, "ses_ada", "Ada")
        await log.storage.keyring.erase("session:ses_cut")

    on_log(write)
    foretold = run("erase", "session:ses_plain", "--dry-run", "--json").document
    done = run("erase", "session:ses_plain", "--yes", "--json").document
    assert (len(done["key_ids"]), done["sessions"], done["told_late"]) == (1, ["ses_plain"], [])
    assert done | {"dry_run": True} == foretold
    assert [set(told.key_ids) for told in erasures()] == [{*done["key_ids"], "ses_plain"}]
    assert run("erase", "session:ses_cut", "--yes", "--json").document["told_late"] == ["ses_cut"]
    for over in ("session:ses_plain", "session:ses_cut", "session:ses_ada", "session:ses_none"):
        assert run("erase", over, "--yes").code == Exit.NEGATIVE
    assert len(erasures()) == 2


@pytest.mark.usefixtures("log_of_two")
def test_nothing_under_a_name_is_a_negative_answer() -> None:
    for more in ("--yes", "--dry-run"):
        ran = run("erase", "Eve", more)
        assert (ran.code, ran.out) == (Exit.NEGATIVE, "")
        assert ran.err == "Nothing is kept under the name Eve.\n"
    assert erasures() == []


@pytest.mark.parametrize(
    "arguments", [("Ada",), ("", "--yes"), ("Ada", "--yes", "--reason", ""), ("Ada", "--yes", "--reason", "a\nb")]
)
def test_what_is_not_meant_is_not_done(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Without a terminal nobody is asked: --yes has to say it."""
    ran = run("erase", *arguments)
    assert (ran.code, ran.out) == (Exit.USAGE, "")


def test_folders_of_the_host_are_named_for_the_last_time() -> None:
    """They are the operator's and stay; after the erasure nothing in the log says whose they were."""

    async def write(log: Direct) -> None:
        await request(log, "ses_one", "Ada", "ada.papers")
        await request(log, "ses_two", "Ada", "ada.papers")
        await request(log, "ses_three", "Bob", "bob.papers")

    on_log(write)
    for options in (("--dry-run",), ("--yes",)):
        said = run("erase", "Ada", *options).out
        assert "remove them by hand. ada.papers\n" in said and "bob.papers" not in said
    again = run("erase", "Ada", "--yes")
    assert again.code == Exit.NEGATIVE and "ada.papers" not in again.out
    assert run("erase", "Bob", "--dry-run", "--json").document["folders"] == ["bob.papers"]
