"""Every problem that the gateway answers: one table of slugs, and which exception becomes which.

Answers are RFC 9457 ``application/problem+json``. ``docs/problems.md`` lists the same table (a test compares).
"""

from typing import Any, Final

import msgspec

from docker.errors import (
    BadCertificateFiles,
    ContainerGone,
    DaemonDown,
    DaemonRefusedUs,
    DaemonUntrusted,
    DockerError,
    HostDirRefused,
    HostDirRootUnfit,
    ImageMissing,
    LimitsNotApplied,
)
from events.errors import EventTooLarge, LogForked, StoreClosed, StoreUnavailable
from gateway.proxy import errors as proxy
from gateway.proxy.guard import Refusal
from projections.errors import ProjectionBehind

TYPE_PREFIX: Final = "/problems/"
FORKED: Final = "The event log has lost events that this process has seen: an operator must decide."


class Problem(msgspec.Struct, frozen=True):
    """One kind of problem. ``retry``: never, later (after ``Retry-After``), or changed (with another request)."""

    status: int
    title: str
    retry: str


PROBLEMS: Final[dict[str, Problem]] = {
    # the request itself
    "bad-json": Problem(400, "The body is not JSON", "changed"),
    "bad-request": Problem(400, "The request cannot be understood", "changed"),
    "bad-cursor": Problem(400, "The cursor cannot be used here", "changed"),
    "purpose-required": Problem(400, "A purpose must be given for this reading", "changed"),
    "bad-framing": Problem(400, "It is unclear where the request ends", "changed"),
    "bad-header": Problem(400, "A header holds what no header may hold", "changed"),
    "bad-host": Problem(400, "The Host header is not acceptable", "changed"),
    "bad-target": Problem(400, "The request target is not acceptable", "changed"),
    "bad-upgrade": Problem(400, "This protocol switch is not spoken here", "changed"),
    "http-version": Problem(505, "This HTTP version is not spoken here", "changed"),
    "method-refused": Problem(501, "This method is not forwarded", "changed"),
    "expectation-failed": Problem(417, "This expectation cannot be met", "changed"),
    "headers-too-large": Problem(431, "Too many header lines or bytes", "changed"),
    "body-too-large": Problem(413, "The body is too large", "changed"),
    "invalid-body": Problem(422, "The body has the wrong shape", "changed"),
    "idempotency-mismatch": Problem(422, "This Idempotency-Key was used with another body", "changed"),
    "image-not-allowed": Problem(422, "This image may not be asked for", "changed"),
    "host-dir-refused": Problem(422, "This folder cannot be a workspace", "changed"),
    "not-found": Problem(404, "There is no such route", "never"),
    "event-unknown": Problem(404, "There is no such event", "never"),
    "method-not-allowed": Problem(405, "The route does not know this method", "never"),
    # who may
    "no-credential": Problem(401, "A key or token is needed", "changed"),
    "bad-credential": Problem(401, "The key or token is not known", "changed"),
    "expired-credential": Problem(401, "The key or token has expired", "changed"),
    "revoked-credential": Problem(401, "The key or token was revoked", "changed"),
    "wrong-role": Problem(403, "This key's role may not do that", "never"),
    "host-dir-not-yours": Problem(403, "This folder is somebody else's", "never"),
    "origin-refused": Problem(403, "This origin may not open websockets here", "never"),
    # the session
    "session-unknown": Problem(404, "There is no such session", "never"),
    "session-not-ready": Problem(503, "The session is not ready yet", "later"),
    "session-ended": Problem(409, "The session has ended", "changed"),
    "secret-changed": Problem(409, "The session's token was made with another secret", "changed"),
    "illegal-move": Problem(409, "The session's state does not allow that", "changed"),
    "host-dir-in-use": Problem(409, "Another session has this folder", "later"),
    "too-many-sessions": Problem(429, "All seats are taken", "later"),
    # the container
    "container-unreachable": Problem(502, "The session's container does not answer", "later"),
    "container-timed-out": Problem(504, "The session's container was too slow", "later"),
    "container-protocol-error": Problem(502, "The session's container answered what is not HTTP", "later"),
    "container-broke": Problem(502, "The session's container ended in mid-answer", "later"),
    "container-refused-us": Problem(502, "The session's container refused the gateway's credential", "never"),
    "gateway-busy": Problem(503, "All connections to containers are in use", "later"),
    # the gateway
    "store-unavailable": Problem(503, "The event log cannot be reached", "later"),
    "view-behind": Problem(503, "This process has not caught up with the log", "later"),
    "view-stale": Problem(503, "This process has not seen the log for too long", "later"),
    "lookback-busy": Problem(503, "Too many look back at the whole log", "later"),
    "why-busy": Problem(503, "Too many ask why", "later"),
    "log-forked": Problem(503, "The log is not the one this process has read", "never"),
    "runtime-unavailable": Problem(503, "The container runtime cannot be reached", "later"),
    "draining": Problem(503, "This process is shutting down", "later"),
    "internal": Problem(500, "The gateway failed", "later"),
}

# Refusals that are denials: each is an ``access.denied`` event (row G5).
DENIALS: Final = frozenset(
    {
        "no-credential",
        "bad-credential",
        "expired-credential",
        "revoked-credential",
        "wrong-role",
        "host-dir-not-yours",
        "origin-refused",
    }
)

# Websocket close codes that the gateway sends by itself (RFC 6455 section 7.4.1); a container's own pass through.
CLOSE_CODES: Final[dict[int, str]] = {
    1002: "The container broke the websocket protocol.",
    1007: "The container sent text that is not UTF-8.",
    1008: "The handshake was refused, and the server could not say how.",
    1009: "The container sent a message over PROXY_WEBSOCKET_MAX_MESSAGE_BYTES.",
    1011: "The container or the gateway failed; open again.",
    1012: "This process is shutting down; open again.",
}

_BY_ERROR: Final[tuple[tuple[type[Exception], str], ...]] = (
    (StoreUnavailable, "store-unavailable"),
    (StoreClosed, "draining"),
    (EventTooLarge, "body-too-large"),
    (LogForked, "log-forked"),
    (ProjectionBehind, "view-behind"),
    (proxy.ContainerUnreachable, "container-unreachable"),
    (proxy.ContainerTimedOut, "container-timed-out"),
    (proxy.ContainerProtocolError, "container-protocol-error"),
    (proxy.ContainerBroke, "container-broke"),
    (proxy.ContainerRefusedUs, "container-refused-us"),
    (proxy.GatewayBusy, "gateway-busy"),
    (proxy.BodyTooLarge, "body-too-large"),
    (proxy.ExchangeCut, "draining"),
    (proxy.Unrecorded, "store-unavailable"),
    (HostDirRefused, "host-dir-refused"),
    (DaemonDown, "runtime-unavailable"),
    (DockerError, "runtime-unavailable"),
)

# What whoever is no operator learns of the runtime: an error's own words can hold addresses, paths, and the daemon's.
_PLAIN: Final[tuple[tuple[type[DockerError], str], ...]] = (
    (HostDirRootUnfit, "No folder can be a workspace at the moment; the gateway's log says why."),
    (ImageMissing, "The session's image is not on the machine that containers run on."),
    (LimitsNotApplied, "The container does not isolate the session as it must; the gateway's log says in what."),
    (DaemonDown, "The container runtime cannot be reached at the moment."),
    (DaemonRefusedUs, "The container runtime does not accept the gateway's certificate."),
    (DaemonUntrusted, "The gateway does not accept the container runtime's certificate."),
    (BadCertificateFiles, "The gateway's certificate files cannot be used."),
    (ContainerGone, "The container was gone before it was ready."),
)


class Refused(Exception):
    """A request that is answered with a problem. ``detail`` is for the caller: no secret, nothing of others.

    ``denial`` is the word of its ``access.denied`` event, when it is one: what the caller is told may say less.
    ``headers`` go with the answer.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        retry_after: int | None = None,
        status: int | None = None,
        denial: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.slug, self.detail, self.retry_after = slug, detail, retry_after
        self.status = status or PROBLEMS[slug].status
        self.denial = denial or (slug.replace("-", "_") if slug in DENIALS else None)
        self.headers = headers

    @classmethod
    def of(cls, refusal: Refusal) -> "Refused":
        """What ``proxy/guard`` refused."""
        close = ((b"connection", b"close"),) if refusal.close else ()
        return cls(refusal.slug, refusal.sentence, status=refusal.status, headers=close)


def log_forked() -> Refused:
    """What a process answers once it knows that its log has forked."""
    return Refused("log-forked", FORKED)


def refused(error: Exception) -> Refused | None:
    """The problem that an exception becomes; None when it is a fault of ours (500)."""
    if isinstance(error, Refused):
        return error
    for kind, slug in _BY_ERROR:
        if isinstance(error, kind):
            later = 1 if PROBLEMS[slug].retry == "later" else None
            return Refused(slug, _detail(error), retry_after=later)
    return None


def _detail(error: Exception) -> str:
    """Database messages can carry addresses and names of ours: the caller gets the plain sentence."""
    if isinstance(error, StoreUnavailable | StoreClosed):
        return "The event log cannot be reached at the moment. Ask again."
    if isinstance(error, LogForked):
        return FORKED
    if isinstance(error, HostDirRefused):
        return plain(error)
    if isinstance(error, DockerError):
        return "The container runtime cannot be reached at the moment."
    return str(error)


def plain(error: DockerError) -> str:
    """One sentence for events and answers, by the class of the error; its own words are for the log line alone."""
    for kind, sentence in _PLAIN:
        if isinstance(error, kind):
            return sentence
    if isinstance(error, HostDirRefused):
        return str(error)  # says what to do, and names no folder
    return "The container runtime could not do what the session needs; the gateway's log says why."


def body(problem: Refused, request_id: str) -> bytes:
    """The problem document."""
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.slug,
        "title": PROBLEMS[problem.slug].title,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
    }
    return msgspec.json.encode(document)


def headers(problem: Refused) -> list[tuple[bytes, bytes]]:
    """Header lines of the answer, content-length aside."""
    lines = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if problem.retry_after is not None:
        lines.append((b"retry-after", str(problem.retry_after).encode()))
    if problem.status == 401:
        lines.append((b"www-authenticate", b'Bearer realm="session-gateway"'))
    return [*lines, *problem.headers]
