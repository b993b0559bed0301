"""Services: what the handlers work with, made once by ``gateway/app.py``."""

import msgspec

from docker.service import DockerService
from events.keyring import Keyring
from events.lease import Leases
from events.store import EventStore
from gateway.access.caller import Access
from gateway.access.tokens import Tokens
from gateway.api.follow_ends import FollowEnds
from gateway.api.followers import Followers
from gateway.api.lookback import Lookbacks
from gateway.api.turn import Turn
from gateway.look import Look
from gateway.outages import Outages
from gateway.proxy.exchanges import ExchangeLog
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.websocket import ContainerSockets
from gateway.recorder import Recorder
from gateway.sessions.agent import Agent
from gateway.sessions.folders import Folders
from gateway.sessions.handler import SessionHandler
from gateway.sessions.observe import Observer
from gateway.sessions.runner import Runner
from gateway.settings import Settings
from gateway.unreadable import Unreadables
from gateway.workers.certs import CertificateWatch
from gateway.workers.prove import Proving
from projections.projector import Projector
from projections.views import Views


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """One process's parts."""

    settings: Settings
    instance: str
    store: EventStore
    keyring: Keyring
    leases: Leases
    recorder: Recorder
    views: Views
    projector: Projector | None  # where the log has tables
    proving: Proving | None
    certificates: CertificateWatch | None  # where the runtime has any
    outages: Outages
    unreadables: Unreadables
    head: Look  # of the log, for health
    size: Look  # bytes of the log where it is kept
    tables: Look | None  # the position that all of them hold
    lookbacks: Lookbacks
    whys: Turn
    access: Access
    tokens: Tokens
    docker: DockerService
    agent: Agent
    folders: Folders
    handler: SessionHandler
    runner: Runner
    observer: Observer
    pool: UpstreamPool
    sockets: ContainerSockets
    exchanges: ExchangeLog
    storage: str  # database, embedded, json, memory: for /health
    openapi: bytes
    followers: Followers
    follow_ends: FollowEnds
