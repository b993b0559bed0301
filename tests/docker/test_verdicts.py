"""One word, one exit code and one thing to do for each error of the daemon."""

import inspect

from docker import errors
from docker.errors import BadDockerSettings, DockerError, PortClosed
from docker.verdicts import USABLE, VERDICTS, WITHOUT_A_NAME, verdict_of

# What a call about a container or an image may end with, of a daemon that can be used.
_OF_A_CALL = {"ImageMissing", "NameTaken", "ContainerGone", "ContainerRunning", "ImageUnbuildable"}


def test_words_and_exit_codes_are_their_own() -> None:
    told = [USABLE, WITHOUT_A_NAME, *VERDICTS.values()]
    assert len({verdict.word for verdict in told}) == len(told)
    assert len({verdict.exit_code for verdict in told}) == len(told)
    assert all(verdict.todo.endswith(".") for verdict in VERDICTS.values())


def test_every_error_of_the_connection_has_a_verdict() -> None:
    ours = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DockerError)]
    way = (errors.DaemonDown, errors.DaemonRefusedUs, errors.DaemonUntrusted, errors.DaemonPlainText)
    bases = (*way, errors.DaemonFailed, errors.BadCertificateFiles, BadDockerSettings)
    assert {kind for kind in ours if kind in bases or kind.__bases__[0] in way} <= set(VERDICTS)
    assert not {kind.__name__ for kind in VERDICTS} & _OF_A_CALL


def test_the_nearest_class_decides() -> None:
    class Odd(PortClosed):
        pass

    assert verdict_of(Odd("x")).word == "port-closed"
    assert verdict_of(DockerError("x")) is WITHOUT_A_NAME
