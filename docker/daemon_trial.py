"""Whether a daemon could serve with these certificate files, and whether one does. Standard library only.

Tried with a handshake in memory, by the same library that gateways verify with: key, chain, time, usage and name.
"""

import socket
import ssl
import time
from pathlib import Path
from typing import Final

CA, CERTIFICATE, KEY = "ca.pem", "server-cert.pem", "server-key.pem"
FILES: Final = (CA, CERTIFICATE, KEY)


def problem(folder: Path, host: str) -> str:
    """Why a client would not accept these files from a daemon at ``host``; empty when it would.

    An empty ``host`` is one that cannot be told: then no name is compared.
    """
    for name in FILES:
        try:
            (folder / name).read_bytes()
        except OSError as error:
            return f"{folder / name} cannot be read ({error.strerror})"
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(folder / CERTIFICATE, folder / KEY, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", "") or str(error)
        return f"{CERTIFICATE} and {KEY} in {folder} cannot be used together ({reason})"
    try:
        _shake_hands(_client(folder / CA, host), server, host)
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        return f"a client would refuse {folder / CERTIFICATE} at {host or 'any address'}: {reason}"
    except (ssl.SSLError, ValueError) as error:
        return f"{folder / CA} cannot be used ({getattr(error, 'reason', '') or error})"
    return ""


def answers(folder: Path, address: tuple[str, int], *, seconds: float) -> bool:
    """Whether a daemon with a certificate of the CA in ``folder`` answers there within the time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(address, timeout=2) as connection:
                context = _client(folder / CA, "")
                with context.wrap_socket(connection, server_hostname=address[0]):
                    return True
        except OSError:  # ssl.SSLError is one
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)


def _client(authority: Path, host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = bool(host)
    context.load_verify_locations(authority)
    return context


def _no_password() -> str:
    raise ValueError("the key is locked by a password, which a daemon cannot give")


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host or None)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
