"""Server settings: apart from the server, so that a command which reads the settings need not load hypercorn."""

from typing import Annotated

import msgspec
from msgspec import Meta


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway listens and how it ends."""

    gateway_bind: Annotated[str, Meta(description="address to listen on, host:port or [IPv6]:port")] = "127.0.0.1:8000"
    gateway_hypercorn_config: Annotated[
        str, Meta(description="configuration file of hypercorn; empty: the hypercorn.toml beside the code")
    ] = ""
    drain_seconds: Annotated[
        float, Meta(ge=0, description="seconds that requests under way get to finish when the process is told to stop")
    ] = 10.0
