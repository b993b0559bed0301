"""Certificates are replaced under a running gateway: every one of them, and no user notices.

The operator's own commands against a real dockerd that is restarted as an operator restarts it (SIGTERM, live-restore).
"""

import asyncio
import datetime as dt
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from docker.aiodocker_service import AiodockerService
from docker.authority import Authority
from docker.errors import DaemonRefusedUs
from docker.image import ECHO_IMAGE
from docker.settings import DockerSettings
from gateway.cli.exits import Exit
from tests.docker.daemon import PrivateDaemon
from tests.docker_fixtures import DockerDaemon, daemon_of_its_own
from tests.event_fixtures import until
from tests.gateway.cli.conftest import run_process
from tests.gateway_fixtures import Session
from tests.walks import process
from tests.walks.process import GatewayProcess
from tests.walks.rotating import Traffic, heard, told, traffic

DAYS = 2  # of all certificates here: each is warned of from the first moment


@pytest.fixture
def restartable() -> Iterator[tuple[PrivateDaemon, DockerDaemon]]:
    with daemon_of_its_own(1, "--live-restore") as made:
        yield made


def environment(daemon: DockerDaemon) -> dict[str, str]:
    """On a log in a file, which starts fastest; small containers."""
    sessions = {"SESSION_IMAGE": ECHO_IMAGE, "MAX_CONCURRENT_SESSIONS": "30"}
    small = {"CONTAINER_MEMORY_LIMIT": "64m", "CONTAINER_TMP_SIZE": "8m", "USE_DATABASE_STORAGE": "false"}
    small["PROXY_MAX_KEEPALIVE_CONNECTIONS"] = "0"  # every request dials anew, also while the daemon restarts
    return {**daemon.environment, "SESSION_RUNTIME": "docker", **sessions, **small}


def sha256_in(path: Path) -> str:
    """Of the first certificate there."""
    return x509.load_pem_x509_certificates(path.read_bytes())[0].fingerprint(hashes.SHA256()).hex()


class Rotation:
    """A gateway under traffic, and the folder whose certificates are replaced."""

    def __init__(
        self,
        private: PrivateDaemon,
        gateway: GatewayProcess,
        client: httpx.AsyncClient,
        going: Traffic,
        settings: Mapping[str, str],
    ) -> None:
        self.private, self.gateway, self.client, self.going = private, gateway, client, going
        self.folder = private.folder / "certs"
        self.settings = {**settings, "DOCKER_CERT_PATH": str(self.folder)}
        self.pid = gateway.pid

    async def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.client.get("/health")).json()
        return answer

    async def unnoticed(self, role: str, file: str) -> None:
        """The certificate of ``file`` is in use, which is told, and everything goes on."""
        wanted = sha256_in(self.folder / file)

        async def is_told() -> bool:
            said = await told(self.client, "certificate.rotated", role=role)
            return wanted in [sha256 for one in said for sha256, _ in one["added"]]

        await until(is_told)
        await self.goes_on()
        health = await self.health()
        assert wanted in [each["sha256"] for each in health["certificates"] if each["role"] == role]

    async def goes_on(self) -> None:
        """The daemon is spoken to, by the same process, and nobody was cut off."""
        await self.going.goes_on(self.client)
        assert (await self.health())["runtime_answers"] is True
        assert (self.gateway.pid, self.gateway.code) == (self.pid, None)

    async def opens_another(self) -> None:
        """A whole boot: everything that the daemon is asked for."""
        opened = await self.gateway.open(self.client)
        assert (await self.client.delete(f"/sessions/{opened.session_id}")).status_code == 202

    async def restart_daemon(self) -> None:
        await asyncio.to_thread(self.private.restart)

    async def operator(self, *arguments: str, code: Exit = Exit.OK) -> None:
        """The command itself, with the settings of the gateway."""
        ran = await run_process("certs", "rotate", *arguments, **self.settings)
        assert ran.code == code, ran.err
        assert "could not be asked" not in ran.err

    async def warned(self) -> None:
        """Who looks at health, at the log or at the events is told that all three end soon, and which they are."""
        for role, file in (("ca", "ca.pem"), ("client", "client-cert.pem"), ("daemon", "server-cert.pem")):
            (said,) = await told(self.client, "certificate.expiry_warned", role=role)
            assert said["sha256"] == sha256_in(self.folder / file)
            (began,) = await told(self.client, "certificate.used", role=role)
            assert [sha256 for sha256, _ in began["certificates"]] == [said["sha256"]]
        health = await self.health()
        assert health["status"] == "healthy"
        assert [(each["role"], each["days_left"], each["warning"]) for each in health["certificates"]] == [
            (role, DAYS - 1, True) for role in ("ca", "client", "daemon")
        ]
        lines = [line for line in self.gateway.lines if "certificate ends in 1 days" in line["message"]]
        assert [line["level"].lower() for line in lines] == ["warning"] * 3
        assert len(health["warnings"]) == 3

    async def replace_client(self) -> None:
        await self.operator("client", "--days", "1")
        await self.unnoticed("client", "client-cert.pem")
        await self.opens_another()

    async def replace_client_by_hand(self) -> None:
        """The key comes late: the pair is refused, told, and taken up when it is whole."""
        authority = Authority.load((self.folder / "ca.pem").read_bytes(), (self.folder / "ca-key.pem").read_bytes())
        certificate, key = authority.client(days=1)
        _copy(certificate, self.folder / "client-cert.pem")
        await told(self.client, "certificate.refused", reason="key_mismatch")
        health = await self.health()
        assert any(words.startswith("New certificate files are not used") for words in health["warnings"])
        await self.goes_on()
        _copy(key, self.folder / "client-key.pem")
        await self.unnoticed("client", "client-cert.pem")
        assert not any("not used" in words for words in (await self.health())["warnings"])

    async def replace_server(self) -> None:
        await self.operator("server", "--days", "1")
        await self.restart_daemon()
        await self.unnoticed("daemon", "server-cert.pem")

    async def replace_authority(self, former: DockerSettings) -> None:
        """Both for a while, then the new one alone; whoever has a certificate of the former is refused from then on."""
        gone = sha256_in(self.folder / "ca.pem")
        await self.operator("ca", "--days", str(DAYS))
        await self.unnoticed("ca", "ca.pem")
        await self.operator("ca", "--finish", code=Exit.NEGATIVE)  # the daemon knows the former one alone
        await self.restart_daemon()
        await self.unnoticed("daemon", "server-cert.pem")
        async with AiodockerService(former) as service:
            await service.list_containers()
        await self.operator("ca", "--finish", "--days", "1")
        await self.unnoticed("client", "client-cert.pem")
        said = await told(self.client, "certificate.rotated", role="ca")
        assert [[sha256 for sha256, _ in one["removed"]] for one in said] == [[], [gone]], "revoked at the end"
        await self.restart_daemon()
        await self.goes_on()
        await self.opens_another()
        async with AiodockerService(former) as service:
            with pytest.raises(DaemonRefusedUs):
                await service.list_containers()


async def _four(gateway: GatewayProcess, client: httpx.AsyncClient) -> list[Session]:
    """Sessions that are ready: as many at once as boot in the time that one waits."""
    return await asyncio.gather(*(gateway.open(client) for _ in range(4)))


def _copy(content: bytes, path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def _put_aside(folder: Path, settings: DockerSettings, tmp_path: Path) -> DockerSettings:
    """What a thief copied: the client's certificate of before. It trusts whatever daemon there is."""
    for name in ("client-cert.pem", "client-key.pem"):
        shutil.copy(folder / name, tmp_path / name)
    return msgspec.structs.replace(
        settings,
        docker_client_cert=str(tmp_path / "client-cert.pem"),
        docker_client_key=str(tmp_path / "client-key.pem"),
    )


@pytest.mark.docker
@pytest.mark.timeout(240)
@pytest.mark.parametrize("sessions", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_every_certificate_is_replaced_under_traffic(
    restartable: tuple[PrivateDaemon, DockerDaemon], data_dir: Path, tmp_path: Path, sessions: int
) -> None:
    private, daemon = restartable
    began = dt.datetime.now(dt.UTC)
    former = _put_aside(private.folder / "certs", daemon.settings, tmp_path)
    async with process.serving(data_dir, environment(daemon)) as gateway, gateway.client() as client:
        opened = [session for _ in range(sessions // 4) for session in await _four(gateway, client)]
        async with heard(daemon.settings) as ends, traffic(gateway, client, opened) as going:
            rotation = Rotation(private, gateway, client, going, environment(daemon))
            await rotation.warned()
            await rotation.replace_client()
            await rotation.replace_client_by_hand()
            await rotation.replace_server()
            await rotation.replace_authority(former)
            last = (await told(client, "container.created", session_id=opened[-1].session_id))[0]["container"]
            assert daemon.ask("POST", f"/containers/{last}/kill")[0] == 204

            async def is_heard() -> bool:
                return last in ends

            await until(is_heard)
            assert len(ends) == len(set(ends)), "each end is told once"
            await told(client, "container.died", container=last)
        assert await gateway.stop() == 0
        assert [line for line in gateway.other if "Traceback" in line] == []
    assert dt.datetime.now(dt.UTC) - began < dt.timedelta(hours=1), "what was made for a day still holds"
