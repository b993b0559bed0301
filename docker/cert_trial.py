"""Shows the daemon a client's certificate before it is put in place.

While the CA is replaced, a certificate of the new one locks us out of a daemon that has not been restarted with both.
"""

import os
from contextlib import ExitStack
from pathlib import Path

import msgspec

from docker.asking import ask
from docker.settings import DockerSettings


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
        await ask(tried, "/_ping", seconds=seconds)


def _in_memory(content: bytes, open_files: ExitStack) -> Path:
    descriptor = os.memfd_create("certificate")
    open_files.callback(os.close, descriptor)
    os.write(descriptor, content)
    return Path(f"/proc/self/fd/{descriptor}")
