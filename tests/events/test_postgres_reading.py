"""Reading the log on Postgres: SQL never proposes fewer sessions and actors than ``events/filter.py`` reads."""

import hashlib
import json
from collections.abc import Sequence
from random import Random
from typing import Final
from uuid import UUID

import pytest

from events.envelope import SYSTEM, RecordedEvent, container_stream
from events.filter import names_of_actor, session_of
from events.postgres import PostgresEventStore
from tests.factories import FRONTEND, GATEWAY, SAMPLES, event, raw, recorded
from tests.golden import files

pytestmark = pytest.mark.postgres
ODD: Final = "\\"
COUNT: Final = 4_000
# What a payload or an actor is put together of: what the gateway writes, what it never would, and no JSON.
PIECES: Final = (
    *('"session_id":"s1"', '"session_id":null', '"session_id" : "s2"', '"session_id":7', '"session_id":""'),
    *('"session\\u005fid":"s1"', '"\\u0073ession_id":"s2"', '"session_id":"s\\u0031"', '"session_id":"a\\u0000b"'),
    *('"session_id":"\u00e9"', '"session_id":\n\t"s1"', '"x":"\\"session_id\\":\\"s1\\""', '"session_id":"\\"s1"'),
    *(
        '"x":{"session_id":"s1"}',
        '"x":["session_id","s1"]',
        '"x":"session_id"',
        '"session_id":"s\\\\u0031"',
        '"session_id":"s1',
    ),
    *('"assurance":"none"', '"id":"g1"', '"key_id":null', '"kind":"gateway"', '"on_behalf_of":null', '"key_id":"k1"'),
    *(
        '"kind":"key"',
        '"kind":"\\u006bey"',
        '"id":"\u00e9"',
        '"id":"a\\"b"',
        '"on_behalf_of":{"c":"x","k":"y","n":"z"}',
    ),
    *('"on_behalf_of":{"kind":"key"}', '"kind":null', '"\\u006bind":"key"', '"id":7'),
)
WHOLE: Final = (
    *(
        "",
        "{}",
        "[]",
        "null",
        '"session_id"',
        "{",
        "\ufeff{}",
        '{"session_id":"s1"}x',
        '{"session_id":"s1"}}',
        "\u00e9",
    ),
    '{"assurance":"none","id":"g1","key_id":null,"kind":"gateway","on_behalf_of":null,"kind":"key"}',
    '{"assurance":"none","id":"g1","key_id":null,"kind":"gateway","on_behalf_of":{"c":"","k":"","n":"","kind":"key"}}',
    '{"assurance":"none","id":"g1","key_id":"","kind":"key","on_behalf_of":{"c":"x","k":"y","n":"z"}}',
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    '{"session_id":"s1","x":' + "[" * 30_000 + "]" * 30_000 + "}",
    '{"session_id":"' + "s" * 65_000 + '"}',
)


def corpus() -> list[str]:
    """The whole ones, and objects and torsos of pieces by a chance that is always the same."""
    chance = Random(5)
    made = list(WHOLE)
    for _ in range(COUNT):
        body = chance.choice([",", ", ", ":"]).join(chance.choices(PIECES, k=chance.randint(1, 6)))
        made.append(chance.choice(["{%s}", "{%s}", "{ %s }", "[%s]", "{%s", '{"y":{%s}}']) % body)
    canonical = [p for p in PIECES if p.startswith(('"assurance', '"id', '"key_id', '"kind', '"on_beh'))]
    for _ in range(COUNT):
        made.append("{" + ",".join(sorted(chance.sample(canonical, k=5))) + "}")
    return made


async def session_names(store: PostgresEventStore, seen: Sequence[RecordedEvent]) -> list[list[str]]:
    """As SQL proposes them."""
    query = "select log.session_names(s, p) as n from unnest($1::text[], $2::bytea[]) with ordinality u(s, p, nr)"
    streams, payloads = [one.stream_id for one in seen], [one.payload for one in seen]
    return [row["n"] for row in await store.pool.fetch(f"{query} order by nr", streams, payloads)]


async def actor_names(store: PostgresEventStore, actors: Sequence[bytes]) -> list[list[str]]:
    """As SQL proposes them."""
    query = "select log.actor_names(a) as n from unnest($1::text[]) with ordinality u(a, nr) order by nr"
    return [row["n"] for row in await store.pool.fetch(query, [one.decode() for one in actors])]


async def test_golden_events_concern_the_same_session_in_sql(pg_store: PostgresEventStore) -> None:
    """Every shape that was ever written, in a stream of its own and in a session's; an unknown type is one of them."""
    bodies = [path.read_bytes() for path in sorted(files.PAYLOADS.glob("*.json"))]
    bodies += [b'{"session_id":"s7","type":"moon.phase_changed"}', b'{"type":"moon.phase_changed"}']
    seen = [
        recorded(raw(payload=body), stream_id=stream)
        for body in bodies
        for stream in (SYSTEM, container_stream("c1"), "session-s9")
    ]
    proposed = await session_names(pg_store, seen)
    assert proposed == [[] if (known := session_of(one)) is None else [known] for one in seen]
    assert {"s1", "s7", "s9"} <= {name for names in proposed for name in names}


async def test_actors_as_the_gateway_writes_them_are_read_in_sql(pg_store: PostgresEventStore) -> None:
    actors = {event(kind, actor=actor).actor for kind in SAMPLES for actor in (GATEWAY, FRONTEND)}
    assert [sorted(names) for names in await actor_names(pg_store, sorted(actors))] == [
        sorted(filter(None, names_of_actor(actor))) for actor in sorted(actors)
    ]


async def test_payloads_of_any_make_propose_their_session(pg_store: PostgresEventStore) -> None:
    """Never fewer than a reader of JSON finds, and never an error: one event would stop the index for good."""
    bodies = [text.encode() for text in corpus()]
    bodies += [b"\0", b'{"session_id":"s\0"}', b'\0{"session_id":"s1"}', b'{"x":"\0","session_id":"s1"}', b"\xff\xfe"]
    seen = [recorded(raw(payload=body), stream_id=SYSTEM) for body in bodies]
    told = 0
    for one, names in zip(seen, await session_names(pg_store, seen), strict=True):
        known = session_of(one)
        assert known is None or known in names or ODD in names, (one.payload[:200], names)
        told += known is not None
    assert told > COUNT / 10


async def test_actors_of_any_make_propose_their_names(pg_store: PostgresEventStore) -> None:
    actors = [text.encode() for text in corpus()]
    plain = 0
    for actor, names in zip(actors, await actor_names(pg_store, actors), strict=True):
        known = {name for name in names_of_actor(actor) if name is not None}
        assert ODD in names or known <= set(names), (actor[:200], names)
        plain += ODD not in names
    assert plain > COUNT / 200


async def test_keys_are_what_they_were(pg_store: PostgresEventStore) -> None:
    """Rows stay: another release and another machine must make the same key of a name and of an id."""
    fetch = pg_store.pool.fetchval
    for name in ("session:ses_1", "actor:key:\u00e9", "type:log.read", ""):
        digest = hashlib.sha256(name.encode()).digest()
        assert await fetch("select log.name_key($1)", name) == int.from_bytes(digest[:8], signed=True)
    for one in (UUID(int=7), UUID("01934f3c-7b2a-7c3e-8a54-1f0e6b6a9d02")):
        expected = int.from_bytes(one.bytes[8:], signed=True)
        assert await fetch("select log.id_key(uuid_send($1::uuid))", one) == expected


def test_the_corpus_is_json_and_is_not() -> None:
    """Both halves matter."""
    readable = sum(_is_json(text) for text in corpus())
    assert COUNT < readable < 2 * COUNT


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
