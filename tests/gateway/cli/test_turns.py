"""Turns: what the agent says is told once, whole and in order, whatever came first, the pieces or the message."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.cli.turns import Agent, Telling, error_text
from gateway.control import GatewayClient, GatewayRefused, GatewayUnreachable
from tests.gateway.proxy.peers import Peer, container
from tests.gateway_fixtures import Gateway

ANSWER = [{"id": "p1", "type": "text", "text": "Hello there"}]


def delta(part: str, text: str, conversation: str = "c1", field: str = "text") -> dict[str, Any]:
    return {"sessionID": conversation, "partID": part, "field": field, "delta": text}


def telling() -> tuple[Telling, list[str]]:
    said: list[str] = []
    return Telling("c1", said.append), said


async def no(_: str) -> bool:
    return False


def test_pieces_are_told_as_they_come_and_the_rest_at_the_end() -> None:
    heard, said = telling()
    heard.hear("message.part.delta", delta("p1", "Hel"))
    assert said == ["Hel"]
    assert heard.finish(ANSWER) == "Hello there"
    assert "".join(said) == "Hello there\n"


def test_an_answer_that_was_not_streamed_is_told_whole() -> None:
    heard, said = telling()
    heard.finish(ANSWER)
    assert "".join(said) == "Hello there\n"


def test_a_blank_that_only_the_stream_has_is_no_other_text() -> None:
    """The echo agent ends every word with one."""
    heard, said = telling()
    heard.hear("message.part.delta", delta("p1", "Hello there "))
    heard.finish(ANSWER)
    assert "".join(said) == "Hello there \n"


def test_thinking_other_conversations_and_other_fields_are_not_told() -> None:
    heard, said = telling()
    heard.hear("message.part.updated", {"part": {"id": "p0", "type": "reasoning", "sessionID": "c1"}})
    heard.hear("message.part.delta", delta("p0", "Hmm"))
    heard.hear("message.part.delta", delta("p1", "not mine", conversation="c2"))
    heard.hear("message.part.delta", delta("p1", "metadata", field="title"))
    heard.hear("plugin.added", {})
    assert said == []


def test_a_tool_is_told_once_on_a_line_of_its_own() -> None:
    heard, said = telling()
    heard.hear("message.part.delta", delta("p1", "I look."))
    part = {"id": "t1", "type": "tool", "tool": "bash", "sessionID": "c1"}
    for status in ("pending", "running", "completed"):
        state = {"status": status, "input": {"command": "ls"}}
        heard.hear("message.part.updated", {"part": part | {"state": state}})
    heard.hear("message.part.delta", delta("p2", "Done."))
    assert "".join(said) == "I look.\n[bash ls]\nDone."


def test_only_its_own_conversation_ends_a_turn() -> None:
    heard, _ = telling()
    heard.hear("session.idle", {"sessionID": "c2"})
    assert not heard.idle.is_set()
    heard.hear("session.idle", {"sessionID": "c1"})
    assert heard.idle.is_set()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"name": "APIError", "data": {"message": "no credit"}}, "The agent failed: no credit"),
        ({"name": "Aborted", "data": {}}, "The agent failed: {'name': 'Aborted', 'data': {}}"),
        ("broken", "The agent failed: broken"),
    ],
)
def test_an_error_is_told_in_its_words(error: object, told: str) -> None:
    assert error_text(error) == told


async def test_a_turn_with_a_real_session(gateway: Gateway) -> None:
    session, said = await gateway.open(), list[str]()
    async with GatewayClient(gateway.url, "gwk_unused") as client:
        agent = Agent(client, session.session_id, session.token)
        await agent.begin("Test")
        for text in ("hello", "two  words"):
            said.clear()
            answer = await agent.turn(text, said.append, no)
            assert (answer.text, answer.error) == (f"You said: {text}", None)
            assert len(said) > 1
            assert "".join(said).strip() == answer.text


async def test_a_session_that_is_not_there_refuses(gateway: Gateway) -> None:
    async with GatewayClient(gateway.url, "gwk_unused") as client:
        with pytest.raises(GatewayRefused):
            await Agent(client, "ses_none", "gwt_none").begin("Test")


JSON = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class ScriptedAgent:
    """Answers as OpenCode does (its routes and events as of 1.18.33), and then does as it is told with its stream."""

    def __init__(self, then: Callable[["ScriptedAgent", Peer], Awaitable[None]]) -> None:
        self.then = then
        self.asked: list[str] = []
        self.replied = asyncio.Event()
        self.accepted = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        head = await peer.head()
        if not head:
            return
        method, target, _ = head.split(b"\r\n")[0].decode().split()
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await peer.body(int(length[0].split(b":")[1])) if length else b""
        self.asked.append(f"{method} {target} {body.decode()}".strip())
        if target.endswith("/event"):
            await peer.send(STREAM, b'data: {"type":"server.connected","properties":{}}\n\n')
            await self.accepted.wait()
            await self.then(self, peer)
        elif target.endswith("/prompt_async"):
            await peer.send(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            self.accepted.set()
        elif "/message" in target:
            answer = b'[{"info":{"role":"assistant"},"parts":[{"id":"p1","type":"text","text":"Done."}]}]'
            await peer.send(JSON % (b"200 OK", len(answer), answer))
        else:
            self.replied.set()
            await peer.send(JSON % (b"200 OK", 4, b"true"))


async def turn(agent: ScriptedAgent, allow: Callable[[str], Awaitable[bool]]) -> str:
    async with (
        container(agent) as peers,
        GatewayClient(f"http://127.0.0.1:{peers.address.port}", "gwk_unused") as client,
    ):
        talk = Agent(client, "ses_1", "gwt_1")
        talk.conversation = "c1"
        async with asyncio.timeout(10):
            return (await talk.turn("do it", lambda _: None, allow)).text


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_permission_is_asked_for_and_the_turn_goes_on(allowed: bool) -> None:
    async def ask(agent: ScriptedAgent, peer: Peer) -> None:
        asked = b'{"id":"per_1","sessionID":"c1","permission":"bash","patterns":["ls"],"metadata":{},"always":[]}'
        await peer.send(b'data: {"type":"permission.asked","properties":%s}\n\n' % asked)
        await agent.replied.wait()
        await peer.send(b'data: {"type":"session.idle","properties":{"sessionID":"c1"}}\n\n')
        await peer.gone()

    questions: list[str] = []

    async def allow(what: str) -> bool:
        questions.append(what)
        return allowed

    agent = ScriptedAgent(ask)
    assert await turn(agent, allow) == "Done."
    assert questions == ["bash: ls"]
    (reply,) = [asked for asked in agent.asked if "/permission/per_1/reply" in asked]
    assert ('"once"' if allowed else '"reject"') in reply


async def test_a_question_that_cannot_be_answered_is_rejected() -> None:
    """Nobody would ever answer, and the turn would not end."""

    async def ask(agent: ScriptedAgent, peer: Peer) -> None:
        await peer.send(b'data: {"type":"question.asked","properties":{"id":"que_1","sessionID":"c1"}}\n\n')
        await agent.replied.wait()
        await peer.send(b'data: {"type":"session.idle","properties":{"sessionID":"c1"}}\n\n')
        await peer.gone()

    agent = ScriptedAgent(ask)
    assert await turn(agent, no) == "Done."
    assert any("/question/que_1/reject" in asked for asked in agent.asked)


async def test_a_stream_that_breaks_ends_the_turn() -> None:
    """Without it nobody would hear the agent ask for a permission, and it would wait for ever."""

    async def leave(agent: ScriptedAgent, peer: Peer) -> None:
        return

    with pytest.raises(GatewayUnreachable):
        await turn(ScriptedAgent(leave), no)
