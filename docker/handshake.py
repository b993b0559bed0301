"""The daemon's certificate as it shows it in the handshake."""

import asyncio
import ssl
from urllib.parse import urlsplit

from docker.identity import Certificate, certificate_of


async def shown_certificate(address: str, context: ssl.SSLContext, *, seconds: float) -> Certificate:
    """Connect, verify, look and go. Raises OSError (ssl.SSLError, TimeoutError) as the connection does."""
    parts = urlsplit(address)
    async with asyncio.timeout(seconds):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
        try:
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return certificate_of(der)
        finally:
            writer.transport.abort()  # nothing was sent: a peer that is silent would keep the socket for half a minute
