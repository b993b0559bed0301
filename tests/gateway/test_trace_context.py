"""W3C Trace Context: the vectors of the specification, and the malformed ones that may never become a trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.trace_context import Remote, extract, traceparent, without

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_the_example_of_the_specification_is_read() -> None:
    headers = [
        (b"host", b"x"),
        (b"traceparent", GOOD.encode()),
        (b"tracestate", b"rojo=1"),
        (b"tracestate", b"congo=2"),
    ]
    assert extract(headers) == Remote(bytes.fromhex(TRACE), bytes.fromhex(SPAN), True, b"rojo=1,congo=2")


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """Section 3.2.4: parsers of version 00 take the known parts, and only the sampled flag."""
    found = extract([(b"traceparent", f"01-{TRACE}-{SPAN}-fe-more".encode())])
    assert found == Remote(bytes.fromhex(TRACE), bytes.fromhex(SPAN), False)


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"{GOOD}\r\nx: y",
    ],
)
def test_a_malformed_one_is_none_at_all(value: str) -> None:
    assert extract([(b"traceparent", value.encode())]) is None


def test_two_are_none_at_all() -> None:
    """Whichever is taken could be the wrong one."""
    assert extract([(b"traceparent", GOOD.encode())] * 2) is None


@given(st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any), st.booleans())
def test_what_is_written_is_read_back(trace_id: bytes, span_id: bytes, sampled: bool) -> None:
    written = traceparent(trace_id, span_id, sampled=sampled)
    assert extract([(b"traceparent", written)]) == Remote(trace_id, span_id, sampled)


def test_lines_are_removed_however_they_are_written() -> None:
    assert without([(b"A", b"1"), (b"X-Request-ID", b"2")], b"x-request-id") == [(b"A", b"1")]
