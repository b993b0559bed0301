"""Who is blamed for the end of an exchange."""

import pytest

from gateway.proxy import errors
from gateway.proxy.result import EndedBy, blame


@pytest.mark.parametrize(
    ("kind", "who"),
    [
        (errors.ClientLeft, EndedBy.CLIENT),
        (errors.BodyTooLarge, EndedBy.CLIENT),
        (errors.ExchangeCut, EndedBy.GATEWAY),
        (errors.GatewayBusy, EndedBy.GATEWAY),
        (errors.ContainerRefusedUs, EndedBy.GATEWAY),
        (errors.Unrecorded, EndedBy.GATEWAY),
        (errors.ContainerUnreachable, EndedBy.CONTAINER),
        (errors.ContainerTimedOut, EndedBy.CONTAINER),
        (errors.ContainerProtocolError, EndedBy.CONTAINER),
        (errors.ContainerBroke, EndedBy.CONTAINER),
    ],
)
def test_every_error_has_one_to_blame(kind: type[errors.ProxyError], who: EndedBy) -> None:
    """The event says it for good, so a gateway's own limit must not look like a container's fault."""
    assert blame(kind("x")) is who


def test_every_kind_of_error_is_in_the_table_above() -> None:
    """A new error must be given to somebody."""
    marks = test_every_error_has_one_to_blame.pytestmark  # type: ignore[attr-defined] # set by parametrize
    assert {row[0] for row in marks[0].args[1]} == set(errors.ProxyError.__subclasses__())


def test_a_whole_answer_is_ended_by_the_container() -> None:
    """Whoever closes the connection later."""
    assert blame(None) is EndedBy.CONTAINER
