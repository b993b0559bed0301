"""Problems: one table, one shape, and no inner word of ours in an answer."""

import inspect
import re
from pathlib import Path

import msgspec
import pytest

import docker.errors
import events.errors
import gateway.proxy.errors
import projections.errors
from docker.errors import DaemonDown, DockerError, HostDirRefused
from events.errors import (
    BadEvent,
    EventError,
    JournalDamaged,
    JournalLocked,
    LogForked,
    SchemaMissing,
    SchemaPending,
    StoreUnavailable,
    UnreadableEvent,
)
from gateway import errors
from gateway.errors import DENIALS, PROBLEMS, Refused, body, headers, refused
from gateway.proxy.errors import ClientLeft, ProxyError
from gateway.proxy.guard import Refusal
from projections.errors import (
    ProjectionError,
    RebuildRefused,
    RowRefused,
    Superseded,
    TableHeld,
    UnderWay,
    UnreadableState,
    WouldLose,
)

ROOT = Path(__file__).parents[2]
# Faults of ours, or of no request: they are logged with their traceback and answered as 500.
OURS: set[type[Exception]] = {BadEvent, UnreadableEvent, SchemaMissing, JournalLocked, JournalDamaged, ClientLeft}
OURS |= {SchemaPending}  # of commands
OURS |= {Superseded, RebuildRefused, UnderWay, TableHeld, WouldLose, UnreadableState, RowRefused}
BASES = {EventError, ProjectionError, ProxyError, Exception}


def foreseen() -> list[type[Exception]]:
    """Every exception of the rooms that a request may meet."""
    rooms = (docker.errors, events.errors, gateway.proxy.errors, projections.errors)
    return [
        kind
        for room in rooms
        for kind in vars(room).values()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == room.__name__
    ]


def made(kind: type[Exception]) -> Exception:
    if issubclass(kind, LogForked):
        return kind("another log at 10.0.0.1", same_until=1, differs_from=2, known_until=3)
    count = len(inspect.signature(kind).parameters) if kind.__init__ is not Exception.__init__ else 1
    text = "postgresql://inner:secret@10.0.0.1/x"
    return kind(*range(count)) if kind.__name__ == "ProjectionBehind" else kind(*[text] * count)


@pytest.mark.parametrize("kind", foreseen(), ids=lambda kind: kind.__name__)
def test_every_error_of_a_room_has_a_problem_or_is_ours(kind: type[Exception]) -> None:
    """A new error class is decided on here; by default it would be a 500 in silence."""
    problem = refused(made(kind))
    if kind in OURS | BASES:
        assert problem is None
    else:
        assert problem is not None and problem.slug in PROBLEMS
        assert 400 <= problem.status <= 599


@pytest.mark.parametrize("error", [StoreUnavailable, DockerError, DaemonDown])
def test_inner_words_are_not_told(error: type[Exception]) -> None:
    """Messages of a driver carry addresses and names: the caller gets a sentence of ours."""
    problem = refused(error("postgresql://inner:secret@10.0.0.1/x"))
    assert problem is not None
    document = body(problem, "r1").decode()
    assert "inner" not in document and "10.0.0.1" not in document


OF_DOCKER = [kind for kind in foreseen() if issubclass(kind, DockerError) and kind is not HostDirRefused]


@pytest.mark.parametrize("kind", OF_DOCKER, ids=lambda kind: kind.__name__)
def test_an_error_of_the_runtime_is_told_by_its_class(kind: type[DockerError]) -> None:
    """In events as in answers: a daemon's words hold addresses, and paths of its machine and ours."""
    error = kind("tcp://inner:2376 /etc/certs/key.pem")
    problem = refused(error)
    assert problem is not None
    for sentence in (errors.plain(error), problem.detail):
        assert sentence.endswith(".") and "inner" not in sentence and "/" not in sentence


def test_what_to_do_about_a_folder_is_told() -> None:
    """These sentences name no folder, and are for whoever asked for one."""
    assert errors.plain(HostDirRefused("Take another name.")) == "Take another name."


def test_an_unforeseen_error_is_no_problem() -> None:
    for error in (ValueError("x"), KeyError("x"), RuntimeError("x"), OSError("x")):
        assert refused(error) is None


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_is_answered_in_one_shape(slug: str) -> None:
    problem = Refused(slug, "What is wrong.")
    document = msgspec.json.decode(body(problem, "r1"))
    assert document == {
        "type": f"/problems/{slug}",
        "title": PROBLEMS[slug].title,
        "status": PROBLEMS[slug].status,
        "detail": "What is wrong.",
        "request_id": "r1",
    }
    lines = dict(headers(problem))
    assert lines[b"content-type"] == b"application/problem+json"
    assert lines[b"cache-control"] == b"no-store"
    assert (b"www-authenticate" in lines) is (PROBLEMS[slug].status == 401)


def test_what_may_be_tried_later_says_when() -> None:
    problem = refused(StoreUnavailable("x"))
    assert problem is not None
    assert int(dict(headers(problem))[b"retry-after"]) > 0
    assert b"retry-after" not in dict(headers(Refused("bad-request", "x")))


def test_denials_are_the_statuses_of_who_may() -> None:
    assert {slug for slug, problem in PROBLEMS.items() if problem.status in (401, 403)} == set(DENIALS)
    for slug in DENIALS:
        assert Refused(slug, "x").denial == slug.replace("-", "_")
    assert Refused("session-unknown", "x").denial is None
    assert Refused("session-unknown", "x", denial="not_owner").denial == "not_owner"


def test_statuses_that_call_for_patience_say_later() -> None:
    """A program decides by the word; the two must not contradict each other."""
    for slug, problem in PROBLEMS.items():
        assert problem.retry in ("never", "changed", "later"), slug
        if problem.status in (429, 503, 504) and slug != "log-forked":
            assert problem.retry == "later", slug


def test_a_refusal_of_the_guard_closes_where_it_must() -> None:
    """Where a request ends is in doubt: whatever follows on the connection belongs to nobody."""
    doubtful = Refused.of(Refusal(400, "bad-framing", "Two ways.", close=True))
    assert (b"connection", b"close") in headers(doubtful)
    assert (b"connection", b"close") not in headers(Refused.of(Refusal(403, "origin-refused", "No.")))
    assert Refused.of(Refusal(501, "bad-framing", "x")).status == 501, "its own status, not the table's"


def test_every_slug_of_the_table_is_raised_and_no_other() -> None:
    """A slug that nobody raises is a promise that nobody keeps."""
    sources = [path.read_text() for path in (ROOT / "gateway").rglob("*.py")]
    said = re.compile(r'(?<!Runtime)(?<!HostDir)Refus(?:ed\(|al\(\s*\d+,)\s*"([^"]+)"(?: if \w+ else "([^"]+)")?')
    raised = {slug for text in sources for found in said.findall(text) for slug in found if slug}
    mapped = {slug for _, slug in errors._BY_ERROR}
    assert raised | mapped == set(PROBLEMS)
