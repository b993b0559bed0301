"""The report shows every method in order, the winner, and ends with a code that a script can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docker.host_ip import Method
from docker.host_report import main
from tests.docker.host_world import BRIDGE_ROUTE, DAEMON, World

ENVIRONMENT = {"DOCKER_HOST": "tcp://10.9.9.9:2376"}
EVERYWHERE = {**ENVIRONMENT, "PUBLISH_ADDRESS": "0.0.0.0", "ALLOW_PUBLIC_PUBLISH": "true"}
SCRIPT = Path(__file__).resolve().parents[2] / "docker/scripts/test-host-ip-detection.py"


def test_every_method_is_told_in_order_and_the_winner_marked(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(files={"/proc/net/route": BRIDGE_ROUTE}, daemons=dict.fromkeys(["10.9.9.9", "172.250.0.1"], DAEMON))
    assert main([], EVERYWHERE, world.edges) == 0
    first, *methods, last = capsys.readouterr().out.splitlines()
    assert first == "This process runs in a container."
    assert [line[2:24].strip() for line in methods] == [method.value for method in Method]
    assert [line for line in methods if line.startswith("*")] == [
        "* default route         172.250.0.1  <- the daemon: 172.250.0.1"
    ]
    assert last == "Published ports are reached at 172.250.0.1 (default route, the daemon answers there)."


def test_a_program_gets_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(files={"/proc/net/route": BRIDGE_ROUTE})
    assert main(["--json"], {**EVERYWHERE, "GATEWAY": "no/address"}, world.edges) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["found"] == {"address": "172.250.0.1", "method": "default route", "confirmed": False}
    assert [answer["method"] for answer in told["answers"]] == [method.value for method in Method]
    assert told["answers"][4]["why"] == "GATEWAY=no/address is no address"


def test_without_an_answer_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], ENVIRONMENT, World(own="").edges) == 1
    assert "Could not detect Docker host IP" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(("given", "word"), [({}, "PUBLISH_ADDRESS"), ({"HOST_IP": "foo"}, "HOST_IP=foo")])
def test_an_address_where_sessions_are_out_of_reach_has_a_code_of_its_own(
    given: dict[str, str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(container=False, daemons={"10.9.9.9": DAEMON})
    assert main([], {**ENVIRONMENT, **given}, world.edges) == 3
    assert word in capsys.readouterr().out.splitlines()[-1]
    assert main([], {**ENVIRONMENT, "PUBLISH_ADDRESS": "172.20.0.1"}, world.edges) == 0


def test_settings_that_cannot_serve_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"DOCKER_HOST": "http://box"}, World().edges) == 2
    assert main([], {}, World().edges) == 2
    assert capsys.readouterr().err.count("DOCKER_HOST") == 2


def test_the_script_is_a_door_to_it(tmp_path: Path) -> None:
    """From any folder, by any Python that has the product."""
    environment = {**ENVIRONMENT, "HOST_IP": "10.7.7.7", "PATH": os.environ["PATH"], "VIRTUAL_ENV": "set"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, json.loads(done.stdout)["found"]["method"]) == (0, "HOST_IP"), done.stderr
