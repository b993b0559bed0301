"""``import-sessions``: once, whatever happens; a reason for every refused row; nothing secret, nothing lost."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from events.envelope import session_stream
from gateway.cli.direct import Direct
from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import run, run_process
from tests.gateway.cli.test_erase import on_log, request
from tests.gateway.sessions.test_legacy import RECORD

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("database_variables")]


@pytest.fixture(autouse=True)
def log(database_variables: dict[str, str]) -> None:
    """A log that a gateway has made."""

    async def touch(opened: Direct) -> None:
        assert (await opened.storage.store.head()).position == 0

    on_log(touch)


@pytest.fixture
def legacy_file(tmp_path: Path) -> Path:
    """Two sessions that can be taken over, and one that cannot."""
    return written(tmp_path, [RECORD, {**RECORD, "session_id": "abc-2"}, {**RECORD, "session_id": "abc-3", "port": -1}])


def written(directory: Path, content: Any) -> Path:
    file = directory / "sessions.json"
    file.write_text(json.dumps(content))
    return file


def payloads() -> list[bytes]:
    async def read(opened: Direct) -> list[bytes]:
        return [event.payload for event in await opened.storage.store.read_log(types=("session.*",))]

    found: list[bytes] = on_log(read)
    return found


def test_records_become_ended_sessions_once(legacy_file: Path) -> None:
    """A second run finds them; what replay shows is what the old manager said."""
    first = run("import-sessions", str(legacy_file), "--json", "--owner-field", "user_id")
    assert first.code == Exit.NEGATIVE
    assert first.document["imported"] == ["abc-1", "abc-2"] and first.document["known"] == []
    [refused] = first.document["refused"]
    assert (refused["row"], refused["session_id"]) == (3, "abc-3") and "port" in refused["reason"]

    again = run("import-sessions", str(legacy_file), "--json", "--owner-field", "user_id").document
    assert (again["imported"], again["known"], len(again["refused"])) == ([], ["abc-1", "abc-2"], 1)
    assert len(payloads()) == 2

    shown = {each["session_id"]: each for each in run("replay", "--json").document["sessions"]}
    assert set(shown) == {"abc-1", "abc-2"}
    one = shown["abc-1"]
    assert (one["status"], one["reason"], one["owner"]) == ("stopped", "imported", "Ada")
    assert one["metadata"] == {"user_id": "Ada", "topic": "analysis"}
    assert one["created_at"] == "2026-01-18T22:29:04.123456Z" and one["last_accessed"] == "2026-01-18T23:30:00Z"


def test_neither_token_nor_anything_personal_is_in_the_log_in_clear(legacy_file: Path) -> None:
    run("import-sessions", str(legacy_file), "--owner-field", "user_id")
    for clear in (b"s3cr3t-t0k3n", b"Ada", b"/srv/sessions", b"analysis"):
        assert all(clear not in payload for payload in payloads())


def test_a_dry_run_says_the_same_and_writes_nothing(legacy_file: Path) -> None:
    dry = run("import-sessions", str(legacy_file), "--dry-run", "--json")
    assert (dry.document["imported"], dry.document["dry_run"]) == (["abc-1", "abc-2"], True)
    assert payloads() == []


def test_a_record_that_changed_since_is_refused(tmp_path: Path) -> None:
    """Two files that disagree are not one import; what differs is named, not shown."""
    run("import-sessions", str(written(tmp_path, [RECORD])))
    changed = written(tmp_path, [{**RECORD, "host_dir": "/elsewhere", "status": "error"}])
    [refused] = run("import-sessions", str(changed), "--json").document["refused"]
    assert refused["reason"] == "imported before with another host_dir, status"


def test_what_was_erased_is_not_brought_back(tmp_path: Path) -> None:
    file = written(tmp_path, [RECORD])
    run("import-sessions", str(file), "--owner-field", "user_id")
    erased = run("erase", "Ada", "--yes", "--json").document
    assert erased["sessions"] == ["abc-1"]
    assert run("import-sessions", str(file), "--owner-field", "user_id", "--json").document["known"] == ["abc-1"]
    [one] = run("replay", "--json").document["sessions"]
    assert (one["owner"], one["metadata"]) == ("[erased]", "[erased]")


def test_a_session_of_this_gateway_is_not_touched(tmp_path: Path) -> None:
    on_log(lambda opened: request(opened, "abc-1", None))
    [refused] = run("import-sessions", str(written(tmp_path, [RECORD])), "--json").document["refused"]
    assert refused["reason"] == "a session of this gateway has that id"


def test_a_key_that_may_see_them_must_exist(tmp_path: Path) -> None:
    file = written(tmp_path, [RECORD])
    failed = run("import-sessions", str(file), "--opened-by", "nobody")
    assert failed.code == Exit.USAGE and "No API key has the id" in failed.err
    key = run("keys", "create", "--name", "chat", "--role", "frontend", "--json").document["key_id"]
    assert run("import-sessions", str(file), "--opened-by", key, "--json").document["imported"] == ["abc-1"]
    [one] = run("replay", "--json").document["sessions"]
    assert one["opened_by"] == key


@pytest.mark.parametrize(
    ("content", "option", "sentence"),
    [
        (b"{", (), "no JSON"),
        (b"\xff\xfe", (), "is not UTF-8"),
        (b"[]", ("--tz", "Mars/Olympus"), "not a time zone"),
        (None, (), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, content: bytes | None, option: tuple[str, ...], sentence: str
) -> None:
    file = tmp_path / "sessions.json"
    if content is not None:
        file.write_bytes(content)
    failed = run("import-sessions", str(file), *option)
    assert failed.code == Exit.USAGE and sentence in failed.err and "Traceback" not in failed.err


def test_people_get_an_aligned_table_and_a_sum(legacy_file: Path) -> None:
    ran = run("import-sessions", str(legacy_file))
    assert "REFUSED BECAUSE" in ran.out
    assert ran.out.splitlines()[-1] == "Imported 2; 0 were in the log already; 1 refused."


def test_two_runs_at_once_write_each_session_once(tmp_path: Path) -> None:
    """Two real processes on one file: what one loses to the other it finds there."""
    file = written(tmp_path, [{**RECORD, "session_id": f"s-{number}"} for number in range(40)])

    async def both() -> list[Any]:
        return list(await asyncio.gather(*(run_process("import-sessions", str(file), "--json") for _ in range(2))))

    documents = [ran.document for ran in asyncio.run(both())]
    assert all(each["refused"] == [] or "run this again" in each["refused"][0]["reason"] for each in documents)
    assert len(payloads()) == 40
    assert sum(len(each["imported"]) for each in documents) == 40
    assert run("import-sessions", str(file), "--json").document["known"] == [f"s-{number}" for number in range(40)]


def test_a_stream_holds_one_event(legacy_file: Path) -> None:
    run("import-sessions", str(legacy_file))

    async def version(opened: Direct) -> int:
        return len(await opened.storage.store.read_stream(session_stream("abc-1")))

    assert on_log(version) == 1
