"""Debian's Postgres as an image, for the name in ``POSTGRES_IMAGE``: it takes the same variables as the usual one.

Built of this machine's files like every image here, since nothing can be pulled.
"""

from pathlib import Path

from docker.image_archive import Image
from docker.rootfs import base
from tests.debian_postgres import binary

NAME = "session-gateway/test-postgres:1"
USER = 999
_ENTRY = b"""#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
  initdb --pgdata="$PGDATA" --username="$POSTGRES_USER" --pwfile=/tmp/password --no-locale --encoding=UTF8 \\
    --auth-local=trust $POSTGRES_INITDB_ARGS
  rm /tmp/password
  pg_ctl --pgdata="$PGDATA" --wait --options="-c listen_addresses='' -c fsync=off" start
  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  for script in /docker-entrypoint-initdb.d/*.sh; do sh "$script"; done
  pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c fsync=off
"""


def postgres_image() -> Image:
    """Skips loudly where Debian's Postgres is not installed."""
    programs = Path(binary("postgres")).resolve().parent
    version = programs.parent.name
    files = base()
    files.file("/etc/passwd", f"root:x:0:0::/:/bin/sh\npostgres:x:{USER}:{USER}::/tmp:/bin/sh\n".encode())
    for name in ("postgres", "initdb", "pg_ctl", "psql", "createdb", "pg_isready"):
        files.program(f"{programs}/{name}", Path(binary(name)).resolve())
    library = programs.parent / "lib"
    files.tree(str(library), library, skip=lambda name: name in ("bitcode", "pgxs") or name.startswith("llvmjit"))
    files.libraries_of([library / name for name in ("plpgsql.so", "dict_snowball.so")])
    share = Path("/usr/share/postgresql") / version
    files.tree(str(share), share, skip=lambda name: name in ("man", "extension.bak"))
    for folder in ("/var/lib/postgresql/data", "/var/run/postgresql"):
        files.folder(folder, owner=USER)
    files.file("/entry", _ENTRY, mode=0o755)
    return Image(
        name=NAME,
        files=files,
        command=("/entry",),
        environment=(f"PATH={programs}:/usr/bin:/bin", "HOME=/tmp"),
        user=f"{USER}:{USER}",
        folder="/",
        port=5432,
    )
