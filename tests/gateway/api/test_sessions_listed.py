"""The list of sessions: filtered by the customer's four words, and by no other."""

from tests.gateway_fixtures import Gateway


async def test_the_list_is_filtered_by_status(gateway: Gateway) -> None:
    running, stopped = await gateway.open(), await gateway.open()
    await gateway.stop(stopped)
    for status, ids in [
        ("running", [running.session_id]),
        ("stopped", [stopped.session_id]),
        ("creating", []),
        ("error", []),
    ]:
        answer = await gateway.client.get("/sessions", params={"status": status})
        assert [each["session_id"] for each in answer.json()["sessions"]] == ids, status


async def test_a_status_that_no_session_has_is_refused(gateway: Gateway) -> None:
    """Else a slip reads as: there are none. Our own phases are no words of the customer's."""
    for status in ("runing", "ready", "", "RUNNING"):
        answer = await gateway.client.get("/sessions", params={"status": status})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), status
        assert "creating, running, stopped, error" in answer.json()["detail"]
