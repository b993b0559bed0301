"""Turns: one exchange with the agent of a session (OpenCode, or the echo agent) over its own routes, as it streams.

A turn opens the agent's event stream, posts the message, tells what is said as it is said, asks about permissions, and
ends with the last message, which has what the stream may not have told. It may take as long as the model takes: the
message is posted to ``prompt_async``, since a post that waits for the whole turn is silent for longer than the gateway
waits for a byte.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from gateway.control import GatewayClient, GatewayRefused, GatewayUnreachable

FIRST_EVENT_SECONDS: Final = 10.0
CALL_SECONDS: Final = 60.0  # the first call to an agent that has just started takes seconds
REFUSAL: Final = "The user does not allow that. Go on without it."
Say = Callable[[str], None]
Allow = Callable[[str], Awaitable[bool]]


class Answer(msgspec.Struct, frozen=True):
    """What a turn came to. ``error``: a sentence when the agent gave up."""

    text: str
    error: str | None = None


class Agent:
    """A conversation with the agent in one session. ``token``: the session's."""

    def __init__(self, client: GatewayClient, session_id: str, token: str) -> None:
        self._client, self._base, self._token = client, f"/s/{session_id}", token
        self.conversation = ""

    async def begin(self, title: str) -> None:
        """Open a conversation. Titled, since OpenCode asks the model for a title otherwise."""
        self.conversation = (await self._post("/session", {"title": title}))["id"]

    async def turn(self, text: str, say: Say, allow: Allow) -> Answer:
        """Say ``text``; the whole answer. ``say`` gets pieces of it as they come, ``allow`` answers for the user.

        Raises GatewayUnreachable, also when the agent's event stream breaks: without it nobody would hear the agent ask
        for a permission, and it would wait for ever. Raises GatewayRefused.
        """
        telling = Telling(self.conversation, say)
        async with self._listening(telling, allow) as listening:
            asking = asyncio.create_task(self._ask(text, telling), name="agent-turn")
            try:
                await asyncio.wait({asking, listening}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    await listening
                answer = await asking
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        trouble = (answer.get("info") or {}).get("error")
        error = None if trouble is None else error_text(trouble)
        if error is not None:
            telling.line(error)
        return Answer(text=telling.finish(answer.get("parts") or []), error=error)

    async def _ask(self, text: str, telling: "Telling") -> dict[str, Any]:
        """The last message of the turn."""
        path, message = f"/session/{self.conversation}", {"parts": [{"type": "text", "text": text}]}
        if await self._call("POST", f"{path}/prompt_async", message):
            # Accepted without a body by OpenCode; the echo agent, which answers at once, shows its page instead.
            answer: dict[str, Any] = await self._post(f"{path}/message", message)
            return answer
        await telling.idle.wait()
        messages = msgspec.json.decode(await self._call("GET", f"{path}/message?limit=1"))
        return messages[-1] if messages else {}

    async def abort(self) -> None:
        """End the turn that runs. An agent that cannot is no trouble: the turn is not waited for any more."""
        try:
            await self._post(f"/session/{self.conversation}/abort", {})
        except (GatewayRefused, GatewayUnreachable, msgspec.DecodeError):
            return

    @asynccontextmanager
    async def _listening(self, telling: "Telling", allow: Allow) -> AsyncIterator[asyncio.Task[None]]:
        """The agent's events are told while this is open; it opens when the first has come."""
        first = asyncio.Event()
        task = asyncio.create_task(self._listen(telling, allow, first), name="agent-events")
        ready = asyncio.create_task(first.wait())
        try:
            await asyncio.wait({ready, task}, timeout=FIRST_EVENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            yield task
        finally:
            ready.cancel()
            task.cancel()
            await asyncio.gather(ready, task, return_exceptions=True)  # what it raised in time was raised by the turn

    async def _listen(self, telling: "Telling", allow: Allow, first: asyncio.Event) -> None:
        """Until cancelled. Raises GatewayUnreachable when the stream ends."""
        async with self._client.events(f"{self._base}/event", bearer=self._token) as events:
            async for event in events:
                first.set()
                told = msgspec.json.decode(event.data, type=dict[str, Any])
                properties = told.get("properties") or {}
                if told.get("type") == "permission.asked":
                    await self._permission(properties, telling, allow)
                elif told.get("type") == "question.asked":
                    telling.line("The agent asks a question, which cannot be answered here.")
                    await self._post(f"/question/{properties['id']}/reject", {})
                else:
                    telling.hear(str(told.get("type")), properties)
        raise GatewayUnreachable("The agent ended its event stream.")

    async def _permission(self, asked: dict[str, Any], telling: "Telling", allow: Allow) -> None:
        telling.break_line()
        what = f"{asked.get('permission')}: {', '.join(asked.get('patterns') or [])}"
        # Refused with a reason, OpenCode goes on without; refused without one, it ends the turn and says nothing.
        reply = {"reply": "once"} if await allow(what) else {"reply": "reject", "message": REFUSAL}
        await self._post(f"/permission/{asked['id']}/reply", reply)

    async def _post(self, path: str, body: object) -> Any:
        return msgspec.json.decode(await self._call("POST", path, body))

    async def _call(self, method: str, path: str, body: object = None) -> bytes:
        return await self._client.call(method, self._base + path, body=body, bearer=self._token, seconds=CALL_SECONDS)


class Telling:
    """What was said so far: text by part, so that nothing is told twice and nothing is left out."""

    def __init__(self, conversation: str, say: Say) -> None:
        self._conversation, self._say = conversation, say
        self.idle = asyncio.Event()  # set when the agent has ended the turn
        self._kinds: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._tools: set[str] = set()
        self._at_line_start = True

    def hear(self, kind: str, properties: dict[str, Any]) -> None:
        """One event of the agent; those of other conversations and other kinds are passed over."""
        part = properties.get("part") or {}
        if (properties.get("sessionID") or part.get("sessionID")) != self._conversation:
            return
        if kind == "session.idle":
            self.idle.set()
        elif kind == "session.status" and properties["status"]["type"] == "retry":
            self.line(f"The model is asked again: {properties['status']['message']}")
        elif kind == "message.part.updated":
            self._kinds[part["id"]] = part["type"]
            if part["type"] == "tool":
                self._tool(part)
        # OpenCode tells a part before its first piece (thinking comes in pieces too); the echo agent has only text.
        elif kind == "message.part.delta" and self._kinds.get(properties["partID"], "text") == "text":
            self._piece(properties["partID"], properties["delta"] if properties["field"] == "text" else "")

    def line(self, text: str) -> None:
        """A remark of ours between the agent's words."""
        self.break_line()
        self._tell(f"[{text}]\n")

    def break_line(self) -> None:
        if not self._at_line_start:
            self._tell("\n")

    def finish(self, parts: list[dict[str, Any]]) -> str:
        """Tell what the stream has not told of the last message; the whole of its text."""
        texts = {part["id"]: str(part.get("text", "")) for part in parts if part.get("type") == "text"}
        for name, text in texts.items():
            told = self._texts.get(name, "")
            if text.startswith(told):
                self._piece(name, text[len(told) :])
            elif text.rstrip() != told.rstrip():
                self.break_line()
                self._piece(name, text)
        self.break_line()
        return "\n".join(texts.values())

    def _piece(self, name: str, text: str) -> None:
        if text:
            if name not in self._texts:
                self.break_line()
            self._texts[name] = self._texts.get(name, "") + text
            self._tell(text)

    def _tool(self, part: dict[str, Any]) -> None:
        """A tool once, when it has begun: by then its input is known."""
        state = part.get("state") or {}
        if state.get("status") in ("running", "completed", "error") and part["id"] not in self._tools:
            self._tools.add(part["id"])
            self.line(f"{part.get('tool')} {state.get('title') or _input(state)}".strip())

    def _tell(self, text: str) -> None:
        self._at_line_start = text.endswith("\n")
        self._say(text)


def error_text(error: Any) -> str:
    """An error of the agent as it names it: ``{"name": ..., "data": {"message": ...}}``."""
    data = error.get("data") if isinstance(error, dict) else None
    message = data.get("message") if isinstance(data, dict) else None
    return f"The agent failed: {message or error}"


def _input(state: dict[str, Any]) -> str:
    given = state.get("input") or {}
    return str(given.get("command") or given.get("filePath") or "")
