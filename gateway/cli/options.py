"""Options that several commands share, and how a command is made: plain help, our own errors, no tracebacks."""

import enum
from pathlib import Path
from typing import Annotated

import typer


class Fold(enum.Enum):
    """Which of two: where a clock is set back, an hour's name stands for two of them."""

    FIRST = "first"
    SECOND = "second"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]
Url = Annotated[
    str | None, typer.Option("--url", help="The gateway, as http://127.0.0.1:8000; else GATEWAY_BIND.", metavar="URL")
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help="File with an API key; else GATEWAY_KEY; else operator.key of the data directory."),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="P|T", help="What was true at a position, or at an RFC 3339 time with its offset or --tz."
    ),
]
Tz = Annotated[
    str | None,
    typer.Option("--tz", metavar="ZONE", help="Zone of times without an offset and of those shown, as Europe/Berlin."),
]
FoldOf = Annotated[
    Fold | None, typer.Option("--fold", help="Which one is meant when the zone's clock showed that time twice.")
]
Purpose = Annotated[
    str | None,
    typer.Option("--purpose", metavar="TEXT", help="Why you read it; needed for one session's; kept in the log."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def family(meaning: str) -> typer.Typer:
    """An application of one or more commands. Its help is plain text: rich takes 0.1 s to load."""
    return typer.Typer(
        help=meaning,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
