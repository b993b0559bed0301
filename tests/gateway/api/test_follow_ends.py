"""Ends of followings that cannot be told: no fault of a reader, and no log is written to that may be another one."""

from typing import Any

import pytest

from events.catalogue import LogRead
from events.codec import NO_CAUSE
from events.envelope import ActorKind
from events.errors import LogForked, StoreUnavailable
from gateway.api.follow_ends import FollowEnds
from gateway.recorder import Who
from tests.gateway_fixtures import Gateway

WHO = Who(kind=ActorKind.OPERATOR, id="test")
END = LogRead(what="follow", after=0, until=1)


async def test_an_end_that_finds_no_room_is_no_fault(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log away and its spool full: it is said in the process's own log, as a crash would leave it."""

    async def full(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("full")

    ends = FollowEnds(gateway.services.recorder, gateway.services.views)
    with monkeypatch.context() as patch:
        patch.setattr(gateway.services.recorder, "fact", full)
        ends.tell(END, who=WHO, cause=NO_CAUSE)
        assert await ends.flush(5)
    assert await gateway.log("log.read") == []


async def test_none_is_told_to_a_log_that_has_forked(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = FollowEnds(gateway.services.recorder, gateway.services.views)
    forked = LogForked("the log has forked", same_until=1, differs_from=2, known_until=3)
    with monkeypatch.context() as patch:
        patch.setattr(gateway.services.views, "forked", forked)
        ends.tell(END, who=WHO, cause=NO_CAUSE)
        assert await ends.flush(5)
    ends.tell(END, who=WHO, cause=NO_CAUSE)
    assert await ends.flush(5)
    assert len(await gateway.log("log.read")) == 1
