"""A folder of certificates as a rotation leaves it: files replaced whole, one by one."""

import datetime as dt
import os
from pathlib import Path

from docker.authority import Authority
from docker.settings import DockerSettings

LOOK = 1.01  # seconds after which the files are looked at again


class Clock:
    """Both clocks of ``Credentials``, moved by hand."""

    def __init__(self) -> None:
        self.wall = dt.datetime.now(dt.UTC)
        self.ticks = 100.0

    def now(self) -> dt.datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def pass_by(self, seconds: float = LOOK) -> None:
        self.wall += dt.timedelta(seconds=seconds)
        self.ticks += seconds


def replace(folder: Path, **contents: bytes) -> None:
    """Put files in place, each whole: ``ca=``, ``client_cert=``, ``client_key=``, ``server_cert=``, ``server_key=``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / f"{name.replace('_', '-')}.pem"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        os.replace(fresh, path)


def issue(folder: Path, authority: Authority, *, ca: bytes | None = None) -> None:
    """A client's files of ``authority``; ``ca``: what to trust, when that is another."""
    certificate, key = authority.client()
    replace(folder, client_key=key, client_cert=certificate, ca=authority.certificate if ca is None else ca)


def issue_server(folder: Path, authority: Authority) -> None:
    """A daemon's pair for loopback."""
    certificate, key = authority.server(["127.0.0.1"])
    replace(folder, server_cert=certificate, server_key=key)


def settings_of(folder: Path, port: int = 1) -> DockerSettings:
    return DockerSettings(docker_host=f"tcp://127.0.0.1:{port}", docker_cert_path=str(folder))
