"""Shows the daemon a client's certificate before it is put in place.

While the CA is replaced, a certificate of the new one locks us out of a daemon that has not been restarted with both.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from docker.asking import ask
from docker.errors import BadCertificateFiles, DaemonRefusedUs, DaemonUntrusted, DockerError
from docker.settings import DockerSettings

# Is told the CA's file, the client's certificate and its key before they are put in place, and raises to prevent it.
Trial = Callable[[bytes, bytes, bytes], None]
_NAMES: Final = ("ca.pem", "client-cert.pem", "client-key.pem")


def trial_of(settings: DockerSettings, note: Callable[[str], object]) -> Trial | None:
    r"""Ask the daemon of DOCKER_HOST; None when none is named here. ``note`` is told when it does not answer."""
    if not _names_a_daemon(settings):
        return None

    def trial(authority: bytes, certificate: bytes, key: bytes) -> None:
        if (away := _asked(settings, authority, certificate, key)) is not None:
            note(f"The daemon could not be asked whether it accepts the new files: {away}")

    return trial


def proof_of(settings: DockerSettings) -> Trial:
    """Ask the daemon, and take nothing but its consent: who takes the former CA away knows that it is needed no more.

    The trial raises BadCertificateFiles also when no daemon is named, or it does not answer.
    """

    def trial(authority: bytes, certificate: bytes, key: bytes) -> None:
        if not _names_a_daemon(settings):
            raise BadCertificateFiles(
                "Nothing was replaced, since DOCKER_HOST names no daemon that could be asked whether it runs with the "
                "new files: give it, or, when you have seen that it does, --unasked."
            )
        if (away := _asked(settings, authority, certificate, key)) is not None:
            raise BadCertificateFiles(
                f"Nothing was replaced, since the daemon could not be asked whether it runs with the new files: {away} "
                "When you have seen that it does: --unasked."
            )

    return trial


def _names_a_daemon(settings: DockerSettings) -> bool:
    return bool(settings.docker_host or settings.docker_host_ip)


def _asked(settings: DockerSettings, authority: bytes, certificate: bytes, key: bytes) -> DockerError | None:
    """None when it accepts them, else why it could not be asked. Raises BadCertificateFiles when it does not."""
    try:
        asyncio.run(try_out(settings, authority, certificate, key))
    except (DaemonRefusedUs, DaemonUntrusted) as error:
        raise BadCertificateFiles(
            f"Nothing was replaced, since the daemon does not go with the new files: {error} "
            "Give it what was handed out for it, and restart dockerd."
        ) from error
    except DockerError as error:
        return error
    return None


async def try_out(
    settings: DockerSettings, authority: bytes, certificate: bytes, key: bytes, *, seconds: float = 5.0
) -> None:
    """Speak to the daemon with these and nothing else. Raises DockerError when it refuses us, or we it, or it is down.

    OpenSSL takes a key from a file alone: it gets files that are in memory and have no name, so that a run that is
    killed leaves no key behind.
    """
    with ExitStack() as open_files:
        paths = [str(_in_memory(content, open_files)) for content in (authority, certificate, key)]
        tried = msgspec.structs.replace(
            settings, docker_ca_cert=paths[0], docker_client_cert=paths[1], docker_client_key=paths[2]
        )
        try:
            await ask(tried, "/_ping", seconds=seconds)
        except DockerError as error:
            error.args = (_by_name(str(error), paths),)
            raise


def _by_name(message: str, paths: Sequence[str]) -> str:
    """Files in memory are called as they will be: their paths say nothing to anybody."""
    for path, name in sorted(zip(paths, _NAMES, strict=True), reverse=True):  # .../10 before .../1
        message = message.replace(path, name)
    return message


def _in_memory(content: bytes, open_files: ExitStack) -> Path:
    descriptor = os.memfd_create("certificate")
    open_files.callback(os.close, descriptor)
    os.write(descriptor, content)
    return Path(f"/proc/self/fd/{descriptor}")
