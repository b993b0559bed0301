"""``host_dir`` over HTTP: a folder of the host as the workspace, for its owner alone, and never named in clear."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from docker.errors import DaemonFailed
from docker.host_dir_marks import file_of
from docker.mock import MockDockerService
from docker.names import SESSION
from events.catalogue import SubjectErased
from events.envelope import SYSTEM, ActorKind
from gateway.access.roles import Role
from gateway.api.shapes import CreateSession
from gateway.recorder import Who
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.storage import Report, Storage
from projections.lifecycle import Phase
from tests.gateway.world import AGENT, Answering, eventually
from tests.gateway_fixtures import WAIT, Gateway, start_gateway

USER = "1000:1000" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
FOLDER = "ada.lovelace"
WANTED = {"host_dir": FOLDER, "owner": "ada"}


class Host:
    """A root of folders, a mock runtime on the same machine, and gateways there."""

    def __init__(self, root: Path, data: Path, agents: Answering) -> None:
        self.root, self.data = root, data
        self.docker = MockDockerService(address_of=lambda name: agents.address)

    @contextlib.asynccontextmanager
    async def gateway(self, **environment: str) -> AsyncIterator[Gateway]:
        @contextlib.asynccontextmanager
        async def runtime_of(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
            yield Runtime(docker=self.docker, agent=AGENT, summary="mock")

        given = {"HOST_DIR_ROOT": str(self.root), "CONTAINER_USER": USER, "SESSION_RUNTIME": "mock", **environment}
        async with start_gateway(self.data, given, runtime_of=runtime_of) as gateway:
            yield gateway

    def used(self, state: Any) -> Mapping[str, str]:
        return self.docker.folders_of(state.container)


@pytest_asyncio.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    root = tmp_path / "workspaces"
    os.mkdir(root, 0o700)
    async with Answering().serving() as agents:
        yield Host(root, tmp_path / "data", agents)


@pytest_asyncio.fixture
async def gateway(host: Host) -> AsyncIterator[Gateway]:
    async with host.gateway() as gateway:
        yield gateway


async def refused(
    gateway: Gateway, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Slug and sentence."""
    answer = await gateway.client.post("/sessions", json=body, headers=headers)
    assert answer.status_code >= 400, answer.text
    return answer.json()["type"].removeprefix("/problems/"), answer.json()["detail"]


async def test_a_session_has_the_folder_as_its_workspace(host: Host, gateway: Gateway) -> None:
    session = await gateway.open(WANTED)
    state = gateway.services.views.sessions[session.session_id]
    folder = host.root / FOLDER
    assert host.used(state) == {"/workspace": str(folder)}
    found = os.stat(folder)
    assert (found.st_uid, found.st_mode & 0o777) == (int(USER.split(":")[0]), 0o700)
    assert [name.rsplit("-")[-1] for name in state.volumes] == ["home"], "the agent's data stays a volume"
    shown = (await gateway.client.get(f"/sessions/{session.session_id}")).json()
    assert shown["host_dir"] == FOLDER
    assert sorted(os.listdir(host.root)) == [file_of(FOLDER), FOLDER], "nothing is left of the proofs"


async def test_a_resumed_session_has_its_folder_again(host: Host, gateway: Gateway) -> None:
    session = await gateway.open(WANTED)
    await gateway.stop(session)
    resumed = await gateway.client.post(f"/sessions/{session.session_id}/resume", headers=WAIT)
    assert resumed.status_code == 201, resumed.text
    assert host.used(gateway.services.views.sessions[session.session_id]) == {"/workspace": str(host.root / FOLDER)}


async def test_the_folder_is_named_nowhere_in_clear(host: Host, gateway: Gateway) -> None:
    """Not in the log, not in the progress; and two folders are told apart without their names."""
    repeated = {"idempotency-key": "once"}
    one = await gateway.open(WANTED, headers=repeated)
    other = await gateway.open({"host_dir": "other", "owner": "ada"})
    raw = b"\n".join(event.payload + event.actor for event in await gateway.log())
    assert FOLDER.encode() not in raw and b"host_dir" in raw
    macs = [gateway.services.views.sessions[each.session_id].host_dir_mac for each in (one, other)]
    assert macs[0] != macs[1] and all(mac and len(mac) == 64 for mac in macs)
    async with gateway.client.stream("GET", f"/sessions/{one.session_id}/progress") as progress:
        async for line in progress.aiter_lines():
            assert FOLDER not in line and "host_dir" not in line
            if "session.ready" in line:
                break


async def test_one_session_at_a_time_and_only_its_owners(gateway: Gateway) -> None:
    session = await gateway.open(WANTED)
    assert await refused(gateway, WANTED) == (
        "host-dir-in-use",
        "This host_dir is the workspace of another session: stop that one first.",
    )
    await gateway.stop(session)
    for body, headers in (
        (WANTED | {"owner": "bob"}, None),
        ({"host_dir": FOLDER}, None),
        (WANTED, await gateway.key(Role.FRONTEND)),
    ):
        assert (await refused(gateway, body, headers))[0] == "host-dir-not-yours"
    assert [each.reason for each in await gateway.payloads("access.denied")] == ["host_dir_not_yours"] * 3
    await gateway.open(WANTED)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "/etc", ".ssh", "a" * 65, "a\n", 7])
async def test_a_name_is_one_component(host: Host, gateway: Gateway, name: Any) -> None:
    assert (await refused(gateway, {"host_dir": name}))[0] in ("invalid-body", "host-dir-refused")
    assert os.listdir(host.root) == []


async def test_without_a_root_nothing_is_offered(host: Host) -> None:
    async with host.gateway(HOST_DIR_ROOT="") as gateway:
        slug, said = await refused(gateway, WANTED)
        assert slug == "host-dir-refused" and "HOST_DIR_ROOT is not set" in said
        assert "create" not in [call for call, _ in host.docker.calls]
        await gateway.open({"owner": "ada"})


async def test_where_the_root_is_stays_among_operators(host: Host, gateway: Gateway) -> None:
    """One that will not do is named in the note at the start and in the log line, never to whoever asks."""
    os.chmod(host.root, 0o777)
    slug, said = await refused(gateway, WANTED)
    assert slug == "host-dir-refused" and "/" not in said
    (note,) = await gateway.services.folders.notes()
    assert str(host.root) in note


async def test_a_daemon_that_sees_other_files_is_found_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, for the operator, and at each asking: its address may lead to another machine by now."""
    monkeypatch.setattr("gateway.sessions.folders.PROOF_SECONDS", 0.0)
    async with host.gateway() as gateway:
        assert await gateway.services.folders.notes() == ()
        host.docker.sees_host = False
        slug, said = await refused(gateway, WANTED)
        assert slug == "host-dir-refused" and "does not see the folder" in said
        (note,) = await gateway.services.folders.notes()
        assert note.startswith("NO SESSION WILL HAVE A host_dir:")
        host.docker.sees_host = True
        session = await gateway.open(WANTED)
    left = await host.docker.list_containers(all=True)
    assert [info.labels[SESSION] for info in left] == [session.session_id], "no probe is left"


async def test_what_is_refused_costs_the_daemon_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """No seat, another's folder: decided from what the log says, before a container is made to look."""
    monkeypatch.setattr("gateway.sessions.folders.PROOF_SECONDS", 0.0)
    async with host.gateway(MAX_CONCURRENT_SESSIONS="1") as gateway:
        session = await gateway.open(WANTED)
        before = len(host.docker.calls)
        assert (await refused(gateway, {"host_dir": "other"}))[0] == "too-many-sessions"
        assert (await refused(gateway, WANTED | {"owner": "eve"}))[0] == "host-dir-not-yours"
        answer = await gateway.client.post(f"/sessions/{session.session_id}/resume")
        assert answer.json()["type"] == "/problems/illegal-move"
        assert "create" not in [call for call, _ in host.docker.calls[before:]]


async def test_another_log_gives_nobody_what_lies_there(host: Host, tmp_path: Path) -> None:
    """Lost, restored, or a second one over the same root: it knows nothing of ada, and her folder says whose it is."""
    async with host.gateway() as gateway:
        session = await gateway.open(WANTED)
        (host.root / FOLDER / "diary").write_text("ada's")
        await gateway.stop(session)
    host.data = tmp_path / "other"
    async with host.gateway() as gateway:
        slug, said = await refused(gateway, WANTED | {"owner": "eve"})
        assert slug == "host-dir-refused" and "somebody else's" in said and FOLDER not in said
        (host.root / file_of(FOLDER)).write_bytes(b"")
        await gateway.open(WANTED)


async def test_local_processes_have_no_folders(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "root")
    async with start_gateway(tmp_path / "data", {"HOST_DIR_ROOT": str(tmp_path / "root")}) as gateway:
        slug, said = await refused(gateway, WANTED)
        assert (slug, said) == ("host-dir-refused", "Sessions that run as local have no folder of the host.")


async def test_what_lies_there_is_refused_at_once_with_what_to_do(host: Host, gateway: Gateway) -> None:
    os.symlink("/etc", host.root / FOLDER)
    slug, said = await refused(gateway, WANTED)
    assert slug == "host-dir-refused" and "symbolic link" in said and FOLDER not in said
    assert await gateway.log("session.requested") == [], "no seat, no session"


async def test_what_is_put_there_before_the_boot_fails_it(
    host: Host, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is told without the folder's name, which stays sealed."""
    session = await gateway.open(WANTED)
    await gateway.stop(session)
    views, session_id = gateway.services.views, session.session_id
    os.rename(host.root / FOLDER, host.root / "aside")
    real = gateway.services.folders.check

    async def looked(name: str, session: Any) -> None:
        await real(name, session)
        os.symlink("/etc", host.root / FOLDER)

    monkeypatch.setattr(gateway.services.folders, "check", looked)
    await gateway.client.post(f"/sessions/{session_id}/resume")
    assert await views.wait_for(lambda: views.sessions[session_id].phase is Phase.FAILED, 10)
    state = views.sessions[session_id]
    assert state.reason == "host_dir_refused" and "symbolic link" in (state.detail or "")


async def test_what_the_daemon_says_of_the_folder_is_told_to_the_operator_without_its_name(
    host: Host, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """``detail`` stands in the event log in clear and for ever; not even the line of the log has the name."""
    host.docker.fail_next("start", DaemonFailed(f'cannot mount "{host.root / FOLDER}": no space'))
    answer = await gateway.client.post("/sessions", json=WANTED, headers=WAIT)
    assert answer.json()["reason"] == "daemon_failed"
    assert "mount" not in answer.json()["detail"] and FOLDER not in caplog.text
    assert 'session failed: cannot mount "the folder": no space' in caplog.text


async def test_a_folder_that_was_replaced_during_the_boot_serves_nobody(
    host: Host, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon went by the path; what lay there before and after the start must be one folder."""
    start = host.docker.start_container

    async def replacing(container_id: str) -> None:
        os.rename(host.root / FOLDER, host.root / "aside")
        os.mkdir(host.root / FOLDER, 0o700)
        await start(container_id)

    monkeypatch.setattr(host.docker, "start_container", replacing)
    answer = await gateway.client.post("/sessions", json=WANTED, headers=WAIT)
    assert answer.json()["reason"] == "host_dir_refused" and "replaced" in answer.json()["detail"]
    await eventually(lambda: not gateway.services.runner.busy(answer.json()["session_id"]))
    assert await host.docker.list_containers(all=True) == []


async def test_an_erased_owner_takes_the_folder_along(host: Host, gateway: Gateway) -> None:
    """Its name is gone, so the session is not resumed; the folder stays, and nobody else is ever given it."""
    session = await gateway.open(WANTED)
    await gateway.stop(session)
    (host.root / FOLDER / "note").write_text("kept")
    keys = await gateway.services.keyring.erase("ada")
    who = Who(kind=ActorKind.OPERATOR, id="test")
    await gateway.services.recorder.fact(SYSTEM, SubjectErased(key_ids=keys, reason="asked"), who=who)
    answer = await gateway.client.post(f"/sessions/{session.session_id}/resume")
    assert answer.status_code in (409, 422), answer.text
    views = gateway.services.views
    assert await views.wait_for(lambda: not views.sessions[session.session_id].volumes, 10)
    answer = await gateway.client.post(f"/sessions/{session.session_id}/resume")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/illegal-move")
    assert os.listdir(host.root / FOLDER) == ["note"]
    for owner in ("bob", "ada"):
        assert (await refused(gateway, WANTED | {"owner": owner}))[0] == "host-dir-not-yours"


def test_the_body_says_what_a_name_is() -> None:
    schema = msgspec.json.schema(CreateSession)["$defs"]["CreateSession"]["properties"]["host_dir"]
    assert "[A-Za-z0-9][A-Za-z0-9._-]{0,63}" in str(schema)
