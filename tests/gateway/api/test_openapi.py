"""The OpenAPI document: what it says is what the gateway does."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import RELEASE, errors
from gateway.api import openapi
from gateway.routes import ROUTES
from tests.gateway.clients import nobody
from tests.gateway_fixtures import Gateway

KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
}
DOCUMENT: dict[str, Any] = json.loads(openapi.document(ROUTES, RELEASE))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_the_document_is_there_for_everybody(gateway: Gateway) -> None:
    async with nobody(gateway) as client:
        answer = await client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", RELEASE)


def test_every_route_is_in_it_and_nothing_else() -> None:
    assert {(path, method.upper()) for path, method, _ in operations()} == {
        (route.path, route.method) for route in ROUTES
    }


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 5
    for reference in found:
        assert reference.startswith("#/components/schemas/")
        assert reference.rsplit("/", 1)[1] in DOCUMENT["components"]["schemas"], reference


def test_operations_can_be_told_apart() -> None:
    """Generated clients name their methods by them."""
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+", each) for each in ids)


def test_what_asks_for_a_key_says_so_and_for_whom() -> None:
    roles = {(route.path, route.method.lower()): sorted(route.roles) for route in ROUTES}
    for path, method, operation in operations():
        assert operation.get("x-roles", []) == roles[path, method]
        assert ("security" in operation) is bool(roles[path, method])


def test_names_in_a_path_are_parameters() -> None:
    for path, _, operation in operations():
        told = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
        assert told == set(re.findall(r"{(\w+)}", path)), path


def test_what_a_route_knows_is_told() -> None:
    """A frontend that generates its client must find the header that makes a repeat safe."""
    told = {(path, method): operation.get("parameters", []) for path, method, operation in operations()}
    names = {each["name"] for each in told["/sessions", "post"]}
    assert names == {"Prefer", "Idempotency-Key", "X-On-Behalf-Of"}
    filters = {"type", "stream", "session", "actor", "trace", "correlation"}
    schemas = {each["name"]: each["schema"]["type"] for each in told["/events", "get"]}
    assert (schemas["type"], schemas["stream"]) == ("array", "string"), "only the type may be given several times"
    names = {each["name"] for each in told["/events", "get"]}
    assert names == filters | {"after", "since", "until", "cursor", "limit", "X-Audit-Purpose"}


def test_every_operation_may_end_in_a_problem_of_the_table() -> None:
    problem = DOCUMENT["components"]["schemas"]["Problem"]
    assert problem["properties"]["type"]["enum"] == [f"/problems/{slug}" for slug in errors.PROBLEMS]
    for _, _, operation in operations():
        assert "application/problem+json" in operation["responses"]["default"]["content"]


@pytest.mark.parametrize("path", ["/sessions/stream", "/sessions/{session_id}/progress"])
def test_a_stream_of_steps_tells_both_of_its_frames(path: str) -> None:
    """A step, and the place of a session that waits for its boot."""
    content = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"]
    told = [each["$ref"].rsplit("/", 1)[1] for each in content["schema"]["anyOf"]]
    shapes = [DOCUMENT["components"]["schemas"][name]["properties"].keys() for name in told]
    assert "facts" in shapes[0]
    assert set(shapes[1]) == {"session_id", "place", "ahead", "booting"}


async def test_answers_have_the_shape_that_is_told(gateway: Gateway) -> None:
    """Required fields are there and no field is that the document does not know."""
    session = await gateway.open({"owner": "ada", "metadata": {"a": 1}})
    base = f"/sessions/{session.session_id}"
    for method, path, template in [
        ("GET", base, "/sessions/{session_id}"),
        ("GET", "/sessions", "/sessions"),
        ("POST", f"{base}/token", "/sessions/{session_id}/token"),
        ("GET", "/events?limit=1000", "/events"),
        ("GET", "/health", "/health"),
        ("GET", "/livez", "/livez"),
    ]:
        answer = await gateway.client.request(method, path)
        told = DOCUMENT["paths"][template][method.lower()]["responses"]
        assert str(answer.status_code) in told, (method, path)
        schema = told[str(answer.status_code)]["content"]["application/json"]["schema"]
        fits(answer.json(), schema, f"{method} {path}")


def fits(value: Any, schema: dict[str, Any], where: str) -> None:
    """JSON Schema as far as the document uses it for what must be compared here."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        options = [each for each in schema["anyOf"] if (each.get("type") == "null") is (value is None)]
        assert options, where
        fits(value, options[0], where)
    elif schema.get("type") == "object" and "properties" in schema:
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"]), where
        for name, inner in value.items():
            fits(inner, schema["properties"][name], f"{where}.{name}")
    elif schema.get("type") == "array":
        for inner in value:
            fits(inner, schema["items"], f"{where}[]")
    elif "type" in schema:
        assert isinstance(value, KINDS[schema["type"]]), f"{where}: {value!r} is no {schema['type']}"
