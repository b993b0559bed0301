"""Runs services of ``compose.yml`` on a daemon through the Engine API, as Compose would, for a machine without Compose.

Every key of a service is translated or refused, so that nothing in the file is passed over.
"""

import http.client
import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from docker.settings import daemon_url, parse_size
from docker.tls import ssl_context
from tests.docker.compose_file import FILE
from tests.docker_fixtures import DockerDaemon

Body = dict[str, Any]
_SECONDS: Final = {"s": 1, "m": 60}


class Engine:
    """A daemon's API, and what was made on it, removed by ``remove``."""

    def __init__(self, daemon: DockerDaemon, project: str) -> None:
        self.daemon = daemon
        self.project = project
        self._made: list[tuple[str, str]] = []

    def call(self, method: str, path: str, body: Body | None = None, *, expect: tuple[int, ...] = (200,)) -> Any:
        """The answer's JSON, or its bytes."""
        settings = self.daemon.settings
        where = daemon_url(settings).removeprefix("https://")
        with closing(http.client.HTTPSConnection(where, context=ssl_context(settings), timeout=100)) as connection:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        assert answer.status in expect, (method, path, answer.status, said)
        return json.loads(said) if "json" in answer.headers.get("Content-Type", "") and said else said

    def network(self, name: str, wanted: Body) -> None:
        known(wanted, {"driver", "driver_opts", "ipam", "internal"})
        config = [
            {key.title(): value for key, value in each.items()} for each in wanted.get("ipam", {}).get("config", [])
        ]
        body: Body = {"Name": self.named(name), "Driver": wanted["driver"], "Options": wanted.get("driver_opts", {})}
        body |= {"Internal": wanted.get("internal", False)} | ({"IPAM": {"Config": config}} if config else {})
        self.call("POST", "/networks/create", body, expect=(201,))
        self._made.append(("networks", self.named(name)))

    def service(self, name: str, wanted: Body, env_file: Mapping[str, str] = {}) -> str:
        """Create and start one; its container's name."""
        body = container(wanted, self.named, env_file)
        first, *others = wanted["networks"]
        body["HostConfig"]["NetworkMode"] = self.named(first)
        body["NetworkingConfig"] = {"EndpointsConfig": {self.named(first): {"Aliases": [name]}}}
        self.call("POST", f"/containers/create?name={self.named(name)}", body, expect=(201,))
        self._made.append(("containers", self.named(name)))
        self._made += [
            ("volumes", self.named(mount["source"])) for mount in wanted.get("volumes", ()) if mount["type"] == "volume"
        ]
        for other in others:
            attached = {"Container": self.named(name), "EndpointConfig": {"Aliases": [name]}}
            self.call("POST", f"/networks/{self.named(other)}/connect", attached)
        self.call("POST", f"/containers/{self.named(name)}/start", expect=(204,))
        return self.named(name)

    def named(self, name: str) -> str:
        return f"{self.project}_{name}"

    def inspect(self, container_name: str) -> Body:
        found: Body = self.call("GET", f"/containers/{container_name}/json")
        return found

    def healthy(self, container_name: str, seconds: float = 60) -> None:
        """Wait until the daemon calls it healthy."""
        deadline = time.monotonic() + seconds
        while (state := (found := self.inspect(container_name))["State"])["Health"]["Status"] != "healthy":
            assert state["Running"] and not found["RestartCount"] and time.monotonic() < deadline, (
                state,
                self.logs(container_name),
            )
            time.sleep(0.1)

    def ended(self, container_name: str) -> int:
        """Wait for its end; the exit code."""
        return int(self.call("POST", f"/containers/{container_name}/wait")["StatusCode"])

    def logs(self, container_name: str) -> str:
        said: bytes = self.call("GET", f"/containers/{container_name}/logs?stdout=1&stderr=1&tail=60")
        return re.sub(rb"[\x00-\x02]\x00{3}.{4}", b"", said, flags=re.DOTALL).decode(errors="replace")

    def file(self, container_name: str, path: str) -> str:
        """A file's text in a container."""
        packed = self.call("GET", f"/containers/{container_name}/archive?path={path}")
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            member = archive.extractfile(archive.getmembers()[0])
            assert member is not None
            return member.read().decode()

    def run(self, container_name: str, *command: str) -> tuple[int, str]:
        """A command in a container: its exit code and what it said."""
        asked = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, "Tty": True}
        made = self.call("POST", f"/containers/{container_name}/exec", asked, expect=(201,))["Id"]
        said = self.call("POST", f"/exec/{made}/start", {"Detach": False, "Tty": True})
        return self.call("GET", f"/exec/{made}/json")["ExitCode"], bytes(said).decode(errors="replace")

    def remove(self) -> None:
        """What was made, newest first."""
        for kind, name in sorted(self._made, key=lambda each: ["containers", "volumes", "networks"].index(each[0])):
            more = "?force=1&v=1" if kind == "containers" else ""
            self.call("DELETE", f"/{kind}/{name}{more}", expect=(200, 204, 404))


def container(wanted: Body, named: Callable[[str], str], env_file: Mapping[str, str] = {}) -> Body:
    """The create body of one service."""
    known(wanted, {*_PLAIN, *_HOST, "environment", "env_file", "volumes", "ports", "tmpfs", "networks", "depends_on"})
    host: Body = {_HOST[key][0]: _HOST[key][1](value) for key, value in wanted.items() if key in _HOST}
    host["Mounts"] = [_mount(mount, named) for mount in wanted.get("volumes", ())]
    host["Tmpfs"] = dict(each.split(":", 1) for each in wanted.get("tmpfs", ()))
    ports = [each.rsplit(":", 2) for each in wanted.get("ports", ())]
    host["PortBindings"] = {f"{inside}/tcp": [{"HostIp": ip, "HostPort": outside}] for ip, outside, inside in ports}
    environment = {**env_file, **wanted.get("environment", {})}
    body: Body = {_PLAIN[key][0]: _PLAIN[key][1](value) for key, value in wanted.items() if key in _PLAIN}
    body["Env"] = [f"{key}={value}" for key, value in environment.items()]
    body["ExposedPorts"] = {port: {} for port in host["PortBindings"]}
    return body | {"HostConfig": host}


def known(wanted: Body, keys: set[str]) -> None:
    assert set(wanted) <= keys, f"not translated: {set(wanted) - keys}"


def seconds(text: str) -> int:
    return int(text[:-1]) * _SECONDS[text[-1]]


def _mount(wanted: Body, named: Callable[[str], str]) -> Body:
    known(wanted, {"type", "source", "target", "read_only"})
    source = wanted["source"]
    where = named(source) if wanted["type"] == "volume" else str((FILE.parent / Path(source)).resolve())
    read_only = wanted.get("read_only", False)
    return {"Type": wanted["type"], "Source": where, "Target": wanted["target"], "ReadOnly": read_only}


def _healthcheck(wanted: Body) -> Body:
    known(wanted, {"test", "interval", "timeout", "retries", "start_period"})
    times = {key: seconds(wanted[key]) * 10**9 for key in ("interval", "timeout", "start_period")}
    # A second's interval: the test waits for the first success.
    return {
        "Test": wanted["test"],
        "Interval": 10**9,
        "Timeout": times["timeout"],
        "StartPeriod": times["start_period"],
        "Retries": wanted["retries"],
    }


_PLAIN: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "image": ("Image", str),
    "user": ("User", str),
    "command": ("Cmd", list),
    "healthcheck": ("Healthcheck", _healthcheck),
    "stop_grace_period": ("StopTimeout", seconds),
    "stop_signal": ("StopSignal", str),
}
_HOST: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "init": ("Init", bool),
    "read_only": ("ReadonlyRootfs", bool),
    "cap_drop": ("CapDrop", list),
    "security_opt": ("SecurityOpt", list),
    "pids_limit": ("PidsLimit", int),
    "mem_limit": ("Memory", parse_size),
    "shm_size": ("ShmSize", parse_size),
    "extra_hosts": ("ExtraHosts", list),
    "restart": ("RestartPolicy", lambda name: {"Name": name}),
    "logging": ("LogConfig", lambda wanted: {"Type": wanted["driver"], "Config": wanted["options"]}),
}
