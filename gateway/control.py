"""Control: the client for our own calls to containers, and the command line's client to the gateway (httpx).

Never on the byte path of a proxied request: there it would be a tenth as fast and would rewrite targets.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypedDict, Unpack

import httpx
import msgspec

from docker.service import Address

HEALTH_PATH: Final = "/global/health"
TRY_SECONDS: Final = 1.0
MAX_HEALTH_BYTES: Final = 64 * 1024
PAUSE_SECONDS: Final = 0.1
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 30.0
SILENCE_SECONDS: Final = 45.0  # three heartbeats of ours: a stream that is silent for so long is dead
RESUME_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, *(5.0,) * 60)  # a gateway that is away for five minutes stays away
OVERRUN: Final = "overrun"  # the event by which a stream of ours ends when its reader is too slow
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class _Health(msgspec.Struct):
    healthy: bool
    version: str


class Control:
    """Asks containers whether they serve. Every try is a new connection with a short time-out: OpenCode accepts, and
    never answers, the first request that arrives just as its port opens (7 of 7 measured)."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            timeout=TRY_SECONDS, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def is_ready(self, address: Address, authorization: bytes) -> bool:
        """True when a real request was answered with the right body; an unknown path answers 200 with a page."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        try:
            async with asyncio.timeout(TRY_SECONDS):
                body = await self._ask(f"http://{host}:{address.port}{HEALTH_PATH}", authorization)
            return body is not None and msgspec.json.decode(body, type=_Health).healthy
        except (TimeoutError, httpx.HTTPError, msgspec.DecodeError):  # ValidationError is a DecodeError
            return False

    async def accepts(self, address: Address) -> bool:
        """Whether anything accepts a connection there: a port out of reach is another fault than a silent agent."""
        try:
            async with asyncio.timeout(TRY_SECONDS):
                _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:  # TimeoutError is one
            return False
        writer.transport.abort()
        return True

    async def _ask(self, url: str, authorization: bytes) -> bytes | None:
        """The body of a 200; None for anything else, or for more than a health answer has."""
        body = bytearray()
        async with self._client.stream("GET", url, headers={"authorization": authorization.decode()}) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_HEALTH_BYTES:
                    return None
            return bytes(body) if answer.status_code == 200 else None

    async def pause(self) -> None:
        """Between two tries."""
        await asyncio.sleep(PAUSE_SECONDS)


_NOTHING_LISTENS: Final = "All connection attempts failed"  # anyio's words, which tell a person nothing


class GatewayUnreachable(Exception):
    """No answer, or one that broke off. One sentence."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered instead of what was asked for (RFC 9457). ``status`` and ``request_id`` are always there."""

    status: int
    title: str
    detail: str = ""
    type: str = "about:blank"
    request_id: str = ""


class GatewayRefused(Exception):
    """The gateway, or the container behind it, answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        told = f"{problem.title}: {problem.detail}" if problem.detail else problem.title
        super().__init__(f"{told} (request {problem.request_id})" if problem.request_id else told)
        self.problem = problem


class Asked(TypedDict, total=False):
    """What a request takes beside its method and path."""

    body: object  # sent as JSON; None is none
    query: Sequence[tuple[str, str | int]]
    headers: Mapping[str, str]
    bearer: str | None  # a session's token instead of the key
    seconds: float | None  # ANSWER_SECONDS unless given; None: for ever


class Answer(msgspec.Struct, frozen=True):
    """A body, JSON, and the headers that came with it, whose names are looked up in any case."""

    body: bytes
    headers: Mapping[str, str]


class ServerEvent(msgspec.Struct, frozen=True):
    """One server-sent event."""

    name: str
    data: str
    id: str | None = None  # the last id that was given, also by an earlier event


class ServerEvents:
    """Reads server-sent events (WHATWG HTML, 9.2) from bytes as they come. A line ends with LF or CR LF.

    ``str.splitlines``, which httpx reads lines with, would also cut at U+2028, and JSON may hold that.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that are whole with ``piece``. Raises GatewayUnreachable for a line without end."""
        self._rest += piece
        *lines, rest = self._rest.split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise GatewayUnreachable("The stream holds a line without end.")
        self._rest = rest
        for line in lines:
            if told := self._line(line.removesuffix(b"\r").decode(errors="replace")):
                yield told

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._name or "message", "\n".join(self._data), self._id) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._name = value
            case "id" if "\0" not in value:
                self._id = value
        return None


class GatewayClient:
    """The control routes, and sessions through the proxy, for programs. Use as an async context manager.

    Nothing is taken from the environment: a proxy that is set for the internet must not see a local gateway's key.
    """

    def __init__(self, url: str, key: str) -> None:
        # Reading the trusted certificates takes 30 ms, which plain HTTP (the local gateway) need not pay.
        context = ssl.create_default_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.url = url.rstrip("/")
        self._key = key
        self._client = httpx.AsyncClient(trust_env=False, verify=context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def call(self, method: str, path: str, **asked: Unpack[Asked]) -> bytes:
        """The body of the answer, JSON. Raises GatewayUnreachable, GatewayRefused."""
        return (await self.ask(method, path, **asked)).body

    async def ask(self, method: str, path: str, **asked: Unpack[Asked]) -> Answer:
        """As ``call``, with the answer's headers."""
        body = asked.get("body")
        content = None if body is None else msgspec.json.encode(body)
        own = self._headers(asked.get("bearer"), content is not None)
        try:
            answer = await self._client.request(
                method,
                self.url + path,
                params=list(asked.get("query", ())),
                content=content,
                headers=_utf8({**asked.get("headers", {}), **own}),
                timeout=httpx.Timeout(asked.get("seconds", ANSWER_SECONDS), connect=CONNECT_SECONDS),
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        if answer.is_success:
            return Answer(answer.content, answer.headers)
        raise refusal(answer)

    @asynccontextmanager
    async def events(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str | int]] = (),
        headers: Mapping[str, str] = {},
        last_id: str | None = None,
        bearer: str | None = None,
    ) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        """One stream of server-sent events, connected on entry; it ends when the server ends it.

        Raises GatewayUnreachable, also when the stream breaks or falls silent, and GatewayRefused.
        """
        told = {**headers, "accept": "text/event-stream", **self._headers(bearer, False)}
        if last_id is not None:
            told["last-event-id"] = last_id
        limits = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=SILENCE_SECONDS)
        try:
            async with self._client.stream(
                "GET", self.url + path, params=list(query), headers=_utf8(told), timeout=limits
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise refusal(answer)
                async with aclosing(self._read(answer)) as events:
                    yield events
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    async def follow(
        self,
        path: str,
        *,
        query: Sequence[tuple[str, str | int]] = (),
        headers: Mapping[str, str] = {},
        on_drop: Callable[[str], None],
        pauses: Sequence[float] = RESUME_PAUSES,
    ) -> AsyncGenerator[ServerEvent, None]:
        """A stream of ours without end: after a drop it goes on behind the last event (``Last-Event-ID``).

        A drop is also to be told that we read too slowly (``overrun``).

        ``on_drop`` is told why, once a drop. Raises GatewayRefused, and GatewayUnreachable when it never began or does
        not come back. Close it (``aclosing``).
        """
        last_id: str | None = None
        failures, began = 0, False
        while True:
            try:
                trouble: Exception = GatewayUnreachable(f"The gateway at {self.url} ended the stream.")
                async with self.events(path, query=query, headers=headers, last_id=last_id) as events:
                    began = True
                    async for event in events:
                        failures, last_id = 0, event.id
                        if event.name == OVERRUN:
                            trouble = GatewayUnreachable("The stream was read too slowly, and was ended.")
                            break
                        yield event
            except GatewayUnreachable as error:
                trouble = error
            except GatewayRefused as error:
                if error.problem.status != 503:
                    raise
                trouble = error
            if not began or failures == len(pauses):
                raise trouble
            if failures == 0:
                on_drop(str(trouble))
            await asyncio.sleep(pauses[failures])
            failures += 1

    async def _read(self, answer: httpx.Response) -> AsyncGenerator[ServerEvent, None]:
        reader = ServerEvents()
        try:
            async for piece in answer.aiter_bytes():
                for event in reader.feed(piece):
                    yield event
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _headers(self, bearer: str | None, has_body: bool) -> dict[str, str]:
        return {"authorization": f"Bearer {bearer or self._key}"} | (
            {"content-type": "application/json"} if has_body else {}
        )

    def _unreachable(self, error: Exception) -> GatewayUnreachable:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            if str(error) == _NOTHING_LISTENS:
                return GatewayUnreachable(
                    f"No gateway answers at {self.url}: start it there, or name another with --url."
                )
            return GatewayUnreachable(f"No gateway answers at {self.url}: {error or 'it took too long'}.")
        if isinstance(error, httpx.TimeoutException):
            return GatewayUnreachable(f"The gateway at {self.url} took too long to answer.")
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return GatewayUnreachable(f"{self.url} is not an address of a gateway: {error}.")
        return GatewayUnreachable(f"The connection to {self.url} broke: {error or type(error).__name__}.")


def _utf8(headers: Mapping[str, str]) -> httpx.Headers:
    """Header values beyond ASCII (a purpose, a name) in UTF-8, as the gateway reads them."""
    return httpx.Headers(dict(headers), encoding="utf-8")


def refusal(answer: httpx.Response) -> GatewayRefused:
    """The problem of an answer that is none of ours too: a container's, or some proxy's on the way."""
    request_id = answer.headers.get("x-request-id", "")
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError:
        title = f"{answer.status_code} {answer.reason_phrase}".strip()
        problem = Problem(status=answer.status_code, title=title, detail=answer.text[:200].strip())
    if not problem.request_id:
        problem = msgspec.structs.replace(problem, request_id=request_id)
    return GatewayRefused(problem)
