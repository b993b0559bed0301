"""Filters of the log on the command line: what is misspelt is told here, by its option, and costs no request."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from gateway import names
from gateway.cli import moments, printing
from gateway.cli.exits import Exit, Failure
from projections import moment

Query = list[tuple[str, str | int]]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only this type, or family as session.*; may be repeated.")
]
Stream = Annotated[str | None, typer.Option(metavar="NAME", help="Only this stream, as session-ses_...")]
SessionId = Annotated[str | None, typer.Option("--session", metavar="ID", help="Only what concerns this session.")]
ActorOf = Annotated[
    str | None, typer.Option("--actor", metavar="WHO", help="Only by this key's id, or KIND:ID as gateway:g1.")
]
Trace = Annotated[str | None, typer.Option(metavar="ID", help="Only of this trace: 32 hexadecimal digits.")]
Correlation = Annotated[str | None, typer.Option(metavar="UUID", help="Only of the request with this correlation id.")]
Since = Annotated[
    str | None, typer.Option(metavar="P|T", help="Only beyond a position, or recorded after an RFC 3339 time.")
]
Until = Annotated[
    str | None, typer.Option(metavar="P|T", help="Only up to a position, or recorded by an RFC 3339 time.")
]
CursorOf = Annotated[str | None, typer.Option("--cursor", help="Go on where an answer ended, with the same filters.")]
_RULES: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "stream": (names.is_stream, "is not the name of a stream, as session-ses_..."),
    "session": (names.is_session, "is not the id of a session, as ses_..."),
    "actor": (names.is_actor, "is neither a key's id nor KIND:ID, as gateway:gw-1"),
    "trace": (names.is_trace, "is not a trace id, which has 32 hexadecimal digits"),
    "correlation": (names.is_uuid, "is not a UUID"),
}


def filters(types: Sequence[str] | None, **others: str | None) -> Query:
    """What is asked for. A type that this release does not know is said so and asked for: a later one may write it.

    Raises Failure.
    """
    wanted = list(types or ())
    for tag in wanted:
        if not names.are_types([tag]):
            raise Failure(Exit.USAGE, f"--type: {tag!r} is no type such as session.ready, nor a family: session.*")
    if not names.are_types(wanted):
        raise Failure(Exit.USAGE, f"--type may be given {names.MAX_TYPES} times at most.")
    for name, value in others.items():
        fits, fault = _RULES[name]
        if value is not None and not fits(value):
            raise Failure(Exit.USAGE, f"--{name}: {value!r} {fault}.")
    if wanted:
        _warn(wanted)
    return [*(("type", tag) for tag in wanted), *given(**others)]


def given(**options: str | int | None) -> Query:
    return [(name, value) for name, value in options.items() if value is not None]


def beginning(
    *, after: int | None, since: str | None, cursor: str | None, tz: str | None, until: str | None = None
) -> Query:
    """Where to begin and end, as positions or times in UTC. Raises Failure."""
    if after is not None and since is not None:
        raise Failure(Exit.USAGE, "Give --after or --since, not both.")
    if cursor is not None and (after is not None or since is not None or until is not None):
        raise Failure(Exit.USAGE, "A cursor says where to begin and end: leave out --after, --since and --until.")
    return given(after=after, since=_moment("--since", since, tz), until=_moment("--until", until, tz), cursor=cursor)


def _moment(option: str, text: str | None, tz: str | None) -> str | None:
    if text is None:
        return None
    zone = moments.zone_of(tz)
    try:
        return moments.exact(moment.parse(text, zone))
    except moment.BadMoment as error:
        raise Failure(Exit.USAGE, f"{option}: {error.by_option()}.") from error


def _warn(wanted: Sequence[str]) -> None:
    from events import registry  # here: the vocabulary need not be loaded where no type is named

    for tag in registry.unknown(wanted):
        meant = registry.near(tag)
        guess = f": was {meant} meant?" if meant else "."
        printing.note(f"This release knows no event of the type {tag}, which a later one may write{guess}")
