"""The way to a gateway that runs: where it is, which key opens it, and what its refusals mean for the exit code."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from gateway import purpose as purposes
from gateway.cli.exits import Exit, Failure
from gateway.control import GatewayClient, GatewayRefused, GatewayUnreachable
from gateway.purpose import HEADER

T = TypeVar("T")
KEY_VARIABLE: Final = "GATEWAY_KEY"
KEY_FILE: Final = "operator.key"
DEFAULT_BIND: Final = "127.0.0.1:8000"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


NOT_THERE: Final = ("/problems/event-unknown", "/problems/session-unknown")  # it answered, and the answer is no
_OPTIONS: Final = {HEADER: "--purpose", "Idempotency-Key": "--idempotency-key", "The parameter ": "--"}


def by_option(told: str) -> str:
    """What a gateway said, with the names of options for those of headers and parameters."""
    told = told.replace(f"say in {HEADER} why", "say with --purpose why")
    for name, option in _OPTIONS.items():
        told = told.replace(name, option)
    return told


@asynccontextmanager
async def connected(url: str | None, key_file: Path | None) -> AsyncIterator[GatewayClient]:
    """A client of the gateway that the options, the environment or the data directory name. Raises Failure."""
    with failures():
        async with client(url, key_file) as opened:
            yield opened


def client(url: str | None, key_file: Path | None) -> GatewayClient:
    """The same, for those who close it themselves. Raises Failure."""
    return GatewayClient(address(url, os.environ), key(key_file, os.environ))


@contextmanager
def failures() -> Iterator[None]:
    """What the client raises, as sentences and exit codes."""
    try:
        yield
    except GatewayUnreachable as error:
        raise Failure(Exit.UNREACHABLE, str(error)) from error
    except GatewayRefused as error:
        code = Exit.NEGATIVE if error.problem.type in NOT_THERE else Exit.REFUSED
        raise Failure(code, by_option(str(error))) from error


def run(work: Coroutine[Any, Any, T]) -> T:
    """The command's work to its end."""
    return asyncio.run(work)


def address(url: str | None, environment: Mapping[str, str]) -> str:
    """The gateway's base URL. Raises Failure."""
    if url is None:
        return _bound(environment.get("GATEWAY_BIND") or DEFAULT_BIND)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:  # a port over 65535, a bracket too few
        usable = False
    if not usable:
        raise Failure(Exit.USAGE, f"--url: {url!r} is not an address such as http://127.0.0.1:8000.")
    return url


def _bound(bind: str) -> str:
    """Where a gateway that listens on ``bind`` is called."""
    host, _, port = bind.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise Failure(Exit.USAGE, f"GATEWAY_BIND is {bind!r}, which names no port to call: give --url.")
    host = _EVERYWHERE.get(host.strip("[]"), host.strip("[]"))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def key(file: Path | None, environment: Mapping[str, str]) -> str:
    """The API key to call with. Raises Failure."""
    if file is None and (given := environment.get(KEY_VARIABLE)):
        return _usable(given.strip(), KEY_VARIABLE)
    own = Path(environment.get("GATEWAY_DATA_DIR") or "./var").absolute() / KEY_FILE
    try:
        return _usable((file or own).read_text().strip(), str(file or own))
    except FileNotFoundError:
        if file is None:
            raise Failure(
                Exit.USAGE,
                f"There is no key: give --key-file or {KEY_VARIABLE}. A gateway that runs here has one in {own}.",
            ) from None
        raise Failure(Exit.USAGE, f"--key-file: there is no {file}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"The key file {file or own} cannot be read: {error}.") from error


def segment(text: str) -> str:
    """A session's id, as given by somebody, as one segment of a path. Raises Failure."""
    if not text or text in (".", ".."):
        raise Failure(Exit.USAGE, f"{text!r} is not the id of a session.")
    return quote(text, safe="")


def header(option: str, text: str) -> str:
    """A value that goes into a header line. Raises Failure."""
    if not text or not text.isascii() or not text.isprintable():
        raise Failure(Exit.USAGE, f"{option} may hold printable ASCII characters only.")
    return text


def why(purpose: str | None) -> dict[str, str]:
    """The header that says why something is read; none without a purpose. Raises Failure."""
    given = stated(purpose)
    return {} if given is None else {HEADER: given}


def stated(purpose: str | None) -> str | None:
    """What ``--purpose`` says; None when it says nothing. Raises Failure."""
    try:
        return purposes.stated(purpose)
    except purposes.BadPurpose as error:
        raise Failure(Exit.USAGE, f"--purpose {error}.") from None


def _usable(text: str, source: str) -> str:
    """A key is one word of ASCII; the text itself is told to nobody."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise Failure(Exit.USAGE, f"{source} holds no API key (gwk_...).")
    return text
