"""The OpenAPI 3.1 document, made from the route table and the structs that handlers take and give."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from gateway import errors
from gateway.api.call import Call

if TYPE_CHECKING:
    from gateway.routes import Route

_IN_PATH: Final = re.compile(r"{(\w+)}")
# Query parameters that may stand several times, as OpenAPI's default style has it: type=a&type=b.
_REPEATABLE: Final = {"type": {"type": "array", "items": {"type": "string"}}}
_PROBLEM = "#/components/schemas/Problem"


async def show(call: Call) -> Response:
    """The document."""
    return Response(call.services.openapi, media_type="application/json")


def document(routes: "Iterable[Route]", release: str) -> bytes:
    """The document of ``routes``."""
    routes = list(routes)
    types = [kind for route in routes for kind in (route.takes, route.gives, *route.also) if kind is not None]
    types = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Session gateway",
                "version": release,
                "description": "Beside these routes, ANY /s/{session_id}/{path} reaches the session's container: HTTP, "
                "server-sent events and websockets, with the session's token as bearer.",
            },
            "paths": paths,
            "components": {
                "schemas": {**components, "Problem": _problem_schema()},
                "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: "Route", schemas: dict[type[Any], Any]) -> dict[str, Any]:
    media = "text/event-stream" if route.stream else "application/json"
    content = {media: {"schema": _given(route, schemas)}} if route.gives else {"application/json": {}}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.handler.__module__.rsplit('.', 1)[-1]}_{route.handler.__name__}",
        "responses": {
            **{str(status): {"description": "OK", "content": content} for status in route.statuses},
            "default": {
                "description": "RFC 9457 problem",
                "content": {"application/problem+json": {"schema": {"$ref": _PROBLEM}}},
            },
        },
    }
    if route.roles:
        operation["security"] = [{"apiKey": []}]
        operation["x-roles"] = sorted(route.roles)
    told = [
        *(("path", True, name) for name in _IN_PATH.findall(route.path)),
        *(("query", False, name) for name in route.query),
        *(("header", False, name) for name in route.headers),
    ]
    if told:
        operation["parameters"] = [
            {"name": name, "in": where, "required": required, "schema": _REPEATABLE.get(name, {"type": "string"})}
            for where, required, name in told
        ]
    if route.takes is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": schemas[route.takes]}}}
    return operation


def _given(route: "Route", schemas: dict[type[Any], Any]) -> dict[str, Any]:
    given = [schemas[kind] for kind in (route.gives, *route.also) if kind is not None]
    return {"anyOf": given} if route.also else given[0]


def _problem_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": {"type": "string", "enum": [errors.TYPE_PREFIX + slug for slug in errors.PROBLEMS]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
        },
    }
