"""The seats: taken by a generation, given back once, by the generation that took them."""

from events.catalogue import AdmissionGranted, AdmissionReleased, Payload, SessionReady
from projections.admission import KEY, Admission, Seats
from projections.projection import fold
from tests.factories import history, payload


def granted(session_id: str, generation: int = 1) -> AdmissionGranted:
    return payload(AdmissionGranted, session_id=session_id, generation=generation)


def released(session_id: str, generation: int = 1) -> AdmissionReleased:
    return payload(AdmissionReleased, session_id=session_id, generation=generation)


def seats(*payloads: Payload) -> Seats:
    return fold(Admission(), {}, history("admission", payloads))[KEY]


def test_a_seat_is_taken_and_given_back() -> None:
    assert seats(granted("a"), granted("b")).taken == {"a": 1, "b": 1}
    assert seats(granted("a"), granted("b"), released("a")).taken == {"b": 1}


def test_the_version_is_that_of_the_stream() -> None:
    """The next grant expects it, so that two processes never both give the last seat."""
    told: list[Payload] = [granted("a"), released("a"), released("a")]
    assert [seats(*told[:count]).version for count in (1, 2, 3)] == [1, 2, 3]


def test_a_release_told_twice_frees_one_seat() -> None:
    assert seats(granted("a"), granted("b"), released("a"), released("a")).taken == {"b": 1}


def test_a_late_release_does_not_free_the_seat_of_a_resumed_session() -> None:
    assert seats(granted("a"), granted("a", 2), released("a")).taken == {"a": 2}
    assert seats(granted("a", 2), released("a", 2)).taken == {}


def test_nothing_else_concerns_the_seats() -> None:
    """Whatever the session does between: only its grant and release are in the stream."""
    assert Admission().key(payload(SessionReady)) is None
    assert fold(Admission(), {}, history("session-a", [SessionReady])) == {}
