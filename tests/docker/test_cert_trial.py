"""A client's certificate is shown to the daemon before it is put in place, and nothing of it is left behind."""

import os
from pathlib import Path

import pytest

from docker import certs
from docker.cert_trial import try_out
from docker.errors import DaemonDown, DaemonRefusedUs, DaemonUntrusted
from tests.docker.stub_daemon import daemon_context, furnish, over_tls, peer, settings_for


def in_memory() -> list[str]:
    links = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    return [link for link in links if "memfd:" in link]


async def test_what_the_daemon_accepts_passes_and_leaves_nothing(tmp_path: Path) -> None:
    authority = certs.Authority()
    folder = furnish(tmp_path / "certs", authority)
    with peer(over_tls(daemon_context(folder))) as port:
        settings = settings_for(tmp_path / "absent", port)  # what lies there is not looked at
        await try_out(settings, authority.certificate, *authority.client())
        assert in_memory() == []
    assert not (tmp_path / "absent").exists()


async def test_what_the_daemon_refuses_is_told(tmp_path: Path) -> None:
    authority = certs.Authority()
    folder = furnish(tmp_path / "certs", authority)
    with peer(over_tls(daemon_context(folder))) as port:
        settings = settings_for(folder, port)
        with pytest.raises(DaemonRefusedUs, match=r"our certificate client-cert\.pem") as refused:
            await try_out(settings, authority.certificate, *certs.Authority().client())
        assert "/proc" not in str(refused.value)
        with pytest.raises(DaemonUntrusted):
            await try_out(settings, certs.Authority().certificate, *authority.client())


async def test_a_daemon_that_is_down_is_told(tmp_path: Path) -> None:
    authority = certs.Authority()
    with pytest.raises(DaemonDown):
        await try_out(settings_for(tmp_path, 1), authority.certificate, *authority.client())
