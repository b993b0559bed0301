"""The current request: how it is called, and who sees it."""

import asyncio
import re
from uuid import UUID

import pytest

from events import ids
from gateway import context, telemetry
from gateway.context import RequestContext, correlation_id_of, request_id_for

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
REQUEST = RequestContext(
    request_id="req-1", correlation_id=correlation_id_of("req-1"), trace_id=TRACE, span_id=b"12345678"
)


@pytest.mark.parametrize("presented", [b"req-abc123", b"A.b_c-9", b"x", b"y" * 128])
def test_an_acceptable_id_is_kept(presented: bytes) -> None:
    """The caller's logs and ours then share one name for the request."""
    assert request_id_for([presented], TRACE, began_here=True) == presented.decode()


@pytest.mark.parametrize(
    "presented", [[], [b""], [b"z" * 129], [b"a b"], [b"a\n"], [b"\xc3\xa9"], [b"a/b"], [b"one", b"two"]]
)
def test_another_is_replaced_by_the_trace_that_began_here(presented: list[bytes]) -> None:
    assert request_id_for(presented, TRACE, began_here=True) == TRACE.hex()


def test_in_a_trace_from_outside_each_request_has_its_own() -> None:
    """A trace spans many requests; its id would name them all."""
    first, second = (request_id_for([], TRACE, began_here=False) for _ in range(2))
    assert first != second
    assert UUID(first).version == UUID(second).version == 7
    assert re.fullmatch("[0-9a-f]{32}", first)


@pytest.mark.parametrize(
    "request_id", ["0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "0190A1B2C3D47E5F8A9B0C1D2E3F4A5B", TRACE.hex()]
)
def test_an_id_that_is_a_uuid_is_the_correlation_id(request_id: str) -> None:
    assert correlation_id_of(request_id) == UUID(request_id)


@pytest.mark.parametrize("request_id", ["req-abc123", "1" * 31, "0190a1b2c3d4-7e5f-8a9b-0c1d2e3f4a5b", "1_" * 16])
def test_another_id_has_a_derived_one(request_id: str) -> None:
    """The same on every machine, so that an auditor can compute it."""
    assert correlation_id_of(request_id) == ids.named("request", request_id)


def test_outside_of_a_request_there_is_none() -> None:
    context.set_route("/x")
    assert (context.current(), context.request_id(), context.cause().correlation_id) == (None, "", None)


def test_it_ends_with_its_block() -> None:
    with context.begin(REQUEST):
        assert context.request_id() == "req-1"
    assert context.current() is None


async def test_a_task_of_the_request_sees_what_is_learnt_later() -> None:
    """A relay may start a task before the session is known."""
    known = asyncio.Event()

    async def later() -> RequestContext | None:
        await known.wait()
        return context.current()

    with context.begin(REQUEST):
        task = asyncio.create_task(later())
        context.set_route("/s/{session_id}/{path}")
        context.set_session("ses_1")
        known.set()
        seen = await task
    assert seen is not None
    assert (seen.route, seen.session_id, seen.request_id) == ("/s/{session_id}/{path}", "ses_1", "req-1")


async def test_two_requests_at_once_do_not_see_each_other() -> None:
    met = asyncio.Barrier(2)

    async def one(name: str) -> str:
        with context.begin(
            RequestContext(request_id=name, correlation_id=ids.uuid7(), trace_id=TRACE, span_id=b"1" * 8)
        ):
            await met.wait()
            return context.request_id()

    first, second = await asyncio.gather(one("a"), one("b"))
    assert (first, second) == ("a", "b")


def test_an_event_is_caused_by_the_request_and_the_innermost_span() -> None:
    with context.begin(REQUEST):
        outer = context.cause()
        with telemetry.span("inner") as span:
            inner = context.cause()
    assert (outer.correlation_id, outer.trace_id, outer.span_id) == (REQUEST.correlation_id, TRACE, b"12345678")
    assert (inner.correlation_id, inner.trace_id, inner.span_id) == (
        REQUEST.correlation_id,
        span.trace_id,
        span.span_id,
    )


def test_a_job_without_a_request_is_caused_by_its_span() -> None:
    with telemetry.span("job") as span:
        cause = context.cause()
    assert (cause.correlation_id, cause.trace_id, cause.span_id) == (None, span.trace_id, span.span_id)
