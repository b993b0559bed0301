"""Every file that is made is handed out, a key to one kind of machine alone, and whose trust comes first goes first."""

import pytest

from docker import cert_handout
from docker.cert_handout import Delivery
from docker.certs import FILES

CLIENT = ("client-cert.pem", "client-key.pem")
STEPS = {
    "a new set": cert_handout.of_a_new_set(CLIENT),
    "a client": cert_handout.of_a_new_leaf("client", CLIENT),
    "a server": cert_handout.of_a_new_leaf("server", cert_handout.DAEMON),
    "a second authority": cert_handout.of_a_second_authority(),
    "one authority again": cert_handout.of_one_authority_again(CLIENT),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
def test_a_key_goes_to_one_kind_of_machine(steps: tuple[Delivery, ...]) -> None:
    allowed = {"ca-key.pem": "offline", "server-key.pem": "daemon", "client-key.pem": "gateway"}
    found = {(name, step.machine) for step in steps for name in step.files if name.endswith("key.pem")}
    assert found <= set(allowed.items())


def test_of_a_new_set_every_file_goes_somewhere() -> None:
    assert {name for step in STEPS["a new set"] for name in step.files} == set(FILES)


@pytest.mark.parametrize("steps", ["a second authority", "one authority again"])
def test_gateways_trust_first(steps: str) -> None:
    """The daemon shows another certificate, or refuses the former one, from its restart on."""
    assert [step.machine for step in STEPS[steps]][:2] == ["gateway", "daemon"]


def test_the_daemon_is_restarted_and_the_gateway_is_not() -> None:
    """dockerd reads its files when it starts; the gateway follows them."""
    for name, steps in STEPS.items():
        for step in steps:
            assert ("estart dockerd" in step.then or "restart it" in step.then) == (step.machine == "daemon"), name


def test_keys_are_for_their_owner() -> None:
    assert {name: cert_handout.mode_of(name) for name in ("ca-key.pem", "key.pem", "ca.pem", "cert.pem")} == {
        "ca-key.pem": 0o400,
        "key.pem": 0o400,
        "ca.pem": 0o444,
        "cert.pem": 0o444,
    }
