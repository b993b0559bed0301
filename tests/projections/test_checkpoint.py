"""What a checkpoint lets this release do with its table."""

from datetime import timedelta
from uuid import UUID

import msgspec

from events.mark import Mark
from projections.checkpoint import Checkpoint, standing
from projections.tables import ADMISSION, GATEWAYS, SESSIONS, TOKENS
from tests.factories import LOG_ID, MOMENT

AT = Checkpoint(
    name="sessions",
    version=SESSIONS.projection.version,
    log_id=LOG_ID,
    position=7,
    event_id=UUID(int=7),
    recorded_at=MOMENT,
    epoch=1,
    updated_at=MOMENT + timedelta(seconds=1),
)


def test_reader_goes_on_after_the_event_that_the_table_holds() -> None:
    marks = AT.marks()
    assert marks.last == Mark(7, UUID(int=7), MOMENT) and (marks.log_id, marks.position) == (LOG_ID, 7)


def test_table_without_an_event_is_at_the_beginning() -> None:
    begun = msgspec.structs.replace(AT, position=0, event_id=None, recorded_at=None)
    assert begun.mark is None and begun.marks().last is None and begun.marks().position == 0


def test_each_table_is_told_by_its_version() -> None:
    former = msgspec.structs.replace(AT, name="admission", version=ADMISSION.projection.version - 1)
    later = msgspec.structs.replace(AT, name="tokens", version=TOKENS.projection.version + 1)
    foreign = msgspec.structs.replace(AT, name="of a later release")
    found = {checkpoint.name: checkpoint for checkpoint in (AT, former, later, foreign)}
    stands = standing([SESSIONS, ADMISSION, GATEWAYS, TOKENS], found)
    assert (stands.fits, stands.older, stands.unmade, stands.newer) == ((AT,), (ADMISSION,), (GATEWAYS,), (later,))
