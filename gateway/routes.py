"""Every URL, its method, its roles, its handler: one table. The router and the OpenAPI document are made from it."""

from typing import Any, Final

import msgspec

from gateway.access.roles import ANYONE, EVERYONE, READERS, SESSION_USERS, Role
from gateway.api import access_history, event_query, events, health, openapi, sessions, shapes, stream, timeline, why
from gateway.api.call import Handler
from gateway.purpose import HEADER
from gateway.sessions.waiting import Place


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. ``roles`` empty: no key is asked for. ``stream``: the answer is ``text/event-stream``."""

    path: str
    method: str
    roles: frozenset[Role]
    handler: Handler
    summary: str
    takes: type[Any] | None = None
    gives: type[Any] | None = None
    also: tuple[type[Any], ...] = ()  # frames of a stream that are told without an id, beside ``gives``
    statuses: tuple[int, ...] = (200,)
    stream: bool = False
    always: bool = False  # also for a key that may have been revoked unseen: to end a session is always allowed
    query: tuple[str, ...] = ()  # parameters of the query that it knows
    headers: tuple[str, ...] = ()  # request headers that change what it does


ROUTES: Final = (
    Route(
        path="/sessions",
        method="POST",
        roles=SESSION_USERS,
        handler=sessions.create,
        summary="Open a session; Prefer: wait=N waits until it is ready; Idempotency-Key makes a repeat the same one",
        takes=shapes.CreateSession,
        gives=shapes.SessionOpened,
        statuses=(201, 202),
        headers=("Prefer", "Idempotency-Key", "X-On-Behalf-Of"),
    ),
    Route(
        path="/sessions",
        method="GET",
        roles=EVERYONE,
        handler=sessions.list_all,
        summary="The sessions that the caller may see, all of one position; limit makes pages, next is their cursor",
        gives=shapes.SessionList,
        query=("status", "as_of", "tz", "fold", "limit", "cursor", "min_position"),
        headers=(HEADER,),
    ),
    Route(
        path="/sessions/stream",
        method="GET",
        roles=EVERYONE,
        handler=stream.own_sessions,
        summary="The steps of all sessions that the caller may see; Last-Event-ID resumes",
        gives=shapes.ProgressView,
        also=(Place,),
        stream=True,
        query=("after",),
        headers=("Last-Event-ID", HEADER),
    ),
    Route(
        path="/sessions/{session_id}",
        method="GET",
        roles=EVERYONE,
        handler=sessions.show,
        summary="One session, now or as of a position or time (then As-Of-Position tells the position)",
        gives=shapes.SessionView,
        query=("as_of", "tz", "fold", "min_position"),
        headers=(HEADER,),
    ),
    Route(
        path="/sessions/{session_id}",
        method="DELETE",
        roles=SESSION_USERS,
        handler=sessions.stop,
        summary="Stop a session; its data is kept. Prefer: wait=N waits until it has ended",
        always=True,
        gives=shapes.SessionView,
        statuses=(200, 202),
        headers=("Prefer", "X-On-Behalf-Of"),
    ),
    Route(
        path="/sessions/{session_id}/resume",
        method="POST",
        roles=SESSION_USERS,
        handler=sessions.resume,
        summary="Start a stopped or failed session again on its kept data",
        gives=shapes.SessionOpened,
        statuses=(201, 202),
        headers=("Prefer", "X-On-Behalf-Of"),
    ),
    Route(
        path="/sessions/{session_id}/progress",
        method="GET",
        roles=EVERYONE,
        handler=stream.progress,
        summary="The steps of one session, from its first; Last-Event-ID resumes",
        gives=shapes.ProgressView,
        also=(Place,),
        stream=True,
        query=("after",),
        headers=("Last-Event-ID", HEADER),
    ),
    Route(
        path="/sessions/{session_id}/timeline",
        method="GET",
        roles=EVERYONE,
        handler=timeline.show,
        summary="Every step of one session, with what went through it between; as_of, cursor. Reading it is an event",
        gives=timeline.TimelineView,
        query=("as_of", "tz", "fold", "cursor"),
        headers=("X-Audit-Purpose",),
    ),
    Route(
        path="/sessions/{session_id}/access-history",
        method="GET",
        roles=EVERYONE,
        handler=access_history.show,
        summary="Who read the session, when, what of it and why; cursor goes on. For others than its frontend an event",
        gives=access_history.AccessHistory,
        query=("cursor", "limit"),
        headers=(HEADER,),
    ),
    Route(
        path="/sessions/{session_id}/token",
        method="POST",
        roles=SESSION_USERS,
        handler=sessions.reveal,
        summary="Show the session's token again; an event",
        gives=shapes.SessionOpened,
        statuses=(201, 202),
    ),
    Route(
        path="/events",
        method="GET",
        roles=READERS,
        handler=events.read,
        summary="The log in pages, filtered; cursor goes on. Reading is an event",
        gives=shapes.EventPage,
        query=(*event_query.FILTERS, "after", "since", "until", "cursor", "limit"),
        headers=(HEADER,),
    ),
    Route(
        path="/events/stream",
        method="GET",
        roles=READERS,
        handler=stream.follow,
        summary="The log as it grows; Last-Event-ID resumes. Its beginning and its end are events",
        gives=shapes.EventView,
        stream=True,
        query=(*event_query.FILTERS, "after", "since", "cursor"),
        headers=("Last-Event-ID", HEADER),
    ),
    Route(
        path="/events/{event_id}",
        method="GET",
        roles=READERS,
        handler=events.show,
        summary="One event, by its id or its position. Reading is an event",
        gives=shapes.EventView,
        headers=(HEADER,),
    ),
    Route(
        path="/events/{event_id}/why",
        method="GET",
        roles=READERS,
        handler=why.of_event,
        summary="What led to an event (its id or position), and what it led to, as a tree; all=true, after. An event",
        gives=why.Why,
        query=("all", "after"),
        headers=(HEADER,),
    ),
    Route(
        path="/why",
        method="GET",
        roles=READERS,
        handler=why.of_any,
        summary="The same of a session, a request or a trace: of=ID or of=KIND:ID; all=true, after. An event",
        gives=why.Why,
        query=("of", "all", "after"),
        headers=(HEADER,),
    ),
    Route(
        path="/health",
        method="GET",
        roles=ANYONE,
        handler=health.health,
        summary="Status for everybody, figures for operators",
        gives=health.Health,
    ),
    Route(path="/livez", method="GET", roles=ANYONE, handler=health.livez, summary="Alive", gives=health.Alive),
    Route(path="/readyz", method="GET", roles=ANYONE, handler=health.readyz, summary="Ready", gives=health.Alive),
    Route(path="/openapi.json", method="GET", roles=ANYONE, handler=openapi.show, summary="This document"),
)
