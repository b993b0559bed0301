"""Which certificate file goes to which machine, in which order, and what is to be restarted there."""

from typing import Final

import msgspec

from docker.cert_placing import mode_of as mode_of

DAEMON: Final = ("server-cert.pem", "server-key.pem")
_RESTART: Final = "Restart dockerd (with live-restore in daemon.json the sessions go on)."
_TAKEN_UP: Final = "Restart nothing: it is taken up within seconds."
_OFFLINE: Final = "Keep it on neither machine: whoever holds it can make daemons and clients."


class Delivery(msgspec.Struct, frozen=True):
    """One step of handing out; the steps are taken in order."""

    machine: str  # daemon, gateway, offline
    files: tuple[str, ...]
    then: str


def of_a_new_set(client: tuple[str, ...]) -> tuple[Delivery, ...]:
    return (
        Delivery("daemon", ("ca.pem", *DAEMON), "Start dockerd with them, or restart it."),
        Delivery("gateway", ("ca.pem", *client), "Start the gateway; one that runs takes them up within seconds."),
        Delivery("offline", ("ca-key.pem",), _OFFLINE),
    )


def of_a_new_leaf(role: str, names: tuple[str, ...]) -> tuple[Delivery, ...]:
    if role == "client":
        return (Delivery("gateway", names, _TAKEN_UP + " Do so on every gateway that uses the former."),)
    return (Delivery("daemon", names, _RESTART),)


def of_a_second_authority() -> tuple[Delivery, ...]:
    """The gateways first: each must trust what the daemon shows after its restart."""
    return (
        Delivery("gateway", ("ca.pem",), _TAKEN_UP + " Do so on every gateway before the next step."),
        Delivery("daemon", ("ca.pem", *DAEMON), _RESTART + " Then finish the rotation (--finish)."),
        Delivery("offline", ("ca-key.pem",), "It replaces the former key, which nobody needs any more: destroy that."),
    )


def of_one_authority_again(client: tuple[str, ...]) -> tuple[Delivery, ...]:
    """The gateways first: the daemon still accepts both until its restart, and from then on only the new one."""
    return (
        Delivery("gateway", ("ca.pem", *client), _TAKEN_UP + " Do so on every gateway before the next step."),
        Delivery("daemon", ("ca.pem",), _RESTART + " From then on it refuses whatever the former CA signed."),
    )
