"""DB_*: where the log lives. Field names are environment variables in lower case (spec row C2)."""

from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Empty ``db_host`` means the embedded Postgres."""

    db_host: Annotated[str, Meta(description="Postgres host or socket directory; empty: the embedded Postgres")] = ""
    db_port: Annotated[int, Meta(ge=1, le=65535, description="Postgres port")] = 5432
    db_user: Annotated[str, Meta(description="role that the gateway works as")] = "session_gateway"
    db_password: Annotated[str, Meta(description="its password (secret)")] = ""
    db_name: Annotated[str, Meta(description="database")] = "session_gateway"
    db_admin_url: Annotated[
        str, Meta(description="postgresql:// URL of the role that owns and migrates the log (secret); empty: DB_USER")
    ] = ""
    db_min_connections: Annotated[int, Meta(ge=0, description="reading connections kept open")] = 5
    db_max_connections: Annotated[int, Meta(ge=1, description="reading connections at most")] = 20
    db_max_queries: Annotated[int, Meta(ge=1, description="queries before a connection is replaced")] = 50_000
    db_max_inactive_lifetime: Annotated[float, Meta(ge=0, description="seconds an idle connection is kept")] = 300.0

    def dsn(self) -> str:
        """The gateway's own connection as a URL. Holds the password: never log it."""
        secret = f":{quote(self.db_password, safe='')}" if self.db_password else ""
        user, name = quote(self.db_user, safe=""), quote(self.db_name, safe="")
        if self.db_host.startswith("/"):
            return f"postgresql://{user}{secret}@/{name}?host={quote(self.db_host, safe='/')}&port={self.db_port}"
        host = f"[{self.db_host}]" if ":" in self.db_host else self.db_host
        return f"postgresql://{user}{secret}@{host}:{self.db_port}/{name}"
