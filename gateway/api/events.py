"""The log for auditors, in pages. Every read is itself an event: who read what."""

from typing import Final

from starlette.responses import Response

from events.catalogue import LogRead
from events.envelope import STREAM_ID, SYSTEM
from gateway.api import shapes
from gateway.api.call import Call, answer
from gateway.errors import Refused

MOST: Final = 1000


async def read(call: Call) -> Response:
    """``after`` (a position), ``limit`` (up to 1000), ``type`` (a tag or ``family.*``, repeatable), ``stream``."""
    after, limit = call.number("after", 0), call.number("limit", 100, most=MOST)
    types, stream_id = call.types(), call.request.query_params.get("stream")
    if limit == 0:
        raise Refused("bad-request", f"The parameter limit must be from 1 to {MOST}.")
    if stream_id is not None and not STREAM_ID.match(stream_id):
        raise Refused("bad-request", "The parameter stream is not the name of a stream.")
    await call.known_position(after)
    head = (await call.services.store.head()).position
    page = await call.services.store.read_log(after=after, limit=limit, types=types, stream_id=stream_id)
    page = [event for event in page if event.position <= head]
    reached = page[-1].position if page else after
    if len(page) < limit:
        reached = max(after, head)  # everything up to the head was looked at
    told = LogRead(what="events", after=after, until=reached, types=types, stream=stream_id)
    await call.services.recorder.fact(SYSTEM, told, who=call.caller.who, cause=call.cause)
    return answer(shapes.EventPage(events=await shapes.events(page, call.services.keyring), next=reached))
