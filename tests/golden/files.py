"""What the golden files must hold, and where each lies."""

import hashlib
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from events import codec
from events.catalogue import AccessDenied, ExchangeCompleted, SessionRequested, SessionStopped
from events.envelope import EventData, RecordedEvent
from events.ids import named
from events.registry import EVENT_TYPES, EventType
from tests.factories import CAUSE, FRONTEND, GATEWAY, MOMENT, SAMPLES, event, recorded

FOLDER: Final = Path(__file__).parent
PAYLOADS: Final = FOLDER / "events"
SHAPES: Final = FOLDER / "shapes"
LEAVES: Final = FOLDER / "leaf.v1.json"


class Leaf(msgspec.Struct, frozen=True):
    """A recorded event, field by field, and the bytes that a hash of the log covers."""

    recorded: dict[str, Any]
    leaf: str
    sha256: str


def name_of(tag: str, version: int) -> str:
    return f"{tag}.v{version}.json"


def wanted(known: EventType) -> dict[Path, bytes]:
    """The files of a type's newest shape as they would be made today."""
    name = name_of(known.tag, known.schema_version)
    return {
        PAYLOADS / name: codec.canonical(SAMPLES[known.payload]),
        SHAPES / name: msgspec.json.format(codec.canonical(shape(known.payload)), indent=2) + b"\n",
    }


def shape(payload: type[Any]) -> dict[str, str]:
    """Each field with its type and, when it may be left out, its default."""
    return {field.encode_name: _type(field.type) + _default(field) for field in msgspec.structs.fields(payload)}


def missing() -> dict[Path, bytes]:
    """The golden files that are not there yet."""
    files = {path: body for known in EVENT_TYPES.values() for path, body in wanted(known).items()}
    files[LEAVES] = msgspec.json.format(msgspec.json.encode(leaves()), indent=2) + b"\n"
    return {path: body for path, body in files.items() if not path.exists()}


def leaves() -> list[Leaf]:
    """Events with every field, with none of the optional ones, and with text that JSON must escape."""
    full = event(SessionRequested, actor=FRONTEND, cause=CAUSE, event_id=named("golden", "full"))
    bare = event(SessionStopped, actor=GATEWAY, event_id=named("golden", "bare"))
    strange = event(AccessDenied, reason='"\\\n\0é\u2028\U0001f600', event_id=named("golden", "strange"))
    late = event(ExchangeCompleted, event_id=named("golden", "late"), occurred_at=MOMENT.replace(microsecond=7))
    return [_leaf(one, position) for position, one in enumerate((full, bare, strange, late), start=1)]


def rebuilt(fields: dict[str, Any]) -> RecordedEvent:
    """The recorded event that a ``Leaf`` describes."""
    bytes_of = {name: fields[name].encode() for name in ("payload", "actor")}
    ids = {name: fields[name] and bytes.fromhex(fields[name]) for name in ("trace_id", "span_id")}
    plain = {name: value for name, value in fields.items() if name not in {*bytes_of, *ids}}
    return msgspec.convert({**plain, **bytes_of, **ids}, RecordedEvent)


def sha256(leaf: bytes) -> str:
    return hashlib.sha256(leaf).hexdigest()


def _leaf(data: EventData, position: int) -> Leaf:
    one = recorded(data, position=position, version=position, recorded_at=MOMENT.replace(microsecond=position))
    fields = {name: _plain(value) for name, value in msgspec.structs.asdict(one).items()}
    leaf = codec.leaf_bytes(one)
    return Leaf(fields, leaf.decode(), sha256(leaf))


def _plain(value: Any) -> Any:
    """A field for people to read: payload and actor as text, trace ids as hex."""
    if isinstance(value, bytes):
        return value.decode() if value.startswith(b"{") else value.hex()
    return value


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (UnionType, Union):
        return " | ".join(sorted(_type(one) for one in inner))
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if one is Ellipsis else _type(one) for one in inner)}]"
    names = {type(None): "null", datetime: "time"}
    return names.get(annotation, str(annotation.__name__))


def _default(field: msgspec.structs.FieldInfo) -> str:
    return "" if field.required else f" = {msgspec.json.encode(field.default).decode()}"
