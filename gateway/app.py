"""The composition root: from services to the ASGI application that the server runs.

From the outside in: ``middleware`` (request id, span, access log), ``drain``, the guard (what is not served at all),
then the routes of the table and the proxy under ``/s``.
"""

import functools
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import errors
from gateway.api.call import endpoint
from gateway.drain import Drain
from gateway.errors import Refused
from gateway.middleware import RequestMiddleware
from gateway.proxy import guard
from gateway.proxy.handler import Proxy, ProxyParts, answer_problem
from gateway.proxy.headers import is_trusted, networks
from gateway.routes import ROUTES
from gateway.services import Services

STILL_ANSWERED: Final = frozenset({"/livez", "/health"})  # by a process whose log has forked


def application(services: Services) -> "Application":
    """The whole application, from the outside in."""
    trusted = networks(services.settings.gateway.gateway_trusted_proxies)
    drain = Drain(Api(services), refuse=functools.partial(_ending, services))
    services.views.on_fork(drain.cut)  # streams and websockets too: nothing of a view that is wrong goes on
    return Application(
        asgi=RequestMiddleware(drain, failed=_failed, trusts=lambda peer: is_trusted(peer, trusted)), drain=drain
    )


class Application(msgspec.Struct, frozen=True):
    """What the server runs, and the part of it that ends it."""

    asgi: ASGIApp
    drain: Drain


async def _ending(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    refusal = Refused("draining", "This process is shutting down; ask again, another one answers.", retry_after=1)
    if services.views.forked is not None:
        refusal = errors.log_forked()
    await answer_problem(scope, receive, send, refusal)


async def _failed(scope: Scope, receive: Receive, send: Send) -> None:
    """A fault of ours: the middleware has logged it; the caller gets an id to name it by."""
    refusal = Refused("internal", "The gateway failed; its log says why under this request_id.")
    await answer_problem(scope, receive, send, refusal)


class Api:
    """Routes and proxy, behind the guard: what could be misread is refused before it is routed."""

    def __init__(self, services: Services) -> None:
        self._routes = [
            Route(
                route.path,
                endpoint(route.handler, services, route.roles, route.path, always=route.always, query=route.query),
                methods=[route.method],
            )
            for route in ROUTES
        ]
        self._router = Router(
            [*self._routes, Mount("/s", app=_proxy(services))], redirect_slashes=False, default=_no_route
        )
        self._limits = services.settings.proxy
        self._views = services.views

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refusal = guard.refuse(
                scope,
                max_headers=self._limits.proxy_max_request_headers,
                max_header_bytes=self._limits.proxy_max_request_header_bytes,
            )
            if refusal is not None:
                raise Refused.of(refusal)
            if self._views.forked is not None and scope["path"] not in STILL_ANSWERED:
                raise errors.log_forked()
            if b"%" in scope["raw_path"] and not scope["path"].startswith("/s/"):
                raise HTTPException(404)  # no control route has an escape; the proxy reads the raw path by itself
            # Starlette answers a wrong method in plain text unless it believes itself inside an application.
            scope["app"] = self
            await self._router(scope, receive, send)
        except HTTPException as error:
            await answer_problem(scope, receive, send, self._unrouted(scope["path"], error.status_code))
        except Refused as refused:
            await answer_problem(scope, receive, send, refused)

    def _unrouted(self, path: str, status: int) -> Refused:
        if status != 405:
            return Refused("not-found", "No such route.")
        routes = [route for route in self._routes if route.path_regex.match(path)]
        allowed = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
        return Refused("method-not-allowed", f"This route knows {allowed}.", headers=((b"allow", allowed.encode()),))


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)


def _proxy(services: Services) -> ASGIApp:
    settings = services.settings.gateway
    origins = (origin.strip().lower() for origin in settings.gateway_allowed_origins.split(","))
    return Proxy(
        ProxyParts(
            views=services.views,
            access=services.access,
            outages=services.outages,
            tokens=services.tokens,
            pool=services.pool,
            sockets=services.sockets,
            exchanges=services.exchanges,
            now=services.recorder.now,
            trusted=networks(settings.gateway_trusted_proxies),
            origins=frozenset(origin for origin in origins if origin),
        )
    )
