"""``python -m gateway``: the table of commands. A command's module is loaded when it is called, and no other.

The module ``gateway/cli/NAME.py`` (``-`` is ``_`` there) has a Typer application ``app``; one with a single command is
that command.
Foreseeable trouble ends in sentences on the standard error output and an exit code, never a traceback.
"""

import importlib
import io
import os
import sys
from typing import Annotated, Any, Final

from gateway import RELEASE
from gateway.cli.exits import Exit, Failure

NOT_INSTALLED: Final = (
    "{python} lacks a package of the gateway ({error}): in a clone say .venv/bin/python -m gateway (make run makes "
    ".venv), or run . .venv/bin/activate first."
)
try:
    import typer
    from typer.core import TyperCommand, TyperGroup
except ImportError as missing:  # the machine's own Python
    print(NOT_INSTALLED.format(python=sys.executable, error=missing), file=sys.stderr)
    raise SystemExit(int(Exit.USAGE)) from None

PROGRAM: Final = "python -m gateway"
OURS: Final = ("gateway", "projections", "events", "docker")
COMMANDS: Final = {
    "serve": "Start the gateway.",
    "sessions": "Open, see, watch, stop and resume sessions.",
    "chat": "Talk to the agent of a session in the terminal.",
    "events": "Read the log, or follow it.",
    "why": "What made something happen, and what it led to.",
    "replay": "Fold the log alone: what is, or was, true.",
    "projections": "The tables behind the log: status, verify, rebuild.",
    "schema": "The log's schema: which release, what is pending.",
    "log": "Decide about a log that has lost events.",
    "keys": "Make, list and revoke API keys.",
    "erase": "Make a person's fields in the log unreadable for ever.",
    "import-sessions": "Take over the sessions file of the former manager.",
    "certs": "The certificates of mutual TLS: show, check, replace.",
    "config": "Every setting: value, source and meaning.",
    "doctor": "Look at what a gateway needs, and what to mend.",
    "clean": "Remove the log, the local sessions and the caches.",
}


class Commands(TyperGroup):
    """The group that finds commands in the table. Help lists them from there, without loading any."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=meaning) for name, meaning in COMMANDS.items()}

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the table: what a newcomer needs first comes first."""
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        """Typer would end the process itself, with 1, when the reader of the output has left."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise Failure(Exit.PIPE_CLOSED) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The name, the command itself, loaded now, and the arguments that are left for it."""
        name, _, rest = super().resolve_command(ctx, args)
        # httpx loads its own command line where click and rich are installed: 0.15 s. It can do without.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # how Python notes: not to be had
        module = _module(str(name))
        return name, typer.main.get_command(module.app), rest


def _module(command: str) -> Any:
    """The command's own. Raises Failure when a package is not installed."""
    try:
        return importlib.import_module(f"gateway.cli.{command.replace('-', '_')}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] in OURS:
            raise  # a fault of this program, which its traceback explains
        raise Failure(Exit.USAGE, NOT_INSTALLED.format(python=sys.executable, error=error)) from error


root = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"session-gateway {RELEASE}")
        raise typer.Exit(Exit.OK)


@root.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Event-sourced gateway to agent sessions: starts it, uses it, reads its log."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that cannot be shown or read is no reason to fail
            stream.reconfigure(errors="replace" if stream is sys.stdin else "backslashreplace")
    try:
        code = typer.main.get_command(root)(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return int(code or Exit.OK)
    except Failure as failure:
        return _failed(failure.code, *failure.sentences)
    except typer.TyperException as error:  # arguments that cannot be used; a family without a command shows its help
        return _failed(Exit.USAGE, error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return _failed(Exit.PIPE_CLOSED)


def _failed(code: Exit, *sentences: str) -> int:
    if code is Exit.PIPE_CLOSED:
        # What is left in the buffer has no reader: without this, Python would say so as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
