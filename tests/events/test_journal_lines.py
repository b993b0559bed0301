"""Lines that tell damage from a torn end, and units that come back byte for byte."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import ANY, NEW
from events.errors import BadEvent, JournalDamaged
from events.journal_lines import (
    decode_header,
    decode_line,
    decode_unit,
    encode_header,
    encode_line,
    encode_unit,
    is_torn_header,
)
from tests.factories import CAUSE, FRONTEND, event, raw, write

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(payload=texts, actor=texts, expected=st.sampled_from([ANY, NEW]) | st.integers(0, 2**40))
def test_unit_comes_back_as_it_was(payload: str, actor: str, expected: int) -> None:
    """Hashes cover these bytes: one that is spelt otherwise is another event."""
    odd = raw(payload=payload.encode(), actor=actor.encode())
    unit = (write("session-a", odd, event(actor=FRONTEND, cause=CAUSE), expected=expected), write("keys", event()))
    line = decode_line(encode_line(7, encode_unit(unit, {"position": 3, "recorded_at": "x"}))[:-1])
    assert line is not None and line.seq == 7
    assert decode_unit(line.entry) == (unit, {"position": 3, "recorded_at": "x"})


def test_line_is_one_json_document_that_sha256sum_can_check() -> None:
    line = encode_line(1, encode_unit((write("session-a", raw(payload=b'"\n\0"')),)))
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    body, _, tail = line.partition(b',"sha256":"')
    assert msgspec.json.decode(line)["sha256"] == hashlib.sha256(body).hexdigest() == tail[:64].decode()


def test_any_other_byte_in_a_line_is_seen() -> None:
    good = encode_line(1, encode_unit((write("session-a"),)))[:-1]
    assert decode_line(good) is not None
    for at in range(len(good)):
        assert decode_line(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) is None
        assert decode_line(good[:at]) is None


def test_header_says_its_format() -> None:
    line = decode_line(encode_header({"log_id": "a"})[:-1])
    assert line is not None and decode_header(line) == {"log_id": "a"}


@pytest.mark.parametrize(
    "line",
    [encode_line(0, {"log_id": "a", "format": "2"}), encode_line(1, {"format": "1"}), encode_line(0, [1])],
    ids=["later release", "not the first line", "no header"],
)
def test_what_is_no_header_of_this_release_is_refused(line: bytes) -> None:
    decoded = decode_line(line[:-1])
    assert decoded is not None
    with pytest.raises(JournalDamaged):
        decode_header(decoded)


def test_what_is_no_unit_is_refused() -> None:
    line = decode_line(encode_line(1, {"writes": [["session-a", "perhaps", []]]})[:-1])
    assert line is not None
    with pytest.raises(JournalDamaged, match="not a unit"):
        decode_unit(line.entry)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(BadEvent):
        encode_unit((write("session-a", raw(payload=b"\xff")),))


def test_a_torn_header_is_told_from_a_document() -> None:
    fields = {"log_id": "a"}
    header = encode_header(fields)
    assert all(is_torn_header(header[:length], fields) for length in range(len(header)))
    assert is_torn_header(bytes(len(header) - 1), fields)
    assert not is_torn_header(b"Dear Ada", fields)


def test_what_is_longer_than_a_header_is_no_torn_one() -> None:
    """A header is durable before anything is added: zeros that are longer were a journal, and somebody was told."""
    fields = {"log_id": "a"}
    header = encode_header(fields)
    assert not is_torn_header(bytes(len(header)), fields)
    assert not is_torn_header((header + header).replace(b"\n", b" "), fields)
