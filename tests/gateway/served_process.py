"""A process as ``serve`` makes it, for tests that send it real signals. Prints its address, then one word a step.

Argument: a name of ``WAYS``. Environment: DRAIN_SECONDS.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from gateway import server
from gateway.drain import Drain
from gateway.logs import LogSettings, logging_to
from gateway.middleware import RequestMiddleware
from gateway.server import Process
from gateway.server_settings import ServerSettings
from tests.gateway.served import problem


def say(word: object) -> None:
    print(word, flush=True)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """``/slow/S`` answers after S seconds, ``/stream`` is open for ever, ``/swallows`` cannot be cancelled."""
    path = scope["path"]
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    kind = b"text/event-stream" if path == "/stream" else b"text/plain"
    if path.startswith("/slow/"):
        await asyncio.sleep(float(path.removeprefix("/slow/")))
    while path == "/swallows":
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.Event().wait()
    await send({"type": "http.response.body", "body": b"done"})


async def flush() -> None:
    say("flushing")
    await asyncio.sleep(0.05)
    say("flushed")


async def hang() -> None:
    say("flushing")
    await asyncio.Event().wait()


async def block() -> None:
    """A thread that ends nobody: neither the loop's executor nor the interpreter would go without it."""
    threading.Thread(target=time.sleep, args=(600,), name="blocked").start()


WAYS: dict[str, Callable[[], Awaitable[object]]] = {"flush": flush, "hang": hang, "block": block, "early": flush}


async def main(process: Process, way: str) -> int:
    if way == "early":
        try:
            say("starting")
            await asyncio.Event().wait()
        finally:
            say("closed")
    drain = Drain(app, refuse=problem(503))
    whole = RequestMiddleware(drain, failed=problem(500), trusts=lambda peer: False)
    settings = ServerSettings(
        gateway_bind=os.environ.get("GATEWAY_BIND", "127.0.0.1:0"), drain_seconds=float(os.environ["DRAIN_SECONDS"])
    )
    return await server.serve(whole, settings, drain=drain, process=process, on_listening=say, on_drained=WAYS[way])


if __name__ == "__main__":
    server.CLOSE_SECONDS = server.RUNNER_SECONDS = 1.0  # type: ignore[misc]  # the bounds are the product's, not tests'
    with logging_to(LogSettings()):
        way = sys.argv[1]
        try:
            code = server.run(lambda process: main(process, way))
        except server.ServerError as error:
            say(error)
            code = error.exit_code
    say("ended")
    sys.exit(code)
