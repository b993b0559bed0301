"""What can go wrong between us and the container runtime; the class name says whose fault it is.

Foreign exceptions are mapped in ``docker/aiodocker_service.py`` and chained. HTTP statuses are chosen in
``gateway/errors.py``, never here.
"""


class DockerError(Exception):
    """Base of this room. The message is one sentence that a person can act on."""


class DaemonDown(DockerError):
    """Nothing answers at the daemon's address: refused, timed out, or cut in mid-call."""


class PortClosed(DaemonDown):
    """The machine is there, and nothing listens on the port."""


class DaemonSilent(DaemonDown):
    """Nothing came back in time: packets are dropped on the way, or what accepted the connection says nothing."""


class HostUnknown(DaemonDown):
    """The name in DOCKER_HOST has no address."""


class DaemonRefusedUs(DockerError):
    """The daemon ended the TLS handshake: our certificate is missing, of another CA, expired, or of the wrong usage."""


class CertificateNotSent(DaemonRefusedUs):
    """The daemon wants a certificate of ours and got none."""


class AuthorityUnknownToDaemon(DaemonRefusedUs):
    """Our certificate is not of the CA that the daemon was given."""


class CertificateNotForClients(DaemonRefusedUs):
    """Our certificate is a daemon's, or made for something else."""


class CertificateExpired(DaemonRefusedUs):
    """Our certificate, or the CA that signed it, has ended."""


class CertificateNotYetValid(DaemonRefusedUs):
    """Our certificate begins later, or this machine's clock is behind."""


class DaemonUntrusted(DockerError):
    """We ended the TLS handshake: the daemon's certificate is not signed by our CA, expired, or names another host."""


class DaemonOfAnotherAuthority(DaemonUntrusted):
    """The daemon's certificate is not of our CA."""


class DaemonOfAnotherName(DaemonUntrusted):
    """The daemon's certificate does not name the host by which we call it."""


class DaemonExpired(DaemonUntrusted):
    """The daemon's certificate, or its CA's, has ended."""


class DaemonNotYetValid(DaemonUntrusted):
    """The daemon's certificate begins later, or this machine's clock is behind."""


class DaemonNotForServers(DaemonUntrusted):
    """The daemon shows a client's certificate."""


class DaemonTlsTooOld(DaemonUntrusted):
    """The daemon speaks no TLS 1.3, and we nothing older."""


class DaemonPlainText(DockerError):
    """One side speaks plain HTTP where the other speaks TLS."""


class DaemonFailed(DockerError):
    """The daemon answered with an error that is its own (5xx) or that we did not expect."""


class VolumeInUse(DaemonFailed):
    """A container, running or not, has the volume: it is not removed before it."""


class NoDaemon(DaemonFailed):
    """What answers there over TLS is not a Docker daemon."""


class BadCertificateFiles(DockerError):
    """Our own files cannot be used: absent, unreadable, or key and certificate do not belong together."""


class CertificateFilesMissing(BadCertificateFiles):
    """One of our files is not there."""


class CertificateFilesUnreadable(BadCertificateFiles):
    """One of our files is there, and this user may not read it."""


class LimitsNotApplied(DockerError):
    """The daemon made something else than was asked: a limit or a hardening measure is missing. The message says which.

    What it made is removed: no session starts in it.
    """


class ImageMissing(DockerError):
    """The image is not on the daemon's machine; nothing is ever pulled for a session."""


class HostDirRefused(DockerError):
    """A folder of the host cannot be a session's: not here, not seen by the runtime, or not safe. It is not named."""


class HostDirRootUnfit(HostDirRefused):
    """HOST_DIR_ROOT itself will not do, for any session. The message names it and is for operators alone."""


class NameTaken(DockerError):
    """A container of that name exists and is not the one that was asked for."""


class ContainerGone(DockerError):
    """There is no such container."""


class ContainerRunning(DockerError):
    """A running container is removed only by force."""


class BadDockerSettings(DockerError):
    """A setting of this room cannot be used; the message names it."""


class ImageUnbuildable(DockerError):
    """An image cannot be built on this machine; the message names what is missing."""


class HostAddressUnknown(DockerError):
    """Where published ports are reached could not be found out: the daemon's machine has no address known here."""


class ServiceClosed(DockerError):
    """A blocking service was used after it was closed, or closed while the call was under way."""


class LoopWouldBlock(DockerError):
    """A blocking service was called in a thread that runs an event loop."""
