"""``chat``: talk to the agent of a session. Opens one, and stops it at the end, unless one is given."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec
import typer

from gateway.cli import printing, steps
from gateway.cli.client import client, failures, segment
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Json, KeyFile, Url, family
from gateway.cli.turns import Agent
from gateway.control import GatewayClient

app = family("Talk to the agent of a session in the terminal.")
OPEN_SECONDS: Final = 120
TITLE: Final = "Chat in the terminal"
PROMPT: Final = "> "


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange, for programs."""

    session_id: str
    conversation: str
    asked: str
    answer: str
    error: str | None


class Chat:
    """What goes on between the person (or the program) at the terminal and the agent."""

    def __init__(self, client: GatewayClient, *, json: bool) -> None:
        self._client, self._json = client, json
        self._asks = sys.stdin.isatty() and not json
        self._opened_here = False
        self._agent: Agent | None = None
        self.session_id = ""
        self.failed = False

    async def begin(self, session_id: str | None, owner: str | None) -> None:
        """Have a session that is ready, and a conversation in it. Raises Failure."""
        if session_id is None:
            body = {} if owner is None else {"owner": owner}
            opened = msgspec.json.decode(await self._client.call("POST", "/sessions", body=body))
            self._opened_here = True
        else:
            opened = msgspec.json.decode(await self._client.call("POST", f"/sessions/{segment(session_id)}/token"))
        self.session_id = opened["session_id"]
        self._note(f"Session {self.session_id}: waiting until it is ready.")
        session = await steps.settle(self._client, self.session_id, OPEN_SECONDS, self._note)
        if session["phase"] != "ready":
            why = f": {printing.shown(session['detail'])}" if session["detail"] else "."
            raise Failure(Exit.NEGATIVE, f"Session {self.session_id} is {session['phase']}{why}")
        self._agent = Agent(self._client, self.session_id, opened["token"])
        await self._agent.begin(TITLE)

    async def turn(self, text: str) -> None:
        """Say one thing, and print what comes back."""
        assert self._agent is not None, "a chat begins before its first turn"
        say = (lambda _: None) if self._json else _print_piece
        answer = await self._agent.turn(text, say, self._allow)
        self.failed = self.failed or answer.error is not None
        if self._json:
            told = Turn(
                session_id=self.session_id,
                conversation=self._agent.conversation,
                asked=text,
                answer=answer.text,
                error=answer.error,
            )
            printing.document(told)

    async def abort(self) -> None:
        if self._agent is not None:
            await self._agent.abort()

    async def end(self, keep: bool) -> None:
        """Stop the session that was opened here; one that was given, or is to be kept, stays."""
        if not self._opened_here:
            return
        if keep:
            self._note(f"Session {self.session_id} goes on: chat --session {self.session_id}")
            return
        await self._client.call("DELETE", f"/sessions/{segment(self.session_id)}")
        self._note(f"Session {self.session_id} is stopped; its data is kept: sessions resume {self.session_id}")

    async def _allow(self, what: str) -> bool:
        """Ask for a permission; where nobody can be asked, it is not given."""
        question = f"Allow once {printing.shown(what)}? [y/N] "
        if not self._asks:
            printing.note(f"Not allowed, since nobody can be asked: {printing.shown(what)}")
            return False
        return (read_line(question) or "").strip().lower() in ("y", "yes")

    def _note(self, text: str) -> None:
        if not self._json:
            printing.note(text)


@app.command()
def chat(
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="Talk in this session instead of a new one.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Whom the new session is for; sealed in the log.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Do not stop the new session at the end.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Talk to the agent: a line in, its answer out, as it is written; /quit or Ctrl-D ends.

    Lines may also come through a pipe: echo hello | python -m gateway chat --json. Then permissions that the agent asks
    for are not given, and the exit code is 1 when the agent failed at a line.
    """
    with failures(), asyncio.Runner() as runner:
        opened = client(url, key_file)
        try:
            talk = Chat(opened, json=json)
            _talk(runner, talk, session=session, owner=owner, keep=keep)
        finally:
            runner.run(opened.aclose())
    if talk.failed and not sys.stdin.isatty():
        raise typer.Exit(Exit.NEGATIVE)


def _talk(runner: asyncio.Runner, chat: Chat, *, session: str | None, owner: str | None, keep: bool) -> None:
    """The loop. Lines are read while no work runs, so that Ctrl-C ends a turn there and the chat here."""
    try:
        runner.run(chat.begin(session, owner))
        for text in _lines():
            try:
                runner.run(chat.turn(text))
            except KeyboardInterrupt:
                runner.run(chat.abort())
                if not sys.stdin.isatty():
                    raise
                printing.note("\nStopped. /quit ends the chat.")
    finally:
        runner.run(chat.end(keep))


def _lines() -> Iterator[str]:
    """What is said, until the end; empty lines say nothing."""
    prompt = PROMPT if sys.stdin.isatty() else ""
    while (text := read_line(prompt)) is not None and text.strip() != "/quit":
        if text.strip():
            yield text.strip()


def read_line(prompt: str) -> str | None:
    """A line from the person; None at the end of input and on Ctrl-C."""
    try:
        with _interruptible():
            return input(prompt)
    except EOFError:
        return None
    except KeyboardInterrupt:
        printing.note("")
        return None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C at a prompt interrupts it at once. Inside a turn asyncio has the signal, and would only take note."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _print_piece(text: str) -> None:
    print(printing.paragraph(text), end="", flush=True)
