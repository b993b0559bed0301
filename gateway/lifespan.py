"""Lifespan: the order in which a process's parts start, and its mirror, the order in which they end.

Start: log, runtime, views up to the head, our beginning is told, then the jobs. End (after the drain,
``gateway/drain.py``): sessions that cannot outlive us are stopped, jobs end, records are flushed, our end is told as
the last event, the leases are given back, the log closes.
"""

import contextlib
import errno
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Final
from uuid import UUID

import msgspec

from docker.service import Capability
from events.catalogue import GatewayStarted, GatewayStopped
from events.codec import Cause
from events.envelope import KEYS, ActorKind, gateway_stream
from events.errors import EventError
from events.fallback import FallbackEventStore
from events.ids import uuid7
from events.schema import Applied
from events.store import EventStore
from gateway import RELEASE, context, forks, metrics, reactions, telemetry
from gateway.access.caller import Access
from gateway.access.keys import new_key, proved, write_key_file
from gateway.access.roles import Role
from gateway.access.tokens import Tokens
from gateway.api import openapi, turn
from gateway.api.follow_ends import FollowEnds
from gateway.api.followers import Followers
from gateway.api.lookback import Lookbacks
from gateway.control import Control
from gateway.errors import Refused
from gateway.forks import MARK_SECONDS, MarkKeeper
from gateway.jobs import Jobs
from gateway.look import HEAD_SECONDS, SIZE_SECONDS, Look
from gateway.outages import Outages
from gateway.proxy.exchanges import ExchangeLog
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.websocket import ContainerSockets
from gateway.rebuilds import rebuilder
from gateway.recorder import Recorder, Who
from gateway.routes import ROUTES
from gateway.runtime import Runtime, open_runtime
from gateway.services import Services
from gateway.sessions.commands import StopSession
from gateway.sessions.folders import Folders
from gateway.sessions.handler import Origin, SessionHandler
from gateway.sessions.observe import Observer
from gateway.sessions.runner import Parts, Runner
from gateway.settings import Settings
from gateway.storage import Report, Storage, open_storage, sealing_secret, token_secret
from gateway.unreadable import Unreadables
from gateway.workers.certs import certificate_watch
from gateway.workers.indexing import SECONDS as INDEX_SECONDS
from gateway.workers.indexing import Indexing
from gateway.workers.keys_at_hand import SECONDS as KEYS_SECONDS
from gateway.workers.keys_at_hand import KeysAtHand, follow_openings
from gateway.workers.prove import SECONDS as PROVE_SECONDS
from gateway.workers.prove import proving
from gateway.workers.reconcile import Reconciler
from gateway.workers.retention import SECONDS as RETENTION_SECONDS
from gateway.workers.retention import Retention
from gateway.workers.watch import watch
from gateway.workers.worker import Worker
from projections.errors import ProjectionError
from projections.lifecycle import SEATED
from projections.projector import POLL_SECONDS as PROJECT_SECONDS
from projections.projector import Projector
from projections.table_store import TableStore
from projections.views import Views

FLUSH_SECONDS: Final = 10.0
RECONCILE_SECONDS: Final = 2.0
MAINTAIN_SECONDS: Final = 60.0
ANNOUNCE_SECONDS: Final = 1.0  # a fifth of the lease
NOT_SEPARATED: Final = "RIGHTS ARE NOT SEPARATED: DB_USER owns the log and could rewrite it. Give DB_ADMIN_URL."
OPERATOR_KEY_FILE: Final = "operator.key"
log = logging.getLogger("session_gateway.lifespan")


class DataDirUnusable(Exception):
    """GATEWAY_DATA_DIR cannot be written. The text is a whole sentence."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A process that can serve."""

    services: Services
    runtime: Runtime
    jobs: Jobs
    notes: tuple[str, ...]  # lines for the person who started it


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    report: Report,
    *,
    log_of: Callable[[Settings, Report], AbstractAsyncContextManager[Storage]] = open_storage,
    runtime_of: Callable[[Settings, Storage, Report], AbstractAsyncContextManager[Runtime]] = open_runtime,
    on_death: Callable[[], object] = lambda: None,
) -> AsyncIterator[Running]:
    """All parts of one process, ready to serve. Raises DataDirUnusable, and what ``storage`` and ``runtime`` raise.

    Tests give a log in memory and mock containers; everything else is the same.
    """
    _make(settings.data_dir)
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(log_of(settings, report))
        remarks = await forks.check(settings.data_dir, storage.store)
        runtime = await stack.enter_async_context(runtime_of(settings, storage, report))
        services = await _services(stack, settings, storage, runtime)
        await services.views.load()
        marks = MarkKeeper(settings.data_dir, services.views)
        stack.push_async_callback(marks.save_last)
        reconciler = Reconciler(services)
        started = await _begin(stack, services, reconciler)
        jobs = Jobs(stack, on_death)
        _start(jobs, stack, services, reconciler)
        jobs.start("marks", Worker("marks", marks.save, MARK_SECONDS).run())
        await _operator_key(services, started)
        folders = await services.folders.notes()
        notes = (*runtime.notes, *storage.notes, *remarks, *_schema_notes(storage.schema), *folders)
        yield Running(services=services, runtime=runtime, jobs=jobs, notes=notes)


def _schema_notes(applied: Applied) -> list[str]:
    notes = [] if applied.rights_separated else [NOT_SEPARATED]
    if applied.newer is not None:
        notes.append(f"THE DATABASE IS OF RELEASE {applied.newer}: this one, {RELEASE}, serves on it as it is.")
    return notes


def _make(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(data_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = "it is no directory" if data_dir.exists() and not data_dir.is_dir() else (error.strerror or "").lower()
        raise DataDirUnusable(f"GATEWAY_DATA_DIR {data_dir} cannot be used: {reason}.") from error


async def _services(stack: AsyncExitStack, settings: Settings, storage: Storage, runtime: Runtime) -> Services:
    instance = storage.instance
    recorder = Recorder(storage.store, storage.keyring, spool_bytes=settings.spool.spool_max_bytes)
    spool = storage.store if isinstance(storage.store, FallbackEventStore) else None
    rows = TableStore(storage.pool) if storage.pool is not None else None
    views = Views(storage.store, spool=spool, rows=rows)
    views.on_unreadable((unreadables := Unreadables(recorder, instance)).passed)
    projector = _projector(storage, recorder, rows, views, unreadables) if rows is not None else None
    outages = _outages(settings, storage, recorder, views, unreadables)
    tokens = Tokens(token_secret(settings), settings.sessions.session_token_length)
    handler = SessionHandler(recorder, views, settings.sessions.max_concurrent_sessions)
    folders = await stack.enter_async_context(aclosing(_folders(settings, storage, runtime)))
    parts = Parts(
        docker=runtime.docker,
        control=await stack.enter_async_context(Control()),
        recorder=recorder,
        views=views,
        handler=handler,
        observer=Observer(recorder, instance),
        tokens=tokens,
        agent=runtime.agent,
        folders=folders,
        settings=settings.sessions,
        instance=instance,
        spooled=spool.pending if spool is not None else tuple,
    )
    pool, sockets = await _to_containers(stack, settings)
    return Services(
        settings=settings,
        instance=instance,
        store=storage.store,
        keyring=storage.keyring,
        leases=storage.leases,
        recorder=recorder,
        views=views,
        projector=projector,
        proving=proving(recorder, storage, settings.projections.projection_verify_hour),
        certificates=certificate_watch(recorder, runtime.docker, instance, settings.docker),
        outages=outages,
        unreadables=unreadables,
        head=Look(storage.store, lambda: _head(storage.store), HEAD_SECONDS),
        size=Look(storage.store, storage.size, SIZE_SECONDS),
        tables=Look(storage.store, rows.reached, HEAD_SECONDS) if rows is not None else None,
        lookbacks=Lookbacks(storage.store),
        whys=turn.of_why(),
        access=Access(recorder, views, context.cause, outages),
        tokens=tokens,
        docker=runtime.docker,
        agent=runtime.agent,
        folders=folders,
        handler=handler,
        runner=Runner(parts, settings.sessions.session_boot_concurrency or os.cpu_count() or 1),
        observer=parts.observer,
        pool=pool,
        sockets=sockets,
        exchanges=ExchangeLog(recorder, settings.access),
        storage=storage.label,
        openapi=openapi.document(ROUTES, RELEASE),
        followers=Followers(storage.store, views, storage.keyring),
        follow_ends=FollowEnds(recorder, views),
    )


def _folders(settings: Settings, storage: Storage, runtime: Runtime) -> Folders:
    secret = sealing_secret(settings).value if settings.docker.host_dir_root else b""
    image, owner = runtime.agent.default_image, str(storage.store.log_id)
    return Folders(runtime.docker, storage.keyring, settings.docker, secret, image=image, owner=owner)


async def _to_containers(stack: AsyncExitStack, settings: Settings) -> tuple[UpstreamPool, ContainerSockets]:
    pool = await stack.enter_async_context(aclosing(UpstreamPool(settings.proxy)))
    return pool, await stack.enter_async_context(aclosing(ContainerSockets(settings.proxy, pool.dials)))


def _outages(
    settings: Settings, storage: Storage, recorder: Recorder, views: Views, unreadables: Unreadables
) -> Outages:
    """With the gauges of the log, which tell of them."""
    spool = storage.store if isinstance(storage.store, FallbackEventStore) else None
    outages = Outages(
        recorder,
        storage.instance,
        stale_limit=settings.gateway.stale_limit,
        unseen=lambda: time.monotonic() - views.seen_at,
        replayed=lambda: spool.replayed if spool is not None else 0,
    )
    unseen = outages.unseen
    metrics.watch_log(telemetry.meter(), storage.store, storage.instance, unseen, lambda: unreadables.count)
    if spool is not None:
        spool.on_change(outages.changed)
    return outages


def _projector(
    storage: Storage, recorder: Recorder, rows: TableStore, views: Views, unreadables: Unreadables
) -> Projector:
    assert storage.pool is not None
    who, holder = Who(kind=ActorKind.GATEWAY, id=storage.instance), storage.instance
    make = rebuilder(recorder, storage.pool, storage.leases, who=who, holder=holder).make
    made = Projector(storage.store, rows, storage.leases, holder, make=make, tell=unreadables.tell)
    metrics.watch_tables(telemetry.meter(), holder, lambda: made.positions, lambda: views.position)
    return made


async def _head(store: EventStore) -> int:
    return (await store.head()).position


def _start(jobs: Jobs, stack: AsyncExitStack, services: Services, reconciler: Reconciler) -> None:
    """Start what runs beside the requests; ended in the opposite order."""
    worker = Worker("reconcile", reconciler.run_once, RECONCILE_SECONDS)
    at_hand = KeysAtHand(services.keyring, services.views, services.recorder.now)
    keys = Worker("keys", at_hand.run_once, KEYS_SECONDS)
    indexing = Indexing(services.store)
    index = Worker("index", indexing.run_once, INDEX_SECONDS)
    retention = Retention(services)
    removing = Worker("retention", retention.run_once, RETENTION_SECONDS)
    services.views.on_event(retention.follow(removing.poke))
    services.keyring.forget(services.views.erased)
    services.views.on_event(indexing.follow(index.poke))
    services.views.on_event(reactions.on_erasures(services))
    services.views.on_event(follow_openings(keys.poke))
    services.views.on_event(reactions.on_stops(services, worker))
    services.views.on_event(reactions.on_ends(services))
    services.views.on_event(reactions.on_moves(services))
    jobs.start("views", services.views.run())
    jobs.start("outages", services.outages.run())
    jobs.start("unreadable", services.unreadables.worker.run())
    jobs.start("keys", keys.run())
    jobs.start("exchanges", services.exchanges.run())
    jobs.start("partitions", Worker("partitions", services.store.maintain, MAINTAIN_SECONDS).run())
    jobs.start("index", index.run())
    if (projector := services.projector) is not None:
        stack.push_async_callback(projector.close)
        jobs.start("projector", Worker("projector", projector.run_once, PROJECT_SECONDS).run())
    if services.proving is not None:
        jobs.start("prove", Worker("prove", services.proving.run_once, PROVE_SECONDS).run())
    if services.certificates is not None:
        jobs.start("certificates", services.certificates.run())
    stack.push_async_callback(_flush, services)
    stack.push_async_callback(services.runner.close)
    # Beside the comparison, which a slow runtime can hold up for longer than the lease lasts.
    jobs.start("announce", Worker("announce", reconciler.announce, ANNOUNCE_SECONDS).run())
    jobs.start("reconcile", worker.run())
    watching = watch(services.docker, str(services.store.log_id), exhausted=reconciler.exhausted, changed=worker.poke)
    jobs.start("retention", removing.run())
    jobs.start("watch", watching)
    jobs.start("fork", _end_with_the_log(services, jobs))
    if Capability.ADOPTION not in services.docker.capabilities:
        stack.push_async_callback(_stop_sessions, services)


async def _end_with_the_log(services: Services, jobs: Jobs) -> None:
    """Decide and begin nothing more once the log has forked; others take our sessions over. We answer, and refuse."""
    forked = await services.views.until_forked()
    log.critical(
        "%s. Nothing is served any more; when it is clear which database is right, restart this process",
        forked,
        extra={"operation": "log_forked", "position": forked.differs_from},
    )
    await jobs.end(
        "announce", "reconcile", "retention", "watch", "projector", "index", "prove", "certificates", "unreadable"
    )
    await services.runner.close()


async def _flush(services: Services) -> None:
    if not await services.follow_ends.flush(FLUSH_SECONDS):
        log.error("ends of readers' following could not be written and are lost")
    if not await services.exchanges.flush(FLUSH_SECONDS, last=True):
        log.error("%d exchange records could not be written and are lost", services.exchanges.waiting)


async def _operator_key(services: Services, started: UUID) -> None:
    """A key for the person at the machine: in a 0600 file, made when there is none that works."""
    file = services.settings.data_dir / OPERATOR_KEY_FILE
    kept = file.read_text().strip() if file.exists() else ""
    known = proved(kept, services.views)
    if known is not None and known.revoked_at is None:
        return
    fresh = new_key("operator", Role.OPERATOR)
    who = Who(kind=ActorKind.GATEWAY, id=services.instance)
    position = await services.recorder.fact(KEYS, fresh.created, who=who, cause=Cause(causation_id=started))
    write_key_file(file, fresh.key)
    if position is not None:
        await services.views.catch_up(position)


async def _begin(stack: AsyncExitStack, services: Services, reconciler: Reconciler) -> UUID:
    """Tell that we live and started; on the way out, when nothing else is written any more, that we ended.

    The id of the event that we started.
    """
    event_id = uuid7()
    who = Who(kind=ActorKind.GATEWAY, id=services.instance)
    stream_id = gateway_stream(services.instance)
    started = GatewayStarted(
        instance=services.instance,
        release=RELEASE,
        runtime=services.docker.runtime,
        python=platform.python_version(),
        server="hypercorn",
    )
    await reconciler.announce()  # before: who has started and holds no lease has crashed
    await services.recorder.fact(stream_id, started, who=who, event_id=event_id)

    async def end(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        clean = kind is None or not issubclass(kind, Exception)
        try:
            stopped = GatewayStopped(instance=services.instance, reason="signal" if clean else "failed")
            await services.recorder.fact(stream_id, stopped, who=who)
            await reconciler.resign()
        except EventError as away:
            log.error("the end of this gateway could not be written: %s", away)

    stack.push_async_exit(end)
    return event_id


async def _stop_sessions(services: Services) -> None:
    """Local processes end with us: their sessions are stopped as if asked, and can be resumed."""
    with telemetry.span("gateway.stop_sessions", root=True):
        cause = msgspec.structs.replace(context.cause(), correlation_id=uuid7())  # one for all that this end stops
        await _stop_ours(services, Origin(who=Who(kind=ActorKind.GATEWAY, id=services.instance), cause=cause))


async def _stop_ours(services: Services, origin: Origin) -> None:
    views = services.views
    if views.forked is not None:
        return
    ours = [state for state in views.sessions.values() if state.instance == services.instance and state.phase in SEATED]
    stopping: list[str] = []
    try:
        for state in ours:
            command = StopSession(session_id=state.session_id, reason="gateway_stopped")
            await services.handler.handle(command, origin)
            services.runner.stop(state.session_id)
            stopping.append(state.session_id)
    except (EventError, ProjectionError, Refused) as error:
        log.error("the sessions of this gateway could not be told to stop: %s", error)
    ended = await views.wait_for(
        lambda: all(views.sessions[session_id].phase not in SEATED for session_id in stopping),
        FLUSH_SECONDS + services.settings.sessions.session_stop_seconds,
    )
    if not ended:
        log.warning("some sessions had not stopped in time; the next start says what became of them")
